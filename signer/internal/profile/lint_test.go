package profile_test

import (
	"crypto/x509"
	"strings"
	"testing"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// TestUsualCertificatesPassTheLint: what a site has every right to issue must not fail in
// the linter, where nobody could do anything about it.
func TestUsualCertificatesPassTheLint(t *testing.T) {
	a := newAuthority(t)
	r := asks(t, newKey(t), x509.CertificateRequest{})
	for _, name := range []string{
		"dns:printer", "dns:host.internal", "dns:*.w.example.test", "dns:xn--bcher-kva.example", "dns:a--b.example.test", "dns:1.example.test",
		"ip:10.0.0.1", "ip:2001:db8::7", "email:a.b+c@example.test", "email:root@localhost",
		"uri:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "uri:spiffe://prod/device/7", "uri:https://host.example.test/x?y=1", "uri:opc.tcp:plc-7",
		"dns:" + strings.Repeat("a", 63) + ".test",
	} {
		template, err := newSet(t, a, device()).Build(says([]string{name}), r, now, serial)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		draft, err := a.Draft(template, r.PublicKey())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := linter(t).Check(draft.Raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for subject, principal := range map[string]string{
		"CN={principal}": "Grüße an 日本", "CN={principal},UID={principal},SERIALNUMBER=1": "a&b <c>", "CN={principal},C=DE": "a;b",
		"CN={principal},STREET=x": "HTTP/web.example.test", "CN={principal},L=y": `a\,b`, "CN={principal},ST=z": "*.x", "DC=test,CN={principal}": "&lt;b&gt;",
	} {
		m := says([]string{"dns:a.test"}, func(m *assertionv1.Assertion) { m.Identity.Principal = principal })
		issue(t, a, newSet(t, a, device(func(p *profile.Profile) { p.Subject = subject })), m, r)
	}
}
