package profile_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os/exec"
	"strings"
	"testing"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// subjectByOpenSSL returns the subject as OpenSSL writes it, escaped as RFC 2253 says.
func subjectByOpenSSL(t *testing.T, c *x509.Certificate) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb,utf8")
	command.Stdin = bytes.NewReader(c.Raw)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "subject=")
}

// TestSpecialsToOthers: what is special in the text of a name (RFC 4514 section 2.4) is one
// value to others too, whichever placeholder it comes by.
func TestSpecialsToOthers(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	for value, want := range map[string]string{
		"alice":         "alice",
		"a,O=Evil":      `a\,O=Evil`,
		"a+OU=x":        `a\+OU=x`,
		`a"b`:           `a\"b`,
		`a\b`:           `a\\b`,
		"a<b>c":         `a\<b\>c`,
		"a;b":           `a\;b`,
		"a=b":           "a=b",
		"#0403414243":   `\#0403414243`,
		"a#b":           "a#b",
		`a\,CN=admin`:   `a\\\,CN=admin`,
		"jürgen":        "jürgen",
		"日本":            "日本",
		"xn--jrgen-kva": "xn--jrgen-kva",
		"{realm}":       "{realm}",
		"a, b":          `a\, b`,
	} {
		for placeholder, set := range map[string]func(*assertionv1.Identity){
			"{principal}": func(id *assertionv1.Identity) { id.Principal = value },
			"{user}":      func(id *assertionv1.Identity) { id.Principal = value + "/x" },
			"{realm}":     func(id *assertionv1.Identity) { id.Realm = value },
			"{uid}":       func(id *assertionv1.Identity) { id.Uid = value },
			"{cn}":        func(id *assertionv1.Identity) { id.Cn = value },
		} {
			p := user(func(p *profile.Profile) { p.Subject = "CN=" + placeholder + ",O=Example" })
			c := issue(t, a, newSet(t, a, p), ticket(func(a *assertionv1.Assertion) { set(a.Identity) }), r)
			if got := subjectByOpenSSL(t, c); got != "CN="+want+",O=Example" || len(c.Subject.Names) != 2 {
				t.Errorf("%s of %q: openssl reads %s", placeholder, value, got)
			}
		}
	}
}

// TestMappedSubjectsToOthers: what principal_mapping escapes is read as it was meant.
func TestMappedSubjectsToOthers(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	for text, want := range map[string]string{
		`CN=Smith\, Jones \2B Co\;,O=Example`: `CN=Smith\, Jones \+ Co\;,O=Example`,
		`CN=\#1 \"a\" \<b\>,UID=a\=b`:         `CN=\#1 \"a\" \<b\>,UID=a=b`,
		`CN=\c3\bc,DC=ipa,DC=test`:            `CN=ü,DC=ipa,DC=test`,
	} {
		p := user(func(p *profile.Profile) { p.PrincipalMapping = map[string]string{"alice@IPA.TEST": text} })
		if got := subjectByOpenSSL(t, issue(t, a, newSet(t, a, p), ticket(), r)); got != want {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// TestUnfitValues: what nobody could tell apart, or what does not fit, is refused by whichever
// placeholder it comes, and the refusal repeats none of it.
func TestUnfitValues(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	set := newSet(t, a, user(func(p *profile.Profile) { p.Subject, p.SAN = "CN={cn},O={uid},OU={mail},L={principal}", "none" }))
	fill := func(a *assertionv1.Assertion) {
		a.Identity.Cn, a.Identity.Uid, a.Identity.Mail = "Alice", "alice", []string{"alice@ipa.test"}
	}
	if _, err := set.Build(ticket(fill), r, now, serial); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{
		"a\x00b", "a\nb", "a\tb", "a\x7fb", "a\u202eb", "a\u2066b", "a\u200bb", "\ufeffa", "a\u00a0b", " a", "a ", "a  b", " ", "a\xffb", strings.Repeat("a", 5000),
	} {
		for name, put := range map[string]func(*assertionv1.Identity){
			"principal": func(id *assertionv1.Identity) { id.Principal = value },
			"uid":       func(id *assertionv1.Identity) { id.Uid = value },
			"cn":        func(id *assertionv1.Identity) { id.Cn = value },
			"mail":      func(id *assertionv1.Identity) { id.Mail = []string{value} },
		} {
			_, err := set.Build(ticket(fill, func(a *assertionv1.Assertion) { put(a.Identity) }), r, now, serial)
			if said := fault.Public(err); !errors.Is(err, fault.Forbidden) || len(said) > 300 || strings.ContainsAny(said, "\x00\n\u202e\u200b") {
				t.Errorf("%s %.20q: %v", name, value, err)
			}
		}
	}
}
