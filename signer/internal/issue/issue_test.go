package issue_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/issue"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

func openssl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
		t.Errorf("openssl %v: %v\n%s", args, err, out)
	}
}

func TestIssue(t *testing.T) {
	for _, kind := range key.Types() {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t, kind, 0)
			r := l.ask("pump-7.test")
			got, err := l.issue(t.Context(), gateway, r)
			if err != nil || got.Repeated {
				t.Fatalf("repeated %v, error %v", got.Repeated, err)
			}
			c, err := x509.ParseCertificate(got.DER)
			if err != nil {
				t.Fatal(err)
			}
			request, err := csr.Parse(r.GetCsrDer())
			if err != nil {
				t.Fatal(err)
			}
			if c.Subject.String() != "CN=pump-7" || len(c.DNSNames) != 1 || c.DNSNames[0] != "pump-7.test" || len(c.IPAddresses) != 1 ||
				!bytes.Equal(c.RawSubjectPublicKeyInfo, request.SPKI()) || c.IsCA || c.SerialNumber.BitLen() != 159 {
				t.Errorf("issued %v with %v, %v, serial %x", c.Subject, c.DNSNames, c.IPAddresses, c.SerialNumber)
			}
			file := filepath.Join(t.TempDir(), "leaf.pem")
			if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: got.DER}), 0o600); err != nil {
				t.Fatal(err)
			}
			openssl(t, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", l.caFile, file)

			var tbs, stored []byte
			err = l.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
				return tx.QueryRow(ctx, "SELECT tbs, certificate FROM entry WHERE state = 2").Scan(&tbs, &stored)
			})
			if err != nil || !bytes.Equal(tbs, c.RawTBSCertificate) || !bytes.Equal(stored, got.DER) {
				t.Errorf("the ledger holds something else, error %v", err)
			}
			if n := l.key.used.Load(); n != 1 {
				t.Errorf("the key was used %d times", n)
			}
			// The same again, replayed or asked anew, is answered from the ledger.
			again, err := l.issue(t.Context(), gateway, r)
			if err != nil || !again.Repeated || !bytes.Equal(again.DER, got.DER) || l.key.used.Load() != 1 {
				t.Errorf("repeated %v, error %v, key used %d times", again.Repeated, err, l.key.used.Load())
			}
		})
	}
}

// A key that does not sign, or signs something else, costs the token nothing.
func TestKeyFails(t *testing.T) {
	l := newLab(t, key.P256, 0)
	other, err := key.Generate(key.P256)
	if err != nil {
		t.Fatal(err)
	}
	before := 0
	for name, sign := range map[string]func(context.Context, []byte) ([]byte, error){
		"not used": func(context.Context, []byte) ([]byte, error) {
			return nil, fmt.Errorf("no session: %w", key.ErrNotUsed)
		},
		"error":       func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no session") },
		"empty":       func(context.Context, []byte) ([]byte, error) { return nil, nil },
		"other key":   other.Sign,
		"other bytes": func(ctx context.Context, tbs []byte) ([]byte, error) { return l.key.Signer.Sign(ctx, tbs[1:]) },
	} {
		t.Run(name, func(t *testing.T) {
			der := request(t, newKey(t))
			a := l.assertion(der)
			r := l.ask()
			r.Assertion, r.CsrDer = l.sealed(a), der
			failed, issued := l.entries(3), l.entries(2)
			l.key.sign = sign
			if got, err := l.issue(t.Context(), gateway, r); fault.KindOf(err) != fault.Unavailable || got.DER != nil {
				t.Errorf("answered %v with %d octets", err, len(got.DER))
			}
			l.key.sign = nil
			if l.entries(3) != failed+1 || l.entries(2) != issued {
				t.Error("the entry is not FAILED")
			}
			// A gateway that asks at once with the same is told when to come again.
			if _, err := l.issue(t.Context(), gateway, r); !errors.Is(err, fault.Unavailable) || fault.RetryAfter(err) == 0 {
				t.Errorf("asked at once: %v", err)
			}
			// Only of a key that says so it is known that there is no signature.
			_, revoked, err := l.ledger.BeginCRL(t.Context(), ledger.Scope{Authority: l.ca.Certificate.SubjectKeyId}, 0)
			if listed := len(revoked) > before; err != nil || listed == (name == "not used") {
				t.Errorf("on the revocation list: %t, %v", listed, err)
			}
			before = len(revoked)
			_, _ = rand.Read(a.GetAssertionId())
			r.Assertion = l.sealed(a)
			if got, err := l.issue(t.Context(), gateway, r); err != nil || got.Repeated {
				t.Errorf("the token does not work any more: %v", err)
			}
		})
	}
	if n := l.told("certificate.failed"); n != 5 {
		t.Errorf("%d failures were audited, not 5", n)
	}
	if n := l.told("certificate.refused"); n != 0 {
		t.Errorf("%d refusals were audited", n)
	}
}

func TestBusy(t *testing.T) {
	l := newLab(t, key.P256, 1)
	signing, goOn := make(chan struct{}), make(chan struct{})
	l.key.sign = func(ctx context.Context, tbs []byte) ([]byte, error) {
		close(signing)
		<-goOn
		return l.key.Signer.Sign(ctx, tbs)
	}
	first, second := l.ask(), l.ask()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, err := l.issue(ctx, gateway, first); done <- err }()
	<-signing
	waiting, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := l.issue(waiting, gateway, second); !errors.Is(err, fault.Busy) || fault.RetryAfter(err) == 0 {
		t.Errorf("answered %v", err)
	}
	// A caller who goes leaves a certificate behind, to be had by asking again.
	cancel()
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	l.key.sign = nil
	if got, err := l.issue(t.Context(), gateway, first); err != nil || !got.Repeated {
		t.Errorf("repeated %v, error %v", got.Repeated, err)
	}
	if got, err := l.issue(t.Context(), gateway, second); err != nil || got.Repeated {
		t.Errorf("the place was not given free: %v", err)
	}
}

func TestNothingWithoutTheLedger(t *testing.T) {
	l := newLab(t, key.P256, 0)
	good, bad := l.ask(), l.ask()
	bad.Assertion.Signature[0] ^= 1
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		name string
		err  error
	}{
		{"issue", second(l.issue(t.Context(), gateway, good))},
		{"refusal", second(l.issue(t.Context(), gateway, bad))},
	} {
		if fault.KindOf(r.err) != fault.Unavailable {
			t.Errorf("%s answers %v", r.name, r.err)
		}
	}
	if n := l.key.used.Load(); n != 0 {
		t.Errorf("the key was used %d times", n)
	}
}

func second(_ issue.Certificate, err error) error { return err }

// A credential that is used up is refused like one that was never good, and audited.
func TestUsedUp(t *testing.T) {
	l := newLab(t, key.P256, 0)
	der, other := request(t, newKey(t)), request(t, newKey(t))
	a, b := l.assertion(der), l.assertion(other)
	b.Token, b.Spend = a.GetToken(), a.GetSpend()
	r := l.ask()
	r.Assertion, r.CsrDer = l.sealed(a), der
	if _, err := l.issue(t.Context(), gateway, r); err != nil {
		t.Fatal(err)
	}
	r.Assertion, r.CsrDer = l.sealed(b), other
	_, err := l.issue(t.Context(), gateway, r)
	if !errors.Is(err, fault.Unauthenticated) || fault.Public(err) != ledger.Refused {
		t.Errorf("answered %v", err)
	}
	if l.told("certificate.refused") != 1 || l.key.used.Load() != 1 {
		t.Errorf("%d refusals audited, key used %d times", l.told("certificate.refused"), l.key.used.Load())
	}
}

// A request whose certificate would say something else now is not answered with the old one.
func TestChangedCertificateIsNoRepeat(t *testing.T) {
	for name, test := range map[string]struct {
		change func(l *lab, p *profile.Profile, a *assertionv1.Assertion)
		repeat bool
	}{
		"nothing":   {func(*lab, *profile.Profile, *assertionv1.Assertion) {}, true},
		"validity":  {func(_ *lab, p *profile.Profile, _ *assertionv1.Assertion) { p.Validity /= 2 }, true},
		"authority": {func(l *lab, _ *profile.Profile, _ *assertionv1.Assertion) { l.makeCA(key.P256) }, false},
		"subject":   {func(_ *lab, p *profile.Profile, _ *assertionv1.Assertion) { p.Subject = "CN={principal},O=Test" }, false},
		"names": {func(_ *lab, _ *profile.Profile, a *assertionv1.Assertion) {
			a.Token.AllowedNames = []string{"dns:pump-7.test"}
		}, false},
		"no names": {func(_ *lab, p *profile.Profile, _ *assertionv1.Assertion) { p.SAN = "none" }, false},
		"usage": {func(_ *lab, p *profile.Profile, _ *assertionv1.Assertion) {
			p.KeyUsage = append(p.KeyUsage, "keyAgreement")
		}, false},
		"purpose": {func(_ *lab, p *profile.Profile, _ *assertionv1.Assertion) {
			p.ExtKeyUsage = append(p.ExtKeyUsage, "serverAuth")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, key.P256, 0)
			der := request(t, newKey(t))
			a := l.assertion(der)
			a.Spend.Limit = 2
			first, err := l.issue(t.Context(), gateway, &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der})
			if err != nil {
				t.Fatal(err)
			}
			p := deviceProfile()
			test.change(l, &p, a)
			l.renew(p)
			_, _ = rand.Read(a.GetAssertionId())
			got, err := l.issue(t.Context(), gateway, &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der})
			if err != nil || got.Repeated != test.repeat || bytes.Equal(got.DER, first.DER) != test.repeat {
				t.Errorf("repeated %v, error %v", got.Repeated, err)
			}
		})
	}
}

// What a validator's key and a label may be used for in an hour is bounded; who is turned away
// may come again, costs nothing, and is on record.
func TestBudgets(t *testing.T) {
	for name, set := range map[string]func(l *lab, p *profile.Profile){
		"label": func(_ *lab, p *profile.Profile) { p.MaxPerHour = 2 },
		"validator's key": func(l *lab, _ *profile.Profile) {
			l.public.MaxPerHour = 2
			if err := l.opener.SetKeys([]assertion.PublicKey{l.public}); err != nil {
				l.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, key.P256, 0)
			p := deviceProfile()
			set(l, &p)
			l.renew(p)
			first := l.ask()
			l.mustIssue(first)
			l.mustIssue(l.ask())
			for range 2 {
				if _, err := l.issue(t.Context(), gateway, l.ask()); !errors.Is(err, fault.Busy) || fault.RetryAfter(err) == 0 {
					t.Errorf("answered %v", err)
				}
			}
			if got, err := l.issue(t.Context(), gateway, first); err != nil || !got.Repeated {
				t.Errorf("a repeat: %v", err)
			}
			if n := l.told("certificate.refused"); n != 2 || l.entries(0) != 2 {
				t.Errorf("%d refusals audited, %d entries", n, l.entries(0))
			}
			l.now = l.now.Add(2 * time.Hour)
			l.mustIssue(l.ask())
		})
	}
}

func TestOnlyPrepareMakesWhatIsIssued(t *testing.T) {
	l := newLab(t, key.P256, 0)
	if _, err := l.issuer.Issue(t.Context(), issue.Prepared{}); fault.KindOf(err) != fault.Internal {
		t.Errorf("answered %v", err)
	}
	if n := l.key.used.Load(); n != 0 {
		t.Errorf("the key was used %d times", n)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := issue.New(issue.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

// BenchmarkIssue measures what the signer does for a certificate, ledger and all; making
// keys, requests and assertions is not in it.
func BenchmarkIssue(b *testing.B) {
	for _, kind := range key.Types() {
		b.Run(string(kind), func(b *testing.B) {
			l := newLab(b, kind, 0)
			asks := make(chan *signerv1.IssueRequest, b.N)
			for range b.N {
				asks <- l.ask("pump-7.test")
			}
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := l.issue(context.Background(), gateway, <-asks); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
