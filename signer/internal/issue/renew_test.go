package issue_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// first issues a certificate by a token.
func (l *lab) first(k *ecdsa.PrivateKey) *x509.Certificate {
	l.t.Helper()
	return l.mustIssue(l.askFor(k))
}

// presents is what an honest validator says of who wants another certificate for c.
func (l *lab) presents(c *x509.Certificate, der []byte) *assertionv1.Assertion {
	l.t.Helper()
	sum, anchor := sha256.Sum256(c.Raw), sha256.Sum256(l.ca.Certificate.Raw)
	a := l.assertion(der)
	a.Operation, a.Token = assertionv1.Operation_OPERATION_REENROLL, nil
	a.Authentication.Method, a.Authentication.Indicators, a.Authentication.Backend = assertionv1.Method_METHOD_CERTIFICATE, []string{"x509"}, "authority"
	a.PresentedCertificate = &assertionv1.PresentedCertificate{
		Sha256: sum[:], Issuer: c.RawIssuer, Serial: c.SerialNumber.Bytes(), AnchorSha256: anchor[:],
	}
	a.Spend = &assertionv1.Spend{Ids: [][]byte{append([]byte("certificate:"), sum[:]...)}, Limit: 1000, KeepUntil: timestamppb.New(c.NotAfter)}
	return a
}

// renewal is a request to renew c, for k.
func (l *lab) renewal(c *x509.Certificate, k crypto.Signer, change ...func(*assertionv1.Assertion)) *signerv1.IssueRequest {
	l.t.Helper()
	der := request(l.t, k)
	a := l.presents(c, der)
	for _, f := range change {
		f(a)
	}
	return &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der}
}

// TestRenewalIssues: with the old key, once; the same request again gives the same.
func TestRenewalIssues(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	first := l.first(k)
	l.now = l.now.Add(30 * 24 * time.Hour)
	second := l.mustIssue(l.renewal(first, k))
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 || !slices.Equal(second.DNSNames, first.DNSNames) || second.Subject.String() != first.Subject.String() {
		t.Errorf("%s %v is not the successor of %s %v", second.Subject, second.DNSNames, first.Subject, first.DNSNames)
	}
	l.now = l.now.Add(time.Minute)
	again, err := l.issue(t.Context(), gateway, l.renewal(first, k))
	if err != nil || !again.Repeated || string(again.DER) != string(second.Raw) {
		t.Errorf("asked again: repeated %v, %v", again.Repeated, err)
	}
	// The successor presented at once is renewed too, and not taken for a repeat.
	at := l.now
	third := l.mustIssue(l.renewal(second, k))
	if third.SerialNumber.Cmp(second.SerialNumber) == 0 {
		t.Error("a certificate renews itself")
	}
	l.now = at.Add(32 * 24 * time.Hour) // within the window of the first
	if _, err := l.issue(t.Context(), gateway, l.renewal(first, newKey(t))); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a second successor: %v", err)
	}
	entry, _, err := l.ledger.Get(t.Context(), serialOf(second))
	if err != nil || entry.GetPredecessor() != serialOf(first) {
		t.Errorf("it renews %q, %v", entry.GetPredecessor(), err)
	}
	if !strings.Contains(l.heard(), `"presented_serial":"`+serialOf(first)) {
		t.Error("the audit does not say which one was renewed")
	}
	// The line goes on, to its end.
	l.now = third.NotAfter.Add(-time.Hour)
	if fourth := l.mustIssue(l.renewal(third, newKey(t))); fourth.NotAfter.Before(third.NotAfter) {
		t.Errorf("the fourth ends at %v", fourth.NotAfter)
	}
	if r := l.inspect(); len(r.Problems) > 0 {
		t.Errorf("inspection: %v", r.Problems)
	}
}

func serialOf(c *x509.Certificate) string { return strings.ToLower(c.SerialNumber.Text(16)) }

// heard returns the audit stream.
func (l *lab) heard() string {
	l.told("")
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream.String()
}

// TestLineEnds: however often it is renewed, no certificate is valid past what the first login
// allowed, and then there is none.
func TestLineEnds(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	began := l.now
	end := began.Add(300 * 24 * time.Hour)
	c := l.first(k)
	for n := range 20 {
		l.now = l.now.Add(20 * 24 * time.Hour)
		got, err := l.issue(t.Context(), gateway, l.renewal(c, k))
		if l.now.After(end.Add(-time.Minute)) {
			if err == nil {
				t.Fatalf("renewal %d was issued after %v", n+1, l.now.Sub(began))
			}
			continue
		}
		if err != nil {
			t.Fatalf("renewal %d: %v", n+1, err)
		}
		if c, err = x509.ParseCertificate(got.DER); err != nil {
			t.Fatal(err)
		}
		if c.NotAfter.After(end) {
			t.Fatalf("renewal %d is valid until %v, past %v", n+1, c.NotAfter, end)
		}
	}
}

// TestUnfitPredecessors: each is refused for its reason, on record, and costs no key.
func TestUnfitPredecessors(t *testing.T) {
	same := func(*assertionv1.Assertion) {}
	for name, c := range map[string]struct {
		before func(l *lab, c *x509.Certificate)
		change func(*assertionv1.Assertion)
		kind   fault.Kind
		reason string
	}{
		"revoked": {func(l *lab, c *x509.Certificate) {
			l.revoke(c, signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE)
		}, same, fault.Unauthenticated, "certificate is revoked"},
		"held": {func(l *lab, c *x509.Certificate) {
			l.revoke(c, signerv1.RevocationReason_REVOCATION_REASON_CERTIFICATE_HOLD)
		}, same, fault.Unauthenticated, "certificate is on hold"},
		"expired":       {func(l *lab, c *x509.Certificate) { l.now = c.NotAfter.Add(time.Second) }, same, fault.Unauthenticated, "certificate has expired"},
		"not yet valid": {func(l *lab, c *x509.Certificate) { l.now = c.NotBefore.Add(-time.Second) }, same, fault.Unauthenticated, "is not valid before"},
		"nobody's":      {nil, func(a *assertionv1.Assertion) { a.PresentedCertificate.Serial[0] ^= 1 }, fault.Unauthenticated, "not issued by this authority"},
		"another's": {nil, func(a *assertionv1.Assertion) {
			a.PresentedCertificate.Sha256 = make([]byte, 32)
			a.Spend.Ids = [][]byte{append([]byte("certificate:"), make([]byte, 32)...)}
		}, fault.Unauthenticated, "not issued by this authority"},
		"of somebody else":   {nil, func(a *assertionv1.Assertion) { a.Identity.Principal = "pump-8" }, fault.Internal, "the ledger pump-7@DEVICES"},
		"of another kind":    {nil, func(a *assertionv1.Assertion) { a.Identity.Kind = assertionv1.IdentityKind_IDENTITY_KIND_HOST }, fault.Internal, "the ledger"},
		"another is spent":   {nil, func(a *assertionv1.Assertion) { a.Spend.Ids = [][]byte{[]byte("certificate:x")} }, fault.Internal, "does not spend"},
		"altered in ledger":  {func(l *lab, _ *x509.Certificate) { l.exec("UPDATE entry SET label = 'ec'") }, same, fault.Internal, "altered"},
		"under another name": {nil, func(a *assertionv1.Assertion) { a.Label = "ec" }, fault.Forbidden, "issued under another label"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, key.P256, 0)
			k := newKey(t)
			first := l.first(k)
			if c.before != nil {
				c.before(l, first)
			}
			used := l.key.used.Load()
			_, err := l.issue(t.Context(), gateway, l.renewal(first, k, c.change))
			if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %v, want %v because of %q", err, c.kind, c.reason)
			}
			if c.kind != fault.Forbidden && strings.Contains(fault.Public(err), c.reason) {
				t.Errorf("the client is told %q", fault.Public(err))
			}
			if !strings.Contains(l.heard(), c.reason) || l.told("certificate.refused") != 1 && c.reason != "altered" {
				t.Errorf("the audit does not say why: %s", l.heard())
			}
			if l.key.used.Load() != used {
				t.Error("the key was used")
			}
		})
	}
}

// TestRevokedMeanwhile: between the check and the record, and after a signer's end.
func TestRevokedMeanwhile(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	first := l.first(k)
	p, err := l.issuer.Prepare(t.Context(), gateway, l.renewal(first, k))
	if err != nil {
		t.Fatal(err)
	}
	l.revoke(first, signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE)
	if _, err := l.issuer.Issue(t.Context(), p); !errors.Is(err, ledger.ErrRevoked) {
		t.Errorf("issued: %v", err)
	}
	other := newKey(t)
	second := l.mustIssue(l.askFor(other))
	l.dies(l.renewal(second, other))
	l.restart("signer-1")
	l.recover(true)
	if l.entries(issued) != 3 {
		t.Errorf("%d issued, not 3: the renewal was not ended", l.entries(issued))
	}
	another := newKey(t)
	third := l.mustIssue(l.askFor(another))
	l.dies(l.renewal(third, another))
	l.revoke(third, signerv1.RevocationReason_REVOCATION_REASON_SUPERSEDED)
	l.restart("signer-1")
	// While nobody can say what became of the predecessor, the intent stays.
	l.exec("ALTER TABLE entry RENAME COLUMN predecessor TO away")
	if err := l.issuer.Recover(t.Context(), true); err == nil || l.entries(failed) != 0 {
		t.Errorf("%d given up blindly, %v", l.entries(failed), err)
	}
	l.exec("ALTER TABLE entry RENAME COLUMN away TO predecessor")
	l.now = l.now.Add(ledger.Lease + time.Second)
	l.recover(true)
	if l.entries(failed) != 1 {
		t.Errorf("%d given up, not the one whose predecessor is revoked", l.entries(failed))
	}
}

// TestCountsOutliveLabels: a label with more grace does not give a certificate another successor
// once its own label would have forgotten the first.
func TestCountsOutliveLabels(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	first := l.first(k)
	l.mustIssue(l.renewal(first, k))
	l.now = first.NotAfter.Add(72 * time.Hour)
	if _, err := l.ledger.Purge(t.Context(), l.now); err != nil {
		t.Fatal(err)
	}
	p := deviceProfile()
	p.RenewExpired, p.Rekey = config.Duration(30*24*time.Hour), "any"
	l.renew(p)
	if _, err := l.issue(t.Context(), gateway, l.renewal(first, newKey(t))); !errors.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), "no use left") {
		t.Errorf("a second successor: %v", err)
	}
}

// TestTakenValidator: one that may speak for certificates has no say in how somebody logged in,
// and a certificate of another authority is no user's.
func TestTakenValidator(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	first := l.first(k)
	p := deviceProfile()
	p.MaxValidity = map[string]config.Duration{"x509": config.Duration(24 * time.Hour)}
	l.renew(p)
	c := l.mustIssue(l.renewal(first, k, func(a *assertionv1.Assertion) { a.Authentication.Indicators = nil }))
	if c.NotAfter.Sub(l.now) > 24*time.Hour {
		t.Errorf("without the indicator it is valid for %v", c.NotAfter.Sub(l.now))
	}
	p.RequireIndicators = []string{"otp"}
	l.renew(p)
	if _, err := l.issue(t.Context(), gateway, l.renewal(c, k, func(a *assertionv1.Assertion) { a.Authentication.Indicators = []string{"otp", "x509"} })); !errors.Is(err, fault.Forbidden) {
		t.Errorf("with an indicator of its own making: %v", err)
	}
	p = deviceProfile()
	p.IdentityKinds, p.CertificateAnchors = []string{"device", "user"}, []string{strings.Repeat("07", 32)}
	l.renew(p)
	foreign := func(kind assertionv1.IdentityKind) func(*assertionv1.Assertion) {
		return func(a *assertionv1.Assertion) {
			a.Operation, a.Identity.Kind = assertionv1.Operation_OPERATION_ENROLL, kind
			sum := bytes.Repeat([]byte{byte(kind)}, 32)
			a.PresentedCertificate.AnchorSha256, a.PresentedCertificate.Sha256, a.PresentedCertificate.Serial = bytes.Repeat([]byte{7}, 32), sum, []byte{5}
			a.Spend.Ids = [][]byte{append([]byte("certificate:"), sum...)}
		}
	}
	if _, err := l.issue(t.Context(), gateway, l.renewal(first, k, foreign(assertionv1.IdentityKind_IDENTITY_KIND_USER))); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a user by a manufacturer's certificate: %v", err)
	}
	for n := range 3 { // after each return to the factory with another key
		if _, err := l.issue(t.Context(), gateway, l.renewal(first, newKey(t), foreign(assertionv1.IdentityKind_IDENTITY_KIND_DEVICE))); err != nil {
			t.Errorf("enrolment %d by a manufacturer's certificate: %v", n+1, err)
		}
	}
}

// TestRenewExpired: within the grace of the profile.
func TestRenewExpired(t *testing.T) {
	l := newLab(t, key.P256, 0)
	k := newKey(t)
	first := l.first(k)
	p := deviceProfile()
	p.RenewExpired, p.Methods = 48*3600*1e9, []string{"token", "certificate"}
	l.renew(p)
	l.now = first.NotAfter.Add(49 * time.Hour)
	if _, err := l.issue(t.Context(), gateway, l.renewal(first, k)); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("after the grace: %v", err)
	}
	l.now = first.NotAfter.Add(47 * time.Hour)
	if _, err := l.issue(t.Context(), gateway, l.renewal(first, k)); err != nil {
		t.Errorf("within the grace: %v", err)
	}
}

func (l *lab) revoke(c *x509.Certificate, reason signerv1.RevocationReason) {
	l.t.Helper()
	if _, _, err := l.ledger.Revoke(l.t.Context(), ledger.Revocation{Serial: serialOf(c), Reason: reason, By: "ada"}); err != nil {
		l.t.Fatal(err)
	}
}
