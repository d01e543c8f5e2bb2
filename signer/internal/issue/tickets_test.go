package issue_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// ticketProfile has everything in its certificates that follows from a ticket.
func ticketProfile() profile.Profile {
	p := profile.Profile{}
	p.SetDefaults()
	p.Label, p.IdentityKinds, p.Methods, p.Realms = "user", []string{"user"}, []string{"negotiate"}, []string{"IPA.TEST"}
	p.KerberosNames, p.IndicatorExtension = []string{"krb5", "upn"}, "1.3.6.1.4.1.99999.7"
	p.ExtKeyUsage = []string{"clientAuth", "pkinitClient"}
	p.MaxLoginAge, p.MaxValidity = config.Duration(24*time.Hour), map[string]config.Duration{"hardened": config.Duration(time.Hour), "pkinit": config.Duration(time.Hour)}
	p.RequireIndicators = []string{"hardened"}
	p.PrincipalMapping = map[string]string{"alice@IPA.TEST": `CN=Alice\, A.,O=Example`}
	return p
}

// ticketLab is a lab whose validator takes tickets.
func ticketLab(t *testing.T, p profile.Profile) *lab {
	t.Helper()
	l := newLab(t, key.P256, 0)
	l.public.Methods = append(l.public.Methods, assertionv1.Method_METHOD_NEGOTIATE)
	l.public.Realms = append(l.public.Realms, "IPA.TEST")
	if err := l.opener.SetKeys([]assertion.PublicKey{l.public}); err != nil {
		t.Fatal(err)
	}
	l.renew(p)
	return l
}

// ticket returns a request of alice for k that spends an authenticator.
func (l *lab) ticket(k *ecdsa.PrivateKey, authenticator string) *signerv1.IssueRequest {
	l.t.Helper()
	der := request(l.t, k)
	a := l.assertion(der)
	a.Label, a.Token = "user", nil
	a.Identity = &assertionv1.Identity{
		Kind: assertionv1.IdentityKind_IDENTITY_KIND_USER, Realm: "IPA.TEST", Principal: "alice", Mail: []string{"alice@ipa.test"},
	}
	a.Authentication.Method, a.Authentication.Indicators = assertionv1.Method_METHOD_NEGOTIATE, []string{"hardened"}
	a.Authentication.LoginTime = timestamppb.New(l.now.Add(-time.Hour))
	a.Spend = &assertionv1.Spend{Ids: [][]byte{[]byte("negotiate:" + authenticator)}, Limit: 1, KeepUntil: timestamppb.New(l.now.Add(14 * time.Minute))}
	return &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der}
}

// spent returns how many credentials were used.
func (l *lab) spent() (n int) {
	l.t.Helper()
	err := l.db.Read(l.t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM spend").Scan(&n)
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// TestFreshAuthenticator: who asks for the same with another authenticator of the ticket gets
// the same certificate and spends nothing, for as long as somebody who lost a reply comes
// again; then it is a request of its own.
func TestFreshAuthenticator(t *testing.T) {
	l := ticketLab(t, ticketProfile())
	k := newKey(t)
	first, err := l.issue(t.Context(), gateway, l.ticket(k, "1"))
	if err != nil || first.Repeated {
		t.Fatalf("repeated %v, %v", first.Repeated, err)
	}
	l.now = l.now.Add(ledger.RepeatWindow - time.Second)
	second, err := l.issue(t.Context(), gateway, l.ticket(k, "2"))
	if err != nil || !second.Repeated || !bytes.Equal(first.DER, second.DER) || l.spent() != 1 {
		t.Fatalf("repeated %v, same %v, %d spent, %v", second.Repeated, bytes.Equal(first.DER, second.DER), l.spent(), err)
	}
	// The authenticator that was used up is so for every other key.
	if _, err := l.issue(t.Context(), gateway, l.ticket(newKey(t), "1")); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("another key: %v", err)
	}
	l.now = l.now.Add(2 * time.Second)
	third, err := l.issue(t.Context(), gateway, l.ticket(k, "3"))
	if err != nil || third.Repeated || l.spent() != 2 {
		t.Errorf("behind the window: repeated %v, %d spent, %v", third.Repeated, l.spent(), err)
	}
}

// TestRecoversTickets: what was recorded is built again to the octet, names and extensions
// that are written by hand among it.
func TestRecoversTickets(t *testing.T) {
	p := ticketProfile()
	l := ticketLab(t, p)
	k := newKey(t)
	l.dies(l.ticket(k, "1"))
	l.restart("signer-1")
	l.renew(p)
	l.recover(true)
	if l.entries(issued) != 1 || l.entries(0) != 1 {
		t.Fatalf("%d issued of %d", l.entries(issued), l.entries(0))
	}
	got, err := l.issue(t.Context(), gateway, l.ticket(k, "2"))
	if err != nil || !got.Repeated || l.spent() != 1 {
		t.Fatalf("repeated %v, %d spent, %v", got.Repeated, l.spent(), err)
	}
	c, err := x509.ParseCertificate(got.DER)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, e := range c.Extensions {
		said[e.Id.String()] = string(e.Value)
	}
	if names := said["2.5.29.17"]; !strings.Contains(names, "alice@IPA.TEST") || !strings.Contains(names, "\x1b\x08IPA.TEST") || !strings.Contains(names, "alice@ipa.test") {
		t.Errorf("names %q", names)
	}
	if said["1.3.6.1.4.1.99999.7"] != "\x30\x0a\x0c\x08hardened" {
		t.Errorf("indicators %q", said["1.3.6.1.4.1.99999.7"])
	}
	if c.Subject.String() != `CN=Alice\, A.,O=Example` || c.NotAfter.Sub(l.now) != time.Hour {
		t.Errorf("%s until %v", c.Subject, c.NotAfter)
	}
}

// TestUnmapped: the refusal of a principal without a subject is on record, with its reason,
// and nothing is spent.
func TestUnmapped(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*profile.Profile)
		reason string
	}{
		"nobody's": {func(p *profile.Profile) {
			p.PrincipalMapping, p.Unmapped = map[string]string{"bob@IPA.TEST": "CN=Bob"}, "refuse"
		}, "principal not mapped"},
		"no value": {
			func(p *profile.Profile) { p.PrincipalMapping, p.Subject = nil, "CN={cn}" },
			"principal not mapped: CN of the subject cannot be filled: the identity has no cn",
		},
		"old login": {func(p *profile.Profile) { p.MaxLoginAge = config.Duration(30 * time.Minute) }, "longer ago than this label allows"},
	} {
		t.Run(name, func(t *testing.T) {
			p := ticketProfile()
			c.change(&p)
			l := ticketLab(t, p)
			if _, err := l.issue(t.Context(), gateway, l.ticket(newKey(t), "1")); !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), c.reason) {
				t.Errorf("answered %v", err)
			}
			if l.told("certificate.refused") != 1 || l.spent() != 0 || l.entries(0) != 0 {
				t.Errorf("%d refusals told, %d spent, %d entries", l.told("certificate.refused"), l.spent(), l.entries(0))
			}
			if told := l.stream.String(); !strings.Contains(told, c.reason) || !strings.Contains(told, `"identity":"alice@IPA.TEST"`) || !strings.Contains(told, `"indicators":"hardened"`) {
				t.Errorf("the record says %s", told)
			}
		})
	}
}
