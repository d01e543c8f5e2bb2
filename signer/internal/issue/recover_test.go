package issue_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/issue"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// The states of an entry.
const (
	intent = 1
	issued = 2
	failed = 3
)

// dies has the signer die as it uses the key: nothing after that happens.
func (l *lab) dies(r *signerv1.IssueRequest) {
	l.t.Helper()
	l.key.sign = func(context.Context, []byte) ([]byte, error) {
		runtime.Goexit()
		return nil, nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := l.issue(l.t.Context(), gateway, r)
		l.t.Errorf("survived with %v", err)
	}()
	<-done
	l.key.sign = nil
	if l.entries(intent) != 1 {
		l.t.Fatal("no intent was left open")
	}
}

// restart puts a new process of that name on the same ledger.
func (l *lab) restart(instance string) {
	l.t.Helper()
	clock, log := func() time.Time { return l.now }, slog.New(slog.DiscardHandler)
	var err error
	l.ledger, err = ledger.New(l.t.Context(), ledger.Config{
		Store: l.db, MACKey: secret.New(make([]byte, ledger.MACKeySize)), Audit: l.audit, Log: log, Instance: instance, Now: clock,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.issuer, err = issue.New(issue.Config{
		Authority: l.ca, Profiles: profiles(l.t, l.ca.Certificate), Opener: l.opener, Ledger: l.ledger, Log: log,
		Metrics: metrics.NewSet(), Now: clock,
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) recover(own bool) {
	l.t.Helper()
	if err := l.issuer.Recover(l.t.Context(), own); err != nil {
		l.t.Error(err)
	}
}

// again asks for the same with the same key: the request and the assertion are new.
func (l *lab) again(r *signerv1.IssueRequest, k *ecdsa.PrivateKey) (issue.Certificate, error) {
	l.t.Helper()
	old := &assertionv1.Assertion{}
	if err := proto.Unmarshal(r.GetAssertion().GetPayload(), old); err != nil {
		l.t.Fatal(err)
	}
	der := request(l.t, k)
	a := l.assertion(der)
	a.Token, a.Spend = old.GetToken(), old.GetSpend()
	return l.issue(l.t.Context(), gateway, &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der})
}

func (l *lab) askFor(k *ecdsa.PrivateKey) *signerv1.IssueRequest {
	l.t.Helper()
	der := request(l.t, k)
	return &signerv1.IssueRequest{Assertion: l.sealed(l.assertion(der)), CsrDer: der}
}

// What a signer left open it ends at its next start, and its client gets the certificate.
func TestRecoversItsOwn(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	r := l.askFor(k)
	l.dies(r)
	if _, err := l.again(r, k); !errors.Is(err, fault.Unavailable) || fault.RetryAfter(err) == 0 {
		t.Errorf("while it is open: %v", err)
	}
	l.restart("signer-1")
	l.recover(true)
	if l.entries(issued) != 1 || l.entries(0) != 1 {
		t.Fatalf("%d issued of %d", l.entries(issued), l.entries(0))
	}
	got, err := l.again(r, k)
	if err != nil || !got.Repeated {
		t.Fatalf("repeated %v, error %v", got.Repeated, err)
	}
	c, err := x509.ParseCertificate(got.DER)
	if err != nil || c.CheckSignatureFrom(l.ca.Certificate) != nil || !k.PublicKey.Equal(c.PublicKey) {
		t.Errorf("not our certificate for that key: %v", err)
	}
	l.recover(true)
	if l.told("certificate.issued") != 1 || !strings.Contains(l.stream.String(), `"recovered":"true"`) {
		t.Errorf("%d issues audited", l.told("certificate.issued"))
	}
}

// Another signer waits for the lease.
func TestRecoversOthers(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	r := l.askFor(k)
	l.dies(r)
	l.restart("signer-2")
	for _, own := range []bool{true, false} {
		if l.recover(own); l.entries(issued) != 0 {
			t.Fatal("taken over before the lease had passed")
		}
	}
	l.now = l.now.Add(ledger.Lease + time.Second)
	if l.recover(false); l.entries(issued) != 1 {
		t.Fatal("not taken over after the lease had passed")
	}
	if got, err := l.again(r, k); err != nil || !got.Repeated {
		t.Errorf("repeated %v, error %v", got.Repeated, err)
	}
}

// What may not or cannot be signed any more is given up: the serial number is revoked,
// because the key may have been used, and the token can be used again.
func TestAbandons(t *testing.T) {
	for name, change := range map[string]func(l *lab){
		"too late": func(l *lab) { l.now = l.now.Add(ledger.RepeatWindow + time.Second) },
		"profile changed": func(l *lab) {
			p := deviceProfile()
			p.Subject = "CN={principal},O=Test"
			l.renew(p)
		},
		"label gone": func(l *lab) {
			p := deviceProfile()
			p.Label = "other"
			l.renew(p)
		},
		"validator's key withdrawn": func(l *lab) {
			if err := l.opener.SetKeys(nil); err != nil {
				l.t.Error(err)
			}
		},
		"another authority": func(l *lab) {
			l.makeCA(key.P256)
			l.renew(deviceProfile())
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, key.P256, 0)
			k := newKey(t)
			r := l.askFor(k)
			l.dies(r)
			l.restart("signer-1")
			issuer := ledger.Scope{Authority: l.ca.Certificate.SubjectKeyId}
			change(l)
			used := l.key.used.Load()
			l.recover(true)
			if l.entries(failed) != 1 || l.key.used.Load() != used {
				t.Fatalf("%d given up, key used %d times", l.entries(failed), l.key.used.Load()-used)
			}
			if _, revoked, err := l.ledger.BeginCRL(t.Context(), issuer, 0); err != nil || len(revoked) != 1 {
				t.Errorf("%d revoked, %v", len(revoked), err)
			}
			if l.told("certificate.failed") != 1 {
				t.Errorf("%d failures audited", l.told("certificate.failed"))
			}
			if err := l.opener.SetKeys([]assertion.PublicKey{l.public}); err != nil {
				t.Fatal(err)
			}
			l.renew(deviceProfile())
			if got, err := l.again(r, k); err != nil || got.Repeated {
				t.Errorf("the token cannot be used again: %v", err)
			}
		})
	}
}

// What could not be recorded is ended as soon as it can, without waiting for the lease.
func TestRecoversWhatItCouldNotRecord(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	r := l.askFor(k)
	l.key.sign = func(ctx context.Context, tbs []byte) ([]byte, error) {
		l.key.sign = nil
		l.exec("INSERT INTO audit_record (seq, at, record, hash) SELECT seq + 1, 0, 'in the way', $1 FROM audit_head", []byte("in the way"))
		return l.key.Signer.Sign(ctx, tbs)
	}
	if _, err := l.issue(t.Context(), gateway, r); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("answered %v", err)
	}
	if err := l.issuer.Recover(t.Context(), false); err == nil || l.entries(intent) != 1 {
		t.Errorf("while nothing can be recorded: %v, %d open", err, l.entries(intent))
	}
	l.exec("DELETE FROM audit_record WHERE record = 'in the way'")
	if l.recover(false); l.entries(issued) != 1 {
		t.Fatal("not ended at once")
	}
	if got, err := l.again(r, k); err != nil || !got.Repeated {
		t.Errorf("repeated %v, error %v", got.Repeated, err)
	}
}

// While nothing can be recorded the key is left alone.
func TestRecoversNothingUnrecorded(t *testing.T) {
	l := newLab(t, key.P256, 0)
	l.dies(l.ask())
	l.mustIssue(l.ask())
	l.now = l.now.Add(ledger.Lease + time.Second)
	l.exec("UPDATE audit_head SET seq = 0")
	if _, err := l.issue(t.Context(), gateway, l.askNow()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("recorded in a chain that was set back: %v", err)
	}
	used := l.key.used.Load()
	for range 3 {
		if err := l.issuer.Recover(t.Context(), false); !errors.Is(err, audit.ErrRolledBack) {
			t.Errorf("answered %v", err)
		}
	}
	if n := l.key.used.Load() - used; n != 0 {
		t.Errorf("the key was used %d times", n)
	}
}

// An intent stays open while the key cannot be had, and while nobody knows whether it was
// used its serial number is on the list.
func TestKeyIsAway(t *testing.T) {
	l := newLab(t, key.P256, 0)
	r := l.ask()
	l.dies(r)
	l.restart("signer-1")
	l.key.sign = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no session") }
	if err := l.issuer.Recover(t.Context(), true); err == nil || l.entries(intent) != 1 {
		t.Errorf("answered %v, %d open", err, l.entries(intent))
	}
	l.key.sign = nil
	l.now = l.now.Add(ledger.Lease + time.Second)
	if l.recover(false); l.entries(issued) != 1 {
		t.Error("not ended with the key back")
	}

	l.key.sign = func(context.Context, []byte) ([]byte, error) { return nil, context.DeadlineExceeded }
	if _, err := l.issue(t.Context(), gateway, l.askNow()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("answered %v", err)
	}
	if _, revoked, err := l.ledger.BeginCRL(t.Context(), ledger.Scope{Authority: l.ca.Certificate.SubjectKeyId}, 0); err != nil || len(revoked) != 1 {
		t.Errorf("%d revoked, %v", len(revoked), err)
	}
}

// askNow is ask for a lab whose clock has moved.
func (l *lab) askNow() *signerv1.IssueRequest { return l.askFor(newKey(l.t)) }

// Whoever can write to the database cannot have anything signed: an intent of his own, or a
// changed one, is not believed, and somebody is told, once.
func TestForgedIntents(t *testing.T) {
	for column, value := range map[string]any{
		"tbs": []byte{0x30, 0}, "csr": []byte{0x30, 0}, "sealed": []byte{}, "serial": strings.Repeat("4", 40),
		"created_at": int64(1), "owner": "signer-1/x", "lease_until": int64(0), "validator_key": "v2",
		"assertion_id": make([]byte, 16), "mac": make([]byte, 32),
	} {
		t.Run(column, func(t *testing.T) {
			l := newLab(t, key.P256, 0)
			l.dies(l.ask())
			l.exec("UPDATE entry SET "+column+" = $1", value)
			l.restart("signer-1")
			used := l.key.used.Load()
			for range 3 {
				l.recover(true)
			}
			if l.entries(intent) != 1 || l.key.used.Load() != used {
				t.Errorf("%d open, key used %d times", l.entries(intent), l.key.used.Load()-used)
			}
			if n := l.told("ledger.altered"); n != 1 {
				t.Errorf("%d alarms, not one", n)
			}
		})
	}
}

// Not even with the key of the MACs: the certificate is made again from what a validator
// signed, and has to be the recorded one.
func TestForgedIntentWithAGoodMAC(t *testing.T) {
	l := newLab(t, key.P256, 0)
	der := request(t, newKey(t))
	a := l.assertion(der)
	parsed, err := csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := l.opener.Open(l.sealed(a), assertion.Expect{Gateway: gateway, CSRSHA256: parsed.SHA256(), SPKISHA256: parsed.SPKISHA256()})
	if err != nil {
		t.Fatal(err)
	}
	// The authority's own to-be-signed bytes: a certificate with CA:TRUE.
	if _, err := l.ledger.Begin(t.Context(), ledger.Intent{
		Serial: strings.Repeat("4", 40), Verified: verified, Request: parsed, TBS: l.ca.Certificate.RawTBSCertificate,
		Authority: l.ca.Certificate.SubjectKeyId, Contents: [][]byte{[]byte("x")}, NotBefore: l.now, NotAfter: l.now.Add(time.Hour), At: l.now,
		Line: ledger.LineOf(verified.Message()), Record: audit.Record{Actor: gateway},
	}); err != nil {
		t.Fatal(err)
	}
	l.restart("signer-1")
	used := l.key.used.Load()
	l.recover(true)
	if l.entries(failed) != 1 || l.key.used.Load() != used {
		t.Errorf("%d given up, key used %d times", l.entries(failed), l.key.used.Load()-used)
	}
}

// A signer that was stopped between the key and the record, for longer than its lease, throws
// its signature away and returns the certificate of the one that took over.
func TestLateSignature(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	r := l.askFor(k)
	signed, goOn := make(chan struct{}), make(chan struct{})
	l.key.sign = func(ctx context.Context, tbs []byte) ([]byte, error) {
		signature, err := l.key.Signer.Sign(ctx, tbs)
		close(signed)
		<-goOn
		return signature, err
	}
	type answer struct {
		issue.Certificate
		err error
	}
	late := make(chan answer, 1)
	slow := l.issuer
	prepared, err := slow.Prepare(t.Context(), gateway, r)
	if err != nil {
		t.Fatal(err)
	}
	go func() { c, err := slow.Issue(t.Context(), prepared); late <- answer{c, err} }()
	<-signed
	l.key.sign = nil
	l.now = l.now.Add(ledger.Lease + time.Second)
	l.restart("signer-2")
	l.recover(false)
	winner, err := l.again(r, k)
	if err != nil || !winner.Repeated {
		t.Fatalf("repeated %v, error %v", winner.Repeated, err)
	}
	close(goOn)
	got := <-late
	if got.err != nil || !bytes.Equal(got.DER, winner.DER) {
		t.Errorf("the late one answers %v with another certificate: %t", got.err, !bytes.Equal(got.DER, winner.DER))
	}
	if l.entries(issued) != 1 || l.told("certificate.issued") != 1 {
		t.Errorf("%d issued, %d audited", l.entries(issued), l.told("certificate.issued"))
	}
}

func (l *lab) exec(query string, args ...any) {
	l.t.Helper()
	err := l.db.Write(l.t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}
