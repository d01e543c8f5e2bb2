package systest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// TestTicketCircle: a code gets a certificate for PKINIT, that gets a ticket from a MIT KDC
// that trusts the authority, and the ticket gets the next certificate, which is worth no more
// than the code was. A configuration in which it would be is refused.
func TestTicketCircle(t *testing.T) {
	t.Parallel()
	lab(t, "kdc")
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1}, "")
	kdc := besideKDC(t, filepath.Join(c.s.state, "signer/ca.crt"))
	user := kdc["OTP_USER"]
	c.ipa.AddUser(ipatest.User{UID: user, Password: accountPassword, AuthTypes: []string{"otp"}})
	c.ipa.AddToken(ipatest.Token{ID: user, Owner: user, HOTP: true})
	s := labTickets(t, kdc, t.TempDir())
	const names = `
kerberos_names = ["krb5", "upn"]
ext_key_usage = ["clientAuth", "pkinitClient"]
validity = "10h"
`
	s.kinds = `"user"`
	s.profile = names + `max_validity = { otp = "4h", radius = "4h", pkinit = "3h", none = "3h", hardened = "3h", idp = "3h", passkey = "3h" }`
	c.useTickets(s)
	signer := c.node("signer-1")
	c.rewrite(signer, func(text string) string {
		return strings.Replace(text, `subject = "CN={uid}"`, `subject = "CN={uid}"`+names+`max_validity = { otp = "4h" }`, 1)
	})
	c.start()

	key, err := rsa.GenerateKey(rand.Reader, 2048) // all that MIT's library before 1.22 takes
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	request := requestFor(t, key)
	resp, text, err := enrolment{body: request, user: user, password: accountPassword + c.ipa.Code(user)}.post(t.Context(), c.client, c.userURLs()[0])
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v: %v\n%s", resp, err, text)
	}
	first, err := certificateOf(text)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "user.crt"), "CERTIFICATE", first.Raw)
	writePEM(t, filepath.Join(dir, "user.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	cache := filepath.Join(dir, "cache")
	identity := "X509_user_identity=FILE:" + filepath.Join(dir, "user.crt") + "," + filepath.Join(dir, "user.key")
	krb5(t, kdc, "", "kinit", "-c", "FILE:"+cache, "-X", identity, user)

	if err := os.WriteFile(filepath.Join(dir, "next"), requestFor(t, key), 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := certificateOf(c.curl(t, kdc, cache, filepath.Join(dir, "next")))
	if err != nil {
		t.Fatal(err)
	}
	records := c.auditOf("validator-1")
	last := records[len(records)-1]
	if last.Identity != user+"@IPA.TEST" || last.Detail["indicators"] != "pkinit" {
		t.Errorf("on record: %+v", last)
	}
	if life := next.NotAfter.Sub(first.NotAfter); life > 0 || time.Until(next.NotAfter) > 3*time.Hour {
		t.Errorf("the first certificate ends %v, the one by its ticket %v", first.NotAfter, next.NotAfter)
	}

	c.rewrite(signer, func(text string) string { return strings.Replace(text, `pkinit = "3h"`, `pkinit = "9h"`, 1) })
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "signer"), "--config", signer.config, "--check-config").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a ticket by pkinit would be worth 9h here, and otp only 4h") ||
		!strings.Contains(string(out), `under the label "user"`) {
		t.Errorf("more for pkinit than for the code: %v\n%s", err, out)
	}
	c.rewrite(signer, func(text string) string { return strings.Replace(text, `pkinit = "9h"`, `pkinit = "3h"`, 1) })
}

func requestFor(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.AppendEncode(nil, der)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
