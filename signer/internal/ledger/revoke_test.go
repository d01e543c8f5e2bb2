package ledger_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

const (
	unspecified = signerv1.RevocationReason_REVOCATION_REASON_UNSPECIFIED
	compromise  = signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE
	superseded  = signerv1.RevocationReason_REVOCATION_REASON_SUPERSEDED
	hold        = signerv1.RevocationReason_REVOCATION_REASON_CERTIFICATE_HOLD
	release     = signerv1.RevocationReason_REVOCATION_REASON_REMOVE_FROM_CRL
)

// issued makes a certificate and returns its serial number.
func (l *lab) issued() string {
	l.t.Helper()
	a := l.ask()
	a.limit = 100
	in := l.intent(a)
	r, err := l.ledger.Begin(l.t.Context(), in)
	if err == nil {
		_, err = l.ledger.Issued(l.t.Context(), r.Reservation, certificate(in))
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return in.Serial
}

func (l *lab) revoke(serial string, reason signerv1.RevocationReason) (*signerv1.Entry, error) {
	entry, _, err := l.ledger.Revoke(l.t.Context(), ledger.Revocation{Serial: serial, Reason: reason, By: "ada", Peer: "admin"})
	return entry, err
}

// TestRevoke: what follows what, and what the list says then.
func TestRevoke(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		for name, steps := range map[string][]struct {
			reason signerv1.RevocationReason
			want   error
			listed bool
		}{
			"for good":           {{compromise, nil, true}, {compromise, nil, true}, {superseded, fault.Conflict, true}, {release, fault.Conflict, true}},
			"without a reason":   {{unspecified, nil, true}, {unspecified, nil, true}, {compromise, fault.Conflict, true}},
			"held and released":  {{release, fault.Conflict, false}, {hold, nil, true}, {hold, nil, true}, {release, nil, false}, {release, fault.Conflict, false}, {hold, nil, true}},
			"held, then revoked": {{hold, nil, true}, {superseded, nil, true}, {release, fault.Conflict, true}, {hold, fault.Conflict, true}},
		} {
			serial := l.issued()
			var since time.Time
			for i, step := range steps {
				l.pass(time.Second)
				before, _ := l.ledger.Revocations(t.Context())
				entry, err := l.revoke(serial, step.reason)
				after, failed := l.ledger.Revocations(t.Context())
				if !errors.Is(err, step.want) || failed != nil {
					t.Fatalf("%s, step %d: %v, %v", name, i, err, failed)
				}
				at := slices.IndexFunc(l.revoked(), func(r ledger.Revoked) bool { return r.Serial == serial })
				if (at >= 0) != step.listed {
					t.Errorf("%s, step %d: in the list: %v", name, i, at >= 0)
				}
				if err != nil && after != before {
					t.Errorf("%s, step %d: refused, and counted", name, i)
				}
				if err == nil && (entry.GetRevokedAt() != nil) != step.listed {
					t.Errorf("%s, step %d: %v", name, i, entry)
				}
				if i == 0 && err == nil {
					since = entry.GetRevokedAt().AsTime()
				}
				if name != "held and released" && at >= 0 && !l.revoked()[at].At.Equal(since) {
					t.Errorf("%s, step %d: revoked since %v, not %v", name, i, l.revoked()[at].At, since)
				}
			}
		}
		if told := l.told(); strings.Count(told, "certificate.revoked") != 3 || strings.Count(told, "certificate.held") != 3 ||
			strings.Count(told, "certificate.released") != 1 || !strings.Contains(told, `"by":"ada"`) {
			t.Errorf("on record: %s", told)
		}
	})
}

func (l *lab) revoked() []ledger.Revoked {
	l.t.Helper()
	_, all, err := l.ledger.BeginCRL(l.t.Context(), everything, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

// TestRevokeRefuses: what there is not, what is not signed yet, what somebody changed.
func TestRevokeRefuses(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		if _, err := l.revoke(strings.Repeat("0", 40), compromise); !errors.Is(err, fault.NotFound) {
			t.Errorf("no such certificate: %v", err)
		}
		a := l.ask()
		a.limit = 100
		open := l.intent(a)
		begun, err := l.ledger.Begin(t.Context(), open)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.revoke(open.Serial, compromise); !errors.Is(err, fault.Conflict) {
			t.Errorf("one that is being issued: %v", err)
		}
		if err := l.ledger.Failed(t.Context(), begun.Reservation, errors.New("no key")); err != nil {
			t.Fatal(err)
		}
		if _, err := l.revoke(open.Serial, compromise); !errors.Is(err, fault.Conflict) {
			t.Errorf("one that was never signed: %v", err)
		}
		serial := l.issued()
		l.exec("UPDATE entry SET subject = 'CN=admin' WHERE serial = $1", serial)
		if _, err := l.revoke(serial, compromise); !errors.Is(err, fault.Internal) {
			t.Errorf("one that somebody changed: %v", err)
		}
	})
}

// TestRevokeAtOnce: of many who revoke one certificate for different reasons, one is right.
func TestRevokeAtOnce(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		serial := l.issued()
		var wg sync.WaitGroup
		var mu sync.Mutex
		good := map[signerv1.RevocationReason]int{} // guarded by mu
		for i := range 24 {
			wg.Go(func() {
				reason := []signerv1.RevocationReason{unspecified, compromise, superseded}[i%3]
				_, _, err := l.ledger.Revoke(context.WithoutCancel(t.Context()), ledger.Revocation{Serial: serial, Reason: reason, By: "ada"})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					good[reason]++
				} else if !errors.Is(err, fault.Conflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(good) != 1 {
			t.Errorf("revoked for %v", good)
		}
	})
}

// TestListFilter: by what has become of a certificate, whose it is, and its end.
func TestListFilter(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		first, second := l.issued(), l.issued()
		if _, err := l.revoke(second, hold); err != nil {
			t.Fatal(err)
		}
		all, _, err := l.ledger.List(t.Context(), 0, 10, ledger.Filter{})
		if err != nil || len(all) != 2 {
			t.Fatalf("%d entries, %v", len(all), err)
		}
		subject, principal, end := all[0].GetSubject(), all[0].GetPrincipal(), all[0].GetNotAfter().AsTime()
		for name, c := range map[string]struct {
			filter ledger.Filter
			want   []string
		}{
			"valid":             {ledger.Filter{Status: signerv1.CertificateStatus_CERTIFICATE_STATUS_VALID}, []string{first}},
			"revoked":           {ledger.Filter{Status: signerv1.CertificateStatus_CERTIFICATE_STATUS_REVOKED}, []string{second}},
			"expired":           {ledger.Filter{Status: signerv1.CertificateStatus_CERTIFICATE_STATUS_EXPIRED}, nil},
			"subject":           {ledger.Filter{Subject: strings.ToUpper(subject[3:])}, l.serialsOf(all, func(e *signerv1.Entry) bool { return strings.Contains(e.GetSubject(), subject[3:]) })},
			"no pattern":        {ledger.Filter{Subject: "%"}, nil},
			"no pattern either": {ledger.Filter{Subject: "_"}, nil},
			"a quote":           {ledger.Filter{Subject: "' OR 1=1 --"}, nil},
			"principal":         {ledger.Filter{Principal: principal}, l.serialsOf(all, func(e *signerv1.Entry) bool { return e.GetPrincipal() == principal })},
			"other principal":   {ledger.Filter{Principal: strings.ToUpper(principal)}, nil},
			"soon":              {ledger.Filter{ExpiresBefore: end}, nil},
			"later":             {ledger.Filter{ExpiresBefore: end.Add(time.Hour)}, []string{first, second}},
			"all of them": {ledger.Filter{
				Status: signerv1.CertificateStatus_CERTIFICATE_STATUS_VALID, Subject: subject, Principal: principal, ExpiresBefore: end.Add(time.Hour),
			}, []string{first}},
		} {
			got, _, err := l.ledger.List(t.Context(), 0, 10, c.filter)
			if serials := l.serialsOf(got, func(*signerv1.Entry) bool { return true }); err != nil || !slices.Equal(serials, c.want) {
				t.Errorf("%s: %v, %v, not %v", name, serials, err, c.want)
			}
		}
	})
}

func (l *lab) serialsOf(entries []*signerv1.Entry, pick func(*signerv1.Entry) bool) (serials []string) {
	for _, e := range entries {
		if pick(e) {
			serials = append(serials, e.GetSerial())
		}
	}
	return serials
}
