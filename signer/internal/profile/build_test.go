package profile_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/lint"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

var slogDiscard = slog.New(slog.DiscardHandler)

func linter(t testing.TB) *lint.Linter {
	t.Helper()
	l, err := lint.New()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDefaultProfile(t *testing.T) {
	a := newAuthority(t)
	set := newSet(t, a, device())
	r := asks(t, newKey(t), x509.CertificateRequest{Subject: pkix.Name{CommonName: "whatever"}})
	c := issue(t, a, set, says([]string{"dns:pump.example.test", "ip:192.0.2.7", "dns:PUMP.example.test"}), r)
	if got := c.Subject.String(); got != "CN=pump-7" {
		t.Errorf("subject %s", got)
	}
	if got := san(c); !cmp.Equal(got, []string{"dns:pump.example.test", "ip:192.0.2.7"}) {
		t.Errorf("names %v", got)
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature || !cmp.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || c.IsCA {
		t.Errorf("key usage %v, extended %v, authority %v", c.KeyUsage, c.ExtKeyUsage, c.IsCA)
	}
	at := now.Truncate(time.Second)
	if !c.NotBefore.Equal(at.Add(-time.Minute)) || !c.NotAfter.Equal(at.Add(90*24*time.Hour)) {
		t.Errorf("valid %v to %v", c.NotBefore, c.NotAfter)
	}
	if len(c.SubjectKeyId) != 20 || !bytes.Equal(c.AuthorityKeyId, a.Certificate.SubjectKeyId) || c.SerialNumber.Cmp(serial) != 0 {
		t.Error("key identifiers or serial number are wrong")
	}
}

func TestBuildIsDeterministic(t *testing.T) {
	a := newAuthority(t)
	set := newSet(t, a, device())
	r := asks(t, newKey(t), x509.CertificateRequest{})
	var first []byte
	for range 20 {
		template, err := set.Build(says([]string{"dns:b.test", "dns:a.test", "uri:urn:x:1"}), r, now, serial)
		if err != nil {
			t.Fatal(err)
		}
		draft, err := a.Draft(template, r.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = draft.RawTBSCertificate
		}
		if !bytes.Equal(first, draft.RawTBSCertificate) {
			t.Fatal("equal arguments gave another certificate")
		}
	}
}

func TestEveryKeyChangesTheCertificate(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{DNSNames: []string{"a.test"}})
	allowed := []string{"dns:a.test", "dns:b.test"}
	day := config.Duration(24 * time.Hour)
	for name, test := range map[string]struct {
		change func(*profile.Profile)
		check  func(*x509.Certificate) bool
	}{
		"subject": {func(p *profile.Profile) { p.Subject = "CN={principal},OU={label},O=Rohr\\, GmbH,DC={realm}" }, func(c *x509.Certificate) bool {
			return c.Subject.String() == "CN=pump-7,OU=device,O=Rohr\\, GmbH,0.9.2342.19200300.100.1.25=#130744455649434553"
		}},
		"no subject":   {func(p *profile.Profile) { p.Subject = "" }, func(c *x509.Certificate) bool { return len(c.Subject.Names) == 0 && critical(c, "2.5.29.17") }},
		"requested":    {func(p *profile.Profile) { p.SAN = "requested" }, func(c *x509.Certificate) bool { return cmp.Equal(san(c), []string{"dns:a.test"}) }},
		"none":         {func(p *profile.Profile) { p.SAN = "none"; p.CSRNames = "drop" }, func(c *x509.Certificate) bool { return len(san(c)) == 0 }},
		"validity":     {func(p *profile.Profile) { p.Validity = day }, func(c *x509.Certificate) bool { return c.NotAfter.Equal(now.Truncate(time.Second).Add(24 * time.Hour)) }},
		"max_validity": {func(p *profile.Profile) { p.MaxValidity = map[string]config.Duration{"token": day, "otp": day / 2} }, func(c *x509.Certificate) bool { return c.NotAfter.Equal(now.Truncate(time.Second).Add(24 * time.Hour)) }},
		"clamped": {func(p *profile.Profile) { p.Validity = 9999 * day; p.Backdate = day }, func(c *x509.Certificate) bool {
			return c.NotAfter.Equal(a.Certificate.NotAfter) && c.NotBefore.Equal(a.Certificate.NotBefore)
		}},
		"backdate": {func(p *profile.Profile) { p.Backdate = 0 }, func(c *x509.Certificate) bool { return c.NotBefore.Equal(now.Truncate(time.Second)) }},
		"key_usage": {func(p *profile.Profile) { p.KeyUsage = []string{"digitalSignature", "keyAgreement"} }, func(c *x509.Certificate) bool {
			return c.KeyUsage == x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement
		}},
		"ext_key_usage": {func(p *profile.Profile) { p.ExtKeyUsage = []string{"serverAuth", "1.3.6.1.5.5.7.3.17"} }, func(c *x509.Certificate) bool {
			return c.ExtKeyUsage[0] == x509.ExtKeyUsageServerAuth && len(c.UnknownExtKeyUsage) == 1
		}},
		"crl": {func(p *profile.Profile) { p.CRLDistributionPoints = []string{"http://crl.test/ca.crl"} }, func(c *x509.Certificate) bool {
			return cmp.Equal(c.CRLDistributionPoints, []string{"http://crl.test/ca.crl"})
		}},
		"issuer": {func(p *profile.Profile) { p.AIACAIssuers = []string{"http://crl.test/ca.crt"} }, func(c *x509.Certificate) bool {
			return cmp.Equal(c.IssuingCertificateURL, []string{"http://crl.test/ca.crt"})
		}},
		"ocsp": {func(p *profile.Profile) { p.AIAOCSP = []string{"http://ocsp.test"} }, func(c *x509.Certificate) bool { return cmp.Equal(c.OCSPServer, []string{"http://ocsp.test"}) }},
	} {
		t.Run(name, func(t *testing.T) {
			if before := issue(t, a, newSet(t, a, device()), says(allowed), r); test.check(before) {
				t.Error("the default does the same")
			}
			if c := issue(t, a, newSet(t, a, device(test.change)), says(allowed), r); !test.check(c) {
				t.Errorf("subject %s, names %v, %v to %v, usage %v %v", c.Subject, san(c), c.NotBefore, c.NotAfter, c.KeyUsage, c.ExtKeyUsage)
			}
		})
	}
}

func critical(c *x509.Certificate, oid string) bool {
	for _, e := range c.Extensions {
		if e.Id.String() == oid {
			return e.Critical
		}
	}
	return false
}

func TestNamesByKind(t *testing.T) {
	a := newAuthority(t)
	set := newSet(t, a, device(func(p *profile.Profile) { p.IdentityKinds = []string{"host", "service", "user"} }))
	r := asks(t, newKey(t), x509.CertificateRequest{})
	for name, test := range map[string]struct {
		identity *assertionv1.Identity
		want     []string
	}{
		"host": {&assertionv1.Identity{
			Kind: assertionv1.IdentityKind_IDENTITY_KIND_HOST, Principal: "host/Web.example.test", ManagedHosts: []string{"db.example.test"}, Mail: []string{"x@example.test"},
		}, []string{"dns:db.example.test", "dns:web.example.test"}},
		"service": {&assertionv1.Identity{
			Kind: assertionv1.IdentityKind_IDENTITY_KIND_SERVICE, Principal: "HTTP/web.example.test",
		}, []string{"dns:web.example.test"}},
		"user": {&assertionv1.Identity{
			Kind: assertionv1.IdentityKind_IDENTITY_KIND_USER, Principal: "ada", Mail: []string{"ada@example.test"}, ManagedHosts: []string{"db.example.test"},
		}, []string{"email:ada@example.test"}},
	} {
		test.identity.Realm = "EXAMPLE.TEST"
		c := issue(t, a, set, says([]string{"dns:of.token"}, func(m *assertionv1.Assertion) { m.Identity = test.identity }), r)
		if got := san(c); !cmp.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestKeyTypesAreLinted(t *testing.T) {
	a := newAuthority(t)
	set := newSet(t, a, device(func(p *profile.Profile) {
		p.KeyUsage = []string{"digitalSignature", "keyEncipherment", "keyAgreement"}
		p.ExtKeyUsage = []string{"clientAuth", "serverAuth", "emailProtection"}
	}))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, k := range map[x509.KeyUsage]crypto.Signer{
		x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment: rsaKey,
		x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement:    p521,
		x509.KeyUsageDigitalSignature:                                ed,
	} {
		c := issue(t, a, set, says([]string{"dns:a.test", "email:a@b.test"}), asks(t, k, x509.CertificateRequest{}))
		if c.KeyUsage != want {
			t.Errorf("%T: key usage %v, want %v", k, c.KeyUsage, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	a := newAuthority(t)
	k := newKey(t)
	plain := x509.CertificateRequest{}
	wrong := make([]byte, 32)
	for name, test := range map[string]struct {
		profile profile.Profile
		says    func(*assertionv1.Assertion)
		asks    x509.CertificateRequest
		want    string
	}{
		"label":          {device(), func(m *assertionv1.Assertion) { m.Label = "other" }, plain, `no profile for the label "other"`},
		"reenroll":       {device(), func(m *assertionv1.Assertion) { m.Operation = assertionv1.Operation_OPERATION_REENROLL }, plain, "nothing to renew"},
		"no operation":   {device(), func(m *assertionv1.Assertion) { m.Operation = 0 }, plain, "no such operation"},
		"kind":           {device(), func(m *assertionv1.Assertion) { m.Identity.Kind = assertionv1.IdentityKind_IDENTITY_KIND_USER }, plain, "kind of identity"},
		"realm":          {device(func(p *profile.Profile) { p.Realms = []string{"OTHER"} }), nil, plain, "realm"},
		"method":         {device(), func(m *assertionv1.Assertion) { m.Authentication.Method = assertionv1.Method_METHOD_CERTIFICATE }, plain, "way of authentication"},
		"indicator":      {device(func(p *profile.Profile) { p.RequireIndicators = []string{"otp", "pkinit"} }), nil, plain, "stronger"},
		"group":          {device(func(p *profile.Profile) { p.RequireGroups = []string{"vpn", "staff"} }), func(m *assertionv1.Assertion) { m.Identity.Groups = []string{"editors"} }, plain, "members of other groups"},
		"no group":       {device(func(p *profile.Profile) { p.RequireGroups = []string{"vpn"} }), nil, plain, "members of other groups"},
		"bound key":      {device(), func(m *assertionv1.Assertion) { m.Token.RequiredSpkiSha256 = wrong }, plain, "bound to another key"},
		"protected":      {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "Admin" }, plain, "protected"},
		"protected uid":  {device(), func(m *assertionv1.Assertion) { m.Identity.Uid = "admin" }, plain, "protected"},
		"with realm":     {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "root" }, plain, "protected"},
		"wide letters":   {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "\uff21dmin" }, plain, "protected"},
		"wide uid":       {device(), func(m *assertionv1.Assertion) { m.Identity.Uid = "\uff52oot" }, plain, "protected"},
		"protected wide": {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "Operator" }, plain, "protected"},
		"own realm":      {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "Admin@OTHER" }, plain, "protected"},
		"wide at":        {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "root\uff20OTHER" }, plain, "protected"},
		"instance":       {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "admin/pump-7.test" }, plain, "protected"},
		"both":           {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "admin/a@OTHER" }, plain, "protected"},
		"URI host":       {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"uri:https://IPA.example.test:8443/x"} }, plain, "protected"},
		"URI address":    {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"uri:https://[2001:db8::1]/x"} }, plain, "protected"},
		"mail domain":    {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"email:root@ipa.EXAMPLE.test"} }, plain, "protected"},
		"protected dns":  {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"dns:ipa.EXAMPLE.test"} }, plain, "protected"},
		"protected ip":   {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"ip:2001:db8:0::1"} }, plain, "protected"},
		"wildcard":       {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"dns:*.example.test"} }, plain, "protected"},
		"protected CN":   {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "IPA.example.test" }, plain, "protected"},
		"key type":       {device(func(p *profile.Profile) { p.KeyTypes = []string{"ed25519"} }), nil, plain, "keys of type p256"},
		"foreign name":   {device(), nil, x509.CertificateRequest{DNSNames: []string{"b.test"}}, `the name "dns:b.test"`},
		"under wildcard": {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"dns:*.x.test"} }, x509.CertificateRequest{DNSNames: []string{"a.x.test"}}, "may not have"},
		"name with none": {device(func(p *profile.Profile) { p.SAN = "none" }), nil, x509.CertificateRequest{DNSNames: []string{"a.test"}}, "may not have"},
		"subject":        {device(func(p *profile.Profile) { p.CSRSubject = "match" }), nil, x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-8"}}, "subject of the request"},
		"extension":      {device(func(p *profile.Profile) { p.CSRExtensions = "refuse" }), nil, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 0}}}}, "2.5.29.19"},
		"challenge":      {device(func(p *profile.Profile) { p.ChallengePassword = "require" }), nil, plain, "challengePassword"},
		"no uid":         {device(func(p *profile.Profile) { p.Subject = "UID={uid}" }), nil, plain, "has no uid"},
		"long name":      {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = strings.Repeat("a", 65) }, plain, "65 characters"},
		"hostile name":   {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "a\u202eb" }, plain, "must not stand"},
		"no name":        {device(func(p *profile.Profile) { p.Subject = "" }), func(m *assertionv1.Assertion) { m.Token.AllowedNames = nil }, plain, "no name at all"},
		"server":         {device(func(p *profile.Profile) { p.ExtKeyUsage = []string{"serverAuth"} }), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"email:a@b.test"} }, plain, "DNS name or an address"},
		"authority":      {device(), func(m *assertionv1.Assertion) { m.Identity.Principal = "Test CA" }, plain, "that of the authority"},
		"bad name":       {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"dns:a b"} }, plain, "cannot stand"},
		"other name":     {device(), func(m *assertionv1.Assertion) { m.Token.AllowedNames = []string{"rid:1.2.3"} }, plain, "are not issued"},
	} {
		t.Run(name, func(t *testing.T) {
			m := says([]string{"dns:a.test"})
			if test.says != nil {
				test.says(m)
			}
			_, err := newSet(t, a, test.profile).Build(m, asks(t, k, test.asks), now, serial)
			if !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), test.want) {
				t.Errorf("got %v, want Forbidden with %q", err, test.want)
			}
		})
	}
}

func TestWhatIsLikeARefusalAndIsNone(t *testing.T) {
	a := newAuthority(t)
	k := newKey(t)
	spki := asks(t, k, x509.CertificateRequest{}).SPKISHA256()
	strict := device(func(p *profile.Profile) {
		p.CSRSubject, p.CSRExtensions, p.Realms, p.RequireIndicators = "match", "refuse", []string{"DEVICES"}, []string{"otp", "token"}
		p.RequireGroups = []string{"vpn", "pumps"}
	})
	allowed := []string{"dns:*.x.test", "dns:a.test"}
	for name, r := range map[string]x509.CertificateRequest{
		"empty subject":    {},
		"equal subject":    {Subject: pkix.Name{CommonName: "PUMP-7"}},
		"literal wildcard": {DNSNames: []string{"*.x.test", "a.test"}},
	} {
		m := says(allowed, func(m *assertionv1.Assertion) {
			m.Token.RequiredSpkiSha256, m.Identity.Groups = spki[:], []string{"editors", "pumps"}
		})
		if _, err := newSet(t, a, strict).Build(m, asks(t, k, r), now, serial); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	drops := device(func(p *profile.Profile) { p.CSRNames = "drop" })
	c := issue(t, a, newSet(t, a, drops), says(allowed), asks(t, k, x509.CertificateRequest{DNSNames: []string{"evil.test"}, IPAddresses: []net.IP{{192, 0, 2, 1}}}))
	if got := san(c); !cmp.Equal(got, []string{"dns:*.x.test", "dns:a.test"}) {
		t.Errorf("names %v", got)
	}
}

func TestEndOfTheAuthorityAndBadSerials(t *testing.T) {
	a := newAuthority(t)
	set := newSet(t, a, device())
	r := asks(t, newKey(t), x509.CertificateRequest{})
	for _, at := range []time.Time{a.Certificate.NotAfter, a.Certificate.NotAfter.Add(time.Hour), a.Certificate.NotBefore.Add(-time.Second)} {
		if _, err := set.Build(says(nil), r, at, serial); !errors.Is(err, fault.Unavailable) {
			t.Errorf("at %v: %v", at, err)
		}
	}
	for _, bad := range []*big.Int{nil, big.NewInt(0), big.NewInt(-1), new(big.Int).Lsh(big.NewInt(1), 159)} {
		if _, err := set.Build(says(nil), r, now, bad); !errors.Is(err, fault.Internal) {
			t.Errorf("serial %v: %v", bad, err)
		}
	}
}

func TestTheAuthoritysOwnKey(t *testing.T) {
	k := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: now, NotAfter: now.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	set, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{device()}, Authority: authority})
	if err != nil {
		t.Fatal(err)
	}
	_, err = set.Build(says(nil), asks(t, k, x509.CertificateRequest{}), now, serial)
	if !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), "own key") {
		t.Errorf("%v", err)
	}
}
