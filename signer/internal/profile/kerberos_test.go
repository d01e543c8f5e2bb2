package profile_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// user returns a profile for users who come with tickets, changed.
func user(change ...func(*profile.Profile)) profile.Profile {
	return device(append([]func(*profile.Profile){func(p *profile.Profile) {
		p.Label, p.IdentityKinds, p.Methods = "user", []string{"user"}, []string{"negotiate"}
	}}, change...)...)
}

// ticket returns the assertion of alice@IPA.TEST, who logged in an hour ago.
func ticket(change ...func(*assertionv1.Assertion)) *assertionv1.Assertion {
	a := &assertionv1.Assertion{
		Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "user",
		Identity: &assertionv1.Identity{Kind: assertionv1.IdentityKind_IDENTITY_KIND_USER, Realm: "IPA.TEST", Principal: "alice"},
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_NEGOTIATE, LoginTime: timestamppb.New(now.Add(-time.Hour)), VerifiedAt: timestamppb.New(now),
		},
	}
	for _, c := range change {
		c(a)
	}
	return a
}

func as(indicators ...string) func(*assertionv1.Assertion) {
	return func(a *assertionv1.Assertion) { a.Authentication.Indicators = indicators }
}

func of(kind assertionv1.IdentityKind, principal string) func(*assertionv1.Assertion) {
	return func(a *assertionv1.Assertion) { a.Identity.Kind, a.Identity.Principal = kind, principal }
}

// TestLogins: every way to log in against profiles that ask for some and bound others.
func TestLogins(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	const hour = config.Duration(time.Hour)
	ways := []string{"", "hardened", "otp", "radius", "pkinit"}
	for name, test := range map[string]struct {
		profile func(*profile.Profile)
		hours   [5]int // by way; 0 for a refusal
	}{
		"anything": {func(p *profile.Profile) { p.Validity = 10 * hour }, [5]int{10, 10, 10, 10, 10}},
		"two factors": {func(p *profile.Profile) {
			p.Validity, p.RequireIndicators = 10*hour, []string{"otp", "radius"}
		}, [5]int{0, 0, 10, 10, 0}},
		"pkinit alone": {func(p *profile.Profile) {
			p.Validity, p.RequireIndicators = 10*hour, []string{"pkinit"}
		}, [5]int{0, 0, 0, 0, 10}},
		"each its own": {func(p *profile.Profile) {
			p.Validity = 10 * hour
			p.MaxValidity = map[string]config.Duration{"none": hour, "hardened": 2 * hour, "otp": 3 * hour, "radius": 4 * hour, "pkinit": 5 * hour}
		}, [5]int{1, 2, 3, 4, 5}},
		"no more than validity": {func(p *profile.Profile) {
			p.Validity, p.MaxValidity = 2*hour, map[string]config.Duration{"otp": 9 * hour}
		}, [5]int{2, 2, 2, 2, 2}},
		"asked for and bounded": {func(p *profile.Profile) {
			p.Validity, p.RequireIndicators = 10*hour, []string{"hardened", "pkinit"}
			p.MaxValidity = map[string]config.Duration{"hardened": hour, "otp": 3 * hour}
		}, [5]int{0, 1, 0, 0, 10}},
		"without an indicator less": {func(p *profile.Profile) {
			p.Validity, p.MaxValidity = 10*hour, map[string]config.Duration{"none": hour}
		}, [5]int{1, 10, 10, 10, 10}},
	} {
		set := newSet(t, a, user(test.profile))
		for i, way := range ways {
			login := ticket()
			if way != "" {
				as(way)(login)
			}
			template, err := set.Build(login, r, now, serial)
			if test.hours[i] == 0 {
				if !errors.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "demands a stronger authentication") {
					t.Errorf("%s, %q: %v", name, way, err)
				}
				continue
			}
			want := now.Truncate(time.Second).Add(time.Duration(test.hours[i]) * time.Hour)
			if err != nil || !template.NotAfter.Equal(want) {
				t.Errorf("%s, %q: %v, not %v: %v", name, way, template, want, err)
			}
		}
		// Of several the smallest counts.
		if name == "each its own" {
			template, err := set.Build(ticket(as("pkinit", "hardened", "otp")), r, now, serial)
			if err != nil || !template.NotAfter.Equal(now.Truncate(time.Second).Add(2*time.Hour)) {
				t.Errorf("several: %v, %v", template, err)
			}
		}
	}
}

func TestLoginAge(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	set := newSet(t, a, user(func(p *profile.Profile) {
		p.MaxLoginAge, p.Methods = config.Duration(time.Hour), []string{"negotiate", "ldap-otp"}
	}))
	for _, c := range []struct {
		age  time.Duration
		good bool
	}{{time.Hour, true}, {time.Hour + time.Second, false}, {-time.Minute, true}} {
		_, err := set.Build(ticket(func(a *assertionv1.Assertion) { a.Authentication.LoginTime = timestamppb.New(now.Add(-c.age)) }), r, now, serial)
		if (err == nil) != c.good || err != nil && !strings.Contains(err.Error(), "log in again (kinit)") {
			t.Errorf("a login %v ago: %v", c.age, err)
		}
	}
	// No validator says so; if one did, nobody would know how old the login is.
	_, err := set.Build(ticket(func(a *assertionv1.Assertion) { a.Authentication.LoginTime = nil }), r, now, serial)
	if !errors.Is(err, fault.Forbidden) {
		t.Errorf("a ticket without the time of its login: %v", err)
	}
	// A code is a login of now.
	_, err = set.Build(ticket(func(a *assertionv1.Assertion) {
		a.Authentication.Method, a.Authentication.LoginTime = assertionv1.Method_METHOD_LDAP_OTP, nil
	}), r, now, serial)
	if err != nil {
		t.Error(err)
	}
}

// TestSubjects: by mapping, by template, or none.
func TestSubjects(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	full := func(a *assertionv1.Assertion) {
		a.Identity.Uid, a.Identity.Cn, a.Identity.Mail = "al", "Alice, \"A\" <a>", []string{"a@ipa.test", "b@ipa.test"}
	}
	const host, service = assertionv1.IdentityKind_IDENTITY_KIND_HOST, assertionv1.IdentityKind_IDENTITY_KIND_SERVICE
	mapped := func(p *profile.Profile) {
		p.PrincipalMapping = map[string]string{"alice@IPA.TEST": `CN=Alice,O=Rohr\, GmbH`, "host/web.ipa.test@IPA.TEST": "CN=Web"}
	}
	everybody := func(p *profile.Profile) { p.IdentityKinds = []string{"user", "host", "service"} }
	for name, c := range map[string]struct {
		profile []func(*profile.Profile)
		who     []func(*assertionv1.Assertion)
		want    string
		refused string
	}{
		"default":           {want: "CN=alice"},
		"user of many":      {profile: template("CN={user}"), who: []func(*assertionv1.Assertion){of(assertionv1.IdentityKind_IDENTITY_KIND_USER, "alice/admin")}, want: "CN=alice"},
		"principal of many": {profile: template("CN={principal}"), who: []func(*assertionv1.Assertion){of(assertionv1.IdentityKind_IDENTITY_KIND_USER, "alice/admin")}, want: "CN=alice/admin"},
		"all of them":       {profile: template("CN={cn},UID={uid},OU={mail},O={realm}"), who: []func(*assertionv1.Assertion){full}, want: `CN=Alice\, \"A\" \<a\>,OU=a@ipa.test,O=IPA.TEST,0.9.2342.19200300.100.1.1=#1302616c`},
		"host":              {profile: append(template("CN={host}"), everybody), who: []func(*assertionv1.Assertion){of(host, "host/web.ipa.test")}, want: "CN=web.ipa.test"},
		"service":           {profile: append(template("CN={host}"), everybody), who: []func(*assertionv1.Assertion){of(service, "HTTP/web.ipa.test")}, want: "CN=web.ipa.test"},
		"user as host":      {profile: append(template("CN={host}"), everybody), refused: "principal not mapped: CN of the subject cannot be filled: the identity has no host"},
		"host as user":      {profile: append(template("CN={user}"), everybody), who: []func(*assertionv1.Assertion){of(host, "host/web.ipa.test")}, refused: "principal not mapped: CN of the subject cannot be filled: the identity has no user"},
		"no mail":           {profile: template("CN={mail}"), refused: "the identity has no mail"},
		"no name":           {profile: template("CN={cn}"), refused: "the identity has no cn"},
		"mapped":            {profile: []func(*profile.Profile){mapped}, want: `CN=Alice,O=Rohr\, GmbH`},
		"mapped host":       {profile: []func(*profile.Profile){mapped, everybody}, who: []func(*assertionv1.Assertion){of(host, "host/web.ipa.test")}, want: "CN=Web"},
		"not mapped":        {profile: []func(*profile.Profile){mapped}, who: []func(*assertionv1.Assertion){of(assertionv1.IdentityKind_IDENTITY_KIND_USER, "bob")}, want: "CN=bob"},
		"other letters":     {profile: []func(*profile.Profile){mapped}, who: []func(*assertionv1.Assertion){of(assertionv1.IdentityKind_IDENTITY_KIND_USER, "Alice")}, want: "CN=Alice"},
		"another realm":     {profile: []func(*profile.Profile){mapped}, who: []func(*assertionv1.Assertion){func(a *assertionv1.Assertion) { a.Identity.Realm = "OTHER.TEST" }}, want: "CN=alice"},
		"refused": {profile: []func(*profile.Profile){mapped, func(p *profile.Profile) { p.Unmapped = "refuse" }}, who: []func(*assertionv1.Assertion){
			of(assertionv1.IdentityKind_IDENTITY_KIND_USER, "bob"),
		}, refused: "principal not mapped"},
	} {
		t.Run(name, func(t *testing.T) {
			set := newSet(t, a, user(c.profile...))
			if c.refused != "" {
				if _, err := set.Build(ticket(c.who...), r, now, serial); !errors.Is(err, fault.Forbidden) || !strings.Contains(fault.Public(err), c.refused) {
					t.Errorf("%v, not %q", err, c.refused)
				}
				return
			}
			if got := issue(t, a, set, ticket(c.who...), r).Subject.String(); got != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
		})
	}
}

// template returns a change to the subject.
func template(text string) []func(*profile.Profile) {
	return []func(*profile.Profile){func(p *profile.Profile) { p.Subject = text }}
}

// TestHostilePrincipals: what is special in the text of a name is not in a certificate; what
// nobody should see is refused.
func TestHostilePrincipals(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	set := newSet(t, a, user(func(p *profile.Profile) { p.Subject = "CN={principal},O=Example" }))
	for principal, good := range map[string]bool{
		`a,O=Evil`: true, `a+OU=x`: true, `a"b`: true, `a\b`: true, `a<b>c`: true, `a;b`: true, `#0403414243`: true, `a=b`: true,
		"{realm}": true, "jürgen": true, "a\x00b": false, "a\nb": false, "a\u202eb": false, "a\xffb": false, " a": false, "a ": false,
		strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, strings.Repeat("a", 5000): false,
	} {
		says := ticket(of(assertionv1.IdentityKind_IDENTITY_KIND_USER, principal))
		if _, err := set.Build(says, r, now, serial); (err == nil) != good {
			t.Errorf("%.40q: %v", principal, err)
		}
		if !good {
			continue
		}
		c := issue(t, a, set, says, r)
		if len(c.Subject.Names) != 2 || c.Subject.CommonName != principal || !cmp.Equal(c.Subject.Organization, []string{"Example"}) {
			t.Errorf("%.40q: %s", principal, c.Subject)
		}
	}
}

// TestKerberosNames: what OpenSSL reads, and the exact octets of RFC 4556.
func TestKerberosNames(t *testing.T) {
	a := newAuthority(t)
	both := func(p *profile.Profile) { p.KerberosNames = []string{"krb5", "upn"} }
	r := asks(t, newKey(t), x509.CertificateRequest{})
	mail := func(a *assertionv1.Assertion) { a.Identity.Mail = []string{"alice@ipa.test"} }
	c := issue(t, a, newSet(t, a, user(both)), ticket(mail), r)
	const krb5 = "3020a00a1b084950412e54455354a1123010a003020101a10930071b05616c696365"
	value := extension(c, "2.5.29.17")
	if !strings.Contains(hex.EncodeToString(value), krb5) || critical(c, "2.5.29.17") {
		t.Errorf("%x", value)
	}
	path := filepath.Join(t.TempDir(), "c.der")
	if err := os.WriteFile(path, c.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "x509", "-inform", "DER", "-in", path, "-noout", "-ext", "subjectAltName").CombinedOutput()
	if want := "email:alice@ipa.test, othername: 1.3.6.1.5.2.2::<unsupported>, othername: UPN::alice@IPA.TEST"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s", err, out)
	}
	// Without a subject the names are critical (RFC 5280 section 4.2.1.6).
	if c := issue(t, a, newSet(t, a, user(both, func(p *profile.Profile) { p.Subject = "" })), ticket(mail), r); !critical(c, "2.5.29.17") {
		t.Error("the names of a certificate without subject are not critical")
	}
	// A request may ask for exactly what the user is entitled to.
	asking := asks(t, newKey(t), x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}})
	requested := func(p *profile.Profile) { p.SAN = "requested" }
	if c := issue(t, a, newSet(t, a, user(both, requested)), ticket(mail), asking); !cmp.Equal(extension(c, "2.5.29.17"), value) {
		t.Errorf("asked for %x, got %x", value, extension(c, "2.5.29.17"))
	}
	if c := issue(t, a, newSet(t, a, user(both, requested)), ticket(mail), r); extension(c, "2.5.29.17") != nil {
		t.Error("names that nobody asked for")
	}
	bob := of(assertionv1.IdentityKind_IDENTITY_KIND_USER, "bob")
	if _, err := newSet(t, a, user(both)).Build(ticket(bob), asking, now, serial); !errors.Is(err, fault.Forbidden) {
		t.Errorf("bob asked for alice's name: %v", err)
	}
	drops := newSet(t, a, user(both, func(p *profile.Profile) { p.CSRNames = "drop" }))
	if got := string(extension(issue(t, a, drops, ticket(bob), asking), "2.5.29.17")); strings.Contains(got, "alice") || !strings.Contains(got, "bob@IPA.TEST") {
		t.Errorf("bob has the names %q", got)
	}
	for _, principal := range []string{"a@b", `a\b`, "jürgen", "a b", "a/", "/a", "a//b", "a\x00b", "a\x7fb", `a\/b`} {
		if _, err := newSet(t, a, user(both)).Build(ticket(of(assertionv1.IdentityKind_IDENTITY_KIND_USER, principal)), r, now, serial); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%q: %v", principal, err)
		}
	}
	if _, err := newSet(t, a, user(both)).Build(ticket(of(assertionv1.IdentityKind_IDENTITY_KIND_USER, "admin")), r, now, serial); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a protected principal: %v", err)
	}
}

func extension(c *x509.Certificate, oid string) []byte {
	for _, e := range c.Extensions {
		if e.Id.String() == oid {
			return e.Value
		}
	}
	return nil
}

// TestAllNamesTogether: the extension that is written by hand begins with what crypto/x509
// would write.
func TestAllNamesTogether(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	mails := func(a *assertionv1.Assertion) { a.Identity.Mail = []string{"alice@ipa.test", "a.l@ipa.test"} }
	plain := issue(t, a, newSet(t, a, user()), ticket(mails), r)
	c := issue(t, a, newSet(t, a, user(func(p *profile.Profile) { p.KerberosNames = []string{"krb5", "upn"} })), ticket(mails), r)
	before, after := extension(plain, "2.5.29.17"), extension(c, "2.5.29.17")
	if len(before) < 30 || !strings.HasPrefix(hex.EncodeToString(after[2:]), hex.EncodeToString(before[2:])) {
		t.Errorf("%x does not go on from %x", after, before)
	}
	if !cmp.Equal(c.EmailAddresses, []string{"alice@ipa.test", "a.l@ipa.test"}) {
		t.Errorf("names %v", san(c))
	}
}

// TestIndicatorExtension: the octets of RFC 8129, in order, and nothing where there are none.
func TestIndicatorExtension(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	const oid = "1.3.6.1.4.1.99999.1.7"
	set := newSet(t, a, user(func(p *profile.Profile) { p.IndicatorExtension = oid }))
	c := issue(t, a, set, ticket(as("pkinit", "hardened", "pkinit")), r)
	if got := hex.EncodeToString(extension(c, oid)); got != "3012"+"0c08"+hex.EncodeToString([]byte("hardened"))+"0c06"+hex.EncodeToString([]byte("pkinit")) || critical(c, oid) {
		t.Errorf("extension %s", got)
	}
	if c := issue(t, a, set, ticket(), r); extension(c, oid) != nil {
		t.Error("an extension about nothing")
	}
	if c := issue(t, a, newSet(t, a, user()), ticket(as("otp")), r); extension(c, oid) != nil {
		t.Error("an extension that nobody asked for")
	}
}
