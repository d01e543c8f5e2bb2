package profile_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/subjectid"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

const (
	month = 30 * 24 * time.Hour
	aDay  = config.Duration(24 * time.Hour)
)

// renewing is the profile of devices that renew what they have, for 200 days.
func renewing(change ...func(*profile.Profile)) profile.Profile {
	return device(append([]func(*profile.Profile){func(p *profile.Profile) {
		p.Methods, p.MaxChainAge = []string{"token", "certificate"}, "200d"
	}}, change...)...)
}

// presents turns a statement into one of who has proved themselves by a certificate.
func presents(m *assertionv1.Assertion) *assertionv1.Assertion {
	m = proto.CloneOf(m)
	m.Operation, m.Token = assertionv1.Operation_OPERATION_REENROLL, nil
	m.Authentication.Method, m.Authentication.Indicators = assertionv1.Method_METHOD_CERTIFICATE, []string{"x509"}
	m.PresentedCertificate = &assertionv1.PresentedCertificate{AnchorSha256: make([]byte, 32)}
	return m
}

// renewal is a certificate with what it was issued for.
type renewal struct {
	key   crypto.Signer
	first *assertionv1.Assertion
	asks  x509.CertificateRequest
	p     profile.Predecessor
	set   *profile.Set
}

func newRenewal(t *testing.T, profiles ...profile.Profile) *renewal {
	t.Helper()
	a := newAuthority(t)
	set, err := profile.NewSet(profile.Config{Profiles: profiles, Authority: a.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	n := &renewal{
		key: newKey(t), set: set, first: says([]string{"dns:pump.example.test", "ip:192.0.2.7"}),
		asks: x509.CertificateRequest{Subject: pkix.Name{CommonName: "as the device sees it"}},
	}
	n.first.Authentication.VerifiedAt = timestamppb.New(now)
	r := asks(t, n.key, n.asks)
	n.p = profile.Predecessor{
		Certificate: issue(t, a, set, n.first, r), Request: r, Label: "device", IssuedAt: now, LoginAt: now, Indicators: []string{"token"},
		Until: set.LineEnd("device", now, time.Time{}),
	}
	return n
}

func (n *renewal) renew(t *testing.T, key crypto.Signer, request x509.CertificateRequest, at time.Time) (*x509.Certificate, error) {
	t.Helper()
	return n.set.Renew(presents(n.first), asks(t, key, request), at, big.NewInt(9), n.p)
}

// TestRenewal: the same names, whether the request spells them as the certificate does or as the
// first request did, and time anew.
func TestRenewal(t *testing.T) {
	n := newRenewal(t, renewing())
	own := n.p.Certificate
	for name, request := range map[string]x509.CertificateRequest{
		"as before":            n.asks,
		"from the certificate": {RawSubject: own.RawSubject, DNSNames: own.DNSNames, IPAddresses: own.IPAddresses},
		"in other letters":     {Subject: pkix.Name{CommonName: "PUMP-7"}, IPAddresses: own.IPAddresses, DNSNames: []string{"PUMP.example.test"}},
	} {
		at := now.Add(month)
		c, err := n.renew(t, n.key, request, at)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(c.RawSubject, own.RawSubject) || !slices.Equal(san(c), san(own)) || !c.NotAfter.Equal(at.Truncate(time.Second).Add(3*month)) {
			t.Errorf("%s: %s, %v, until %v", name, c.Subject, san(c), c.NotAfter)
		}
		e := &x509.Certificate{Extensions: c.ExtraExtensions}
		if id, err := subjectid.Read(e); err != nil || id.String() != "pump-7@DEVICES" {
			t.Errorf("%s: it is %v's, %v", name, id, err)
		}
	}
}

// TestRekey: another key in the last third alone, never, or always.
func TestRekey(t *testing.T) {
	for _, c := range []struct {
		rekey string
		after time.Duration
		good  bool
	}{
		{"in-window", 59 * 24 * time.Hour, false},
		{"in-window", 61 * 24 * time.Hour, true},
		{"same-key", 61 * 24 * time.Hour, false},
		{"any", time.Hour, true},
	} {
		n := newRenewal(t, renewing(func(p *profile.Profile) { p.Rekey = c.rekey }))
		if warned := len(n.set.AnyKey()) > 0; warned != (c.rekey == "any") {
			t.Errorf("%s: warned of: %v", c.rekey, warned)
		}
		if _, err := n.renew(t, n.key, n.asks, now.Add(c.after)); err != nil {
			t.Errorf("%s: the same key after %v: %v", c.rekey, c.after, err)
		}
		if _, err := n.renew(t, newKey(t), n.asks, now.Add(c.after)); (err == nil) != c.good || err != nil && !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s: another key after %v: %v", c.rekey, c.after, err)
		}
	}
}

// TestWindowIsNotBackdated: of a short certificate the window is the last third of what is left of
// it, not of the time before its issue.
func TestWindowIsNotBackdated(t *testing.T) {
	n := newRenewal(t, renewing(func(p *profile.Profile) {
		p.Validity, p.Backdate = config.Duration(30*time.Minute), config.Duration(2*time.Hour)
	}))
	for after, good := range map[time.Duration]bool{19 * time.Minute: false, 21 * time.Minute: true} {
		if _, err := n.renew(t, newKey(t), n.asks, now.Add(after)); (err == nil) != good {
			t.Errorf("another key after %v: %v", after, err)
		}
	}
}

// TestLine: renewals end with the line, and the login that began it bounds each of them.
func TestLine(t *testing.T) {
	n := newRenewal(t, renewing(func(p *profile.Profile) {
		p.MaxValidity = map[string]config.Duration{"token": 60 * aDay, "x509": 80 * aDay}
	}))
	c, err := n.renew(t, n.key, n.asks, now.Add(month))
	if err != nil || !c.NotAfter.Equal(now.Truncate(time.Second).Add(3*month)) {
		t.Errorf("what the login is worth: until %v, %v", c.NotAfter, err)
	}
	end := now.Truncate(time.Second).Add(200 * 24 * time.Hour)
	if c, err = n.renew(t, n.key, n.asks, end.Add(-time.Hour)); err != nil || !c.NotAfter.Equal(end) {
		t.Errorf("an hour before the end: until %v, %v", c.NotAfter, err)
	}
	if _, err = n.renew(t, n.key, n.asks, end.Add(-time.Second)); !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), "max_chain_age") {
		t.Errorf("at the end: %v", err)
	}
	n.p.Until = now.Add(2 * month)
	if c, err = n.renew(t, n.key, n.asks, now.Add(month)); err != nil || !c.NotAfter.Equal(n.p.Until.Truncate(time.Second)) {
		t.Errorf("what was said before: until %v, %v", c.NotAfter, err)
	}
	// The first of a line is bounded too.
	first := newRenewal(t, renewing(func(p *profile.Profile) { p.MaxChainAge = "30d" }))
	if !first.p.Certificate.NotAfter.Equal(now.Truncate(time.Second).Add(month)) {
		t.Errorf("the first: until %v", first.p.Certificate.NotAfter)
	}
	without := newRenewal(t, renewing(func(p *profile.Profile) { p.MaxChainAge = "unlimited" }))
	if !without.p.Until.IsZero() {
		t.Errorf("a line without end ends at %v", without.p.Until)
	}
	if c, err := without.renew(t, without.key, without.asks, now.Add(10*month)); err != nil || !c.NotAfter.After(now.Add(10*month)) {
		t.Errorf("a line without end: %v", err)
	}
}

// TestRenewalIsRefused: each for its reason, which the client is told.
func TestRenewalIsRefused(t *testing.T) {
	same := func(*renewal) {}
	changeName, err := asn1.Marshal(struct{ Subject pkix.RDNSequence }{pkix.Name{CommonName: "b"}.ToRDNSequence()})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		profile profile.Profile
		change  func(*renewal)
		want    string
	}{
		"another subject": {renewing(), func(n *renewal) { n.asks.Subject.CommonName = "pump-8" }, "subject of the request is not that"},
		"no subject":      {renewing(), func(n *renewal) { n.asks.Subject = pkix.Name{} }, "subject of the request is not that"},
		"another name":    {renewing(func(p *profile.Profile) { p.CSRNames = "drop" }), func(n *renewal) { n.asks.DNSNames = []string{"b.test"} }, "alternative names of the request"},
		"a name less":     {renewing(), func(n *renewal) { n.asks.DNSNames = []string{"pump.example.test"} }, "alternative names of the request"},
		"another label":   {renewing(), func(n *renewal) { n.p.Label = "users" }, "under another label"},
		"other indicator": {renewing(func(p *profile.Profile) { p.RequireIndicators = []string{"token"} }), func(n *renewal) { n.p.Indicators = []string{"hardened"} }, "stronger authentication"},
		"no certificates": {device(), same, "way of authentication"},
		"change of name": {renewing(), func(n *renewal) {
			n.asks.ExtraExtensions = nil
			n.asks.Attributes = []pkix.AttributeTypeAndValueSET{{ //nolint:staticcheck // no other way to an attribute that crypto/x509 does not know
				Type: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, 36}, Value: [][]pkix.AttributeTypeAndValue{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: string(changeName)}}},
			}}
		}, "ChangeSubjectName"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newRenewal(t, renewing())
			set, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{c.profile}, Authority: newAuthority(t).Certificate})
			if err != nil {
				t.Fatal(err)
			}
			n.set = set
			c.change(n)
			if _, err := n.renew(t, n.key, n.asks, now.Add(month)); !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), c.want) {
				t.Errorf("got %v, want Forbidden with %q", err, c.want)
			}
		})
	}
}

// TestRulesHoldAnew: what the operator has taken back since the first certificate is not renewed.
func TestRulesHoldAnew(t *testing.T) {
	n := newRenewal(t, renewing())
	authority := newAuthority(t).Certificate
	for name, c := range map[string]struct {
		config profile.Config
		want   string
	}{
		"a protected name":      {profile.Config{Profiles: []profile.Profile{renewing()}, Protected: profile.Protected{Names: []string{"dns:pump.example.test"}}}, "protected"},
		"a protected subject":   {profile.Config{Profiles: []profile.Profile{renewing()}, Protected: profile.Protected{Names: []string{"dns:pump-7"}}}, "protected"},
		"a protected principal": {profile.Config{Profiles: []profile.Profile{renewing()}, Protected: profile.Protected{Principals: []string{"pump-7"}}}, "protected"},
		"no names any more":     {profile.Config{Profiles: []profile.Profile{renewing(func(p *profile.Profile) { p.SAN = "none" })}}, "issues none any more"},
		"not mapped any more": {profile.Config{Profiles: []profile.Profile{renewing(func(p *profile.Profile) {
			p.Unmapped, p.PrincipalMapping = "refuse", map[string]string{"pump-8@DEVICES": "CN=pump-8"}
		})}}, "not mapped"},
		"another kind of key": {profile.Config{Profiles: []profile.Profile{renewing(func(p *profile.Profile) { p.KeyTypes = []string{"p384"} })}}, "keys of type"},
	} {
		c.config.Authority = authority
		set, err := profile.NewSet(c.config)
		if err != nil {
			t.Fatal(err)
		}
		n.set = set
		if _, err := n.renew(t, n.key, n.asks, now.Add(month)); !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), c.want) {
			t.Errorf("%s: got %v, want Forbidden with %q", name, err, c.want)
		}
	}
}

// TestForeignCertificates: those of an authority that the label names enrol as devices; others do
// not, and none is renewed.
func TestForeignCertificates(t *testing.T) {
	anchor := bytes.Repeat([]byte{7}, 32)
	set := newSet(t, newAuthority(t), renewing(func(p *profile.Profile) { p.CertificateAnchors = []string{strings.ToUpper(hex.EncodeToString(anchor))} }))
	m := presents(says(nil))
	m.Operation = assertionv1.Operation_OPERATION_ENROLL
	m.Authentication.VerifiedAt = timestamppb.New(now)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	if _, err := set.Build(m, r, now, serial); !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), "of that authority") {
		t.Errorf("another authority's: %v", err)
	}
	m.PresentedCertificate.AnchorSha256 = anchor
	if c, err := set.Build(m, r, now, serial); err != nil || c.NotAfter.Before(now.Add(month)) {
		t.Errorf("the manufacturer's: %v", err)
	}
	m.Identity.Kind = assertionv1.IdentityKind_IDENTITY_KIND_HOST
	if _, err := set.Build(m, r, now, serial); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a host by a manufacturer's certificate: %v", err)
	}
}

// TestRenewsOtherLabels: only where it says so, and the guard of PKINIT follows such lines.
func TestRenewsOtherLabels(t *testing.T) {
	other := renewing(func(p *profile.Profile) { p.Label, p.Renews = "long", []string{"device"} })
	n := newRenewal(t, renewing(), other)
	m := presents(n.first)
	m.Label = "long"
	if _, err := n.set.Renew(m, asks(t, n.key, n.asks), now, big.NewInt(9), n.p); err != nil {
		t.Error(err)
	}
	passwords := device(func(p *profile.Profile) {
		p.Label, p.IdentityKinds, p.Methods = "passwords", []string{"user"}, []string{"ldap-password"}
	})
	cards := device(func(p *profile.Profile) {
		p.Label, p.IdentityKinds, p.Methods = "cards", []string{"user"}, []string{"ldap-otp", "certificate"}
		p.ExtKeyUsage, p.MaxChainAge = []string{"pkinitClient"}, "30d"
	})
	tickets := device(func(p *profile.Profile) {
		p.Label, p.IdentityKinds, p.Methods = "tickets", []string{"user"}, []string{"negotiate"}
		p.MaxValidity = map[string]config.Duration{"none": aDay}
	})
	check := func() (problems []string) {
		profile.CheckPKINIT([]profile.Profile{passwords, cards, tickets}, func(_ int, _, format string, _ ...any) { problems = append(problems, format) })
		return problems
	}
	if problems := check(); len(problems) != 0 {
		t.Errorf("without renews: %v", problems)
	}
	// Also where the renewal's own indicator is the one that is demanded, and by other authorities.
	cards.RequireIndicators, cards.Renews = []string{"x509"}, []string{"passwords"}
	if problems := check(); len(problems) != 1 {
		t.Errorf("a password alone is made a ticket by pkinit, by x509: %v", problems)
	}
	cards.Renews, cards.RequireIndicators = nil, nil
	passwords.IdentityKinds, passwords.CertificateAnchors = []string{"user", "device"}, []string{strings.Repeat("0", 64)}
	passwords.Methods, passwords.MaxChainAge = []string{"ldap-password", "certificate"}, "1d"
	cards.Renews = []string{"passwords"}
	if problems := check(); len(problems) < 2 {
		t.Errorf("another authority's certificate is made a ticket by pkinit: %v", problems)
	}
	passwords.CertificateAnchors = nil
	if problems := check(); len(problems) != 1 {
		t.Errorf("a password alone is made a ticket by pkinit: %v", problems)
	}
}
