package profile_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// upnOfAdmin is the UPN admin@IPA.TEST.
const upnOfAdmin = "other:1.3.6.1.4.1.311.20.2.3:0c0e61646d696e404950412e54455354"

// TestOtherNamesAreMadeHere: a name that logs people in is not taken from anybody. Else a
// validator that was taken could have a device be any user, a protected one too.
func TestOtherNamesAreMadeHere(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	everybody := func(p *profile.Profile) {
		p.Label, p.IdentityKinds, p.Methods = "user", []string{"device", "user", "host"}, []string{"token", "negotiate"}
	}
	named := user(func(p *profile.Profile) { p.KerberosNames = []string{"krb5", "upn"} })
	mail := func(a *assertionv1.Assertion) { a.Identity.Mail = []string{upnOfAdmin} }
	manages := func(a *assertionv1.Assertion) { a.Identity.ManagedHosts = []string{upnOfAdmin} }
	for name, c := range map[string]struct {
		profile profile.Profile
		says    *assertionv1.Assertion
	}{
		"device":                {device(), says([]string{upnOfAdmin})},
		"device beside a name":  {device(), says([]string{"dns:pump-7.test", upnOfAdmin})},
		"principal of Kerberos": {device(), says([]string{"other:1.3.6.1.5.2.2:3020a00a1b084950412e54455354a1123010a003020101a10930071b05616c696365"})},
		"any other":             {device(), says([]string{"other:1.3.6.1.4.1.99999.1:0c0161"})},
		"no names wanted":       {device(func(p *profile.Profile) { p.SAN = "none" }), says([]string{upnOfAdmin})},
		"only on request":       {device(func(p *profile.Profile) { p.SAN = "requested" }), says([]string{upnOfAdmin})},
		"mail":                  {device(everybody), ticket(mail)},
		"mail of a named user":  {named, ticket(mail)},
		"managed host":          {device(everybody), ticket(of(assertionv1.IdentityKind_IDENTITY_KIND_HOST, "host/a.test"), manages)},
		"a device among users":  {named, ticket(of(assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, "pump-7"))},
	} {
		if template, err := newSet(t, a, c.profile).Build(c.says, r, now, serial); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v, %v", name, template, err)
		}
	}
	// What a token allows is nothing to a user: the names are those of the principal.
	c := issue(t, a, newSet(t, a, named), ticket(func(a *assertionv1.Assertion) {
		a.Token = &assertionv1.EnrolmentToken{Id: "t", AllowedNames: []string{upnOfAdmin}}
	}), r)
	if names := string(extension(c, "2.5.29.17")); !strings.Contains(names, "alice@IPA.TEST") || strings.Contains(names, "admin") {
		t.Errorf("names %q", names)
	}
}

// TestProtectedOtherNames: what is protected is so in this form too.
func TestProtectedOtherNames(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	p := user(func(p *profile.Profile) { p.KerberosNames = []string{"krb5", "upn"} })
	for name, c := range map[string]struct {
		protected profile.Protected
		who       string
		good      bool
	}{
		"principal":          {profile.Protected{Principals: []string{"admin"}}, "admin", false},
		"other case":         {profile.Protected{Principals: []string{"admin"}}, "ADMIN", false},
		"instance":           {profile.Protected{Principals: []string{"admin"}}, "admin/ssh", false},
		"with its realm":     {profile.Protected{Principals: []string{"admin@IPA.TEST"}}, "admin", false},
		"of another realm":   {profile.Protected{Principals: []string{"admin@OTHER.TEST"}}, "admin", true},
		"the name":           {profile.Protected{Names: []string{upnOfAdmin}}, "admin", false},
		"the name of others": {profile.Protected{Names: []string{upnOfAdmin}}, "alice", true},
	} {
		set, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{p}, Authority: a.Certificate, Protected: c.protected})
		if err != nil {
			t.Fatal(err)
		}
		_, err = set.Build(ticket(of(assertionv1.IdentityKind_IDENTITY_KIND_USER, c.who)), r, now, serial)
		if (err == nil) != c.good || err != nil && !strings.Contains(fault.Public(err), "protected") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostNames: hosts and services have the names of hosts, and no others.
func TestHostNames(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	set := newSet(t, a, user(func(p *profile.Profile) { p.IdentityKinds = []string{"host", "service"} }))
	const host, service = assertionv1.IdentityKind_IDENTITY_KIND_HOST, assertionv1.IdentityKind_IDENTITY_KIND_SERVICE
	for _, c := range []struct {
		kind      assertionv1.IdentityKind
		principal string
		manages   []string
		want      string // nothing for a refusal
	}{
		{host, "host/web.ipa.test", nil, "dns:web.ipa.test"},
		{host, "host/WEB.ipa.test", nil, "dns:web.ipa.test"},
		{host, "host/web.ipa.test", []string{"db.ipa.test", "web.ipa.test"}, "dns:db.ipa.test dns:web.ipa.test"},
		{service, "HTTP/xn--bcher-kva.test", nil, "dns:xn--bcher-kva.test"},
		{host, "host/*.ipa.test", nil, ""},
		{service, "HTTP/*.ipa.test", nil, ""},
		{host, "host/web.ipa.test", []string{"*.ipa.test"}, ""},
		{host, "host/web.ipa.test", []string{"ipa.example.test"}, ""},
		{host, "host/ipa.example.test", nil, ""},
		{host, "host/bücher.test", nil, ""},
		{host, "host/xn--a.test", nil, ""},
		{host, "host/192.0.2.7", nil, ""},
		{host, "host/web.ipa.test.", nil, ""},
		{host, "host/web ipa.test", nil, ""},
		{host, "host/web.ipa.test/more", nil, ""},
		{host, "host/web.ipa.test\x00.evil.test", nil, ""},
		{host, "host/web.ipa.test,dns:evil.test", nil, ""},
		{host, "host/", nil, ""},
		{host, "web.ipa.test", nil, ""},
		{host, "host/" + strings.Repeat("a", 64) + ".test", nil, ""},
		{host, "host/" + strings.Repeat("a.", 2500) + "test", nil, ""},
	} {
		m := ticket(of(c.kind, c.principal), func(a *assertionv1.Assertion) { a.Identity.ManagedHosts = c.manages })
		if c.want == "" {
			if _, err := set.Build(m, r, now, serial); !errors.Is(err, fault.Forbidden) {
				t.Errorf("%.60q: %v", c.principal, err)
			}
			continue
		}
		if got := strings.Join(san(issue(t, a, set, m, r)), " "); got != c.want {
			t.Errorf("%q: %s", c.principal, got)
		}
	}
}
