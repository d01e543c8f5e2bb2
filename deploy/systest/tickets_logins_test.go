package systest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// TestTicketLogins: curl enrols with the ticket of every way to log in, and each time the
// record tells the way and the certificate is as long as that way allows. The codes are asked
// for by the KDC and checked by the validator.
func TestTicketLogins(t *testing.T) {
	t.Parallel()
	kdc := besideKDC(t)
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1}, fmt.Sprintf("\n[otpd]\nlisten = %q\n", "unix:"+kdc["OTP_SOCKET"]))
	s := labTickets(t, kdc, t.TempDir())
	s.profile = `validity = "10h"
max_validity = { hardened = "8h", otp = "4h", radius = "3h", pkinit = "2h" }
`
	c.useTickets(s)
	for user, types := range map[string]string{kdc["OTP_USER"]: "otp", kdc["RADIUS_USER"]: "otp"} {
		c.ipa.AddUser(ipatest.User{UID: user, Password: accountPassword, AuthTypes: []string{types}})
		c.ipa.AddToken(ipatest.Token{ID: user, Owner: user, HOTP: true})
	}
	c.start()
	plain := map[string]string{}
	for key, value := range kdc {
		plain[key] = value
	}
	plain["KRB5_CONFIG"] = kdc["KRB5_CONFIG_PLAIN"]
	for _, l := range []struct {
		name, user, stdin string
		kdc               map[string]string
		words             []string
		valid             time.Duration
	}{
		{name: "", user: "alice", kdc: plain, stdin: kdc["PASSWORD"], valid: 10 * time.Hour},
		{name: "hardened", user: "alice", kdc: kdc, stdin: kdc["PASSWORD"], valid: 8 * time.Hour},
		{name: "pkinit", user: kdc["PKINIT_USER"], kdc: kdc, words: []string{"-X", "X509_user_identity=FILE:" + kdc["PKINIT_CERT"] + "," + kdc["PKINIT_KEY"]}, valid: 2 * time.Hour},
		{name: "otp", user: kdc["OTP_USER"], kdc: kdc, words: []string{"-T", "armor"}, stdin: accountPassword + c.ipa.Code(kdc["OTP_USER"]), valid: 4 * time.Hour},
		{name: "radius", user: kdc["RADIUS_USER"], kdc: kdc, words: []string{"-T", "armor"}, stdin: accountPassword + c.ipa.Code(kdc["RADIUS_USER"]), valid: 3 * time.Hour},
		{name: "hardened", user: "host/pump-7.ipa.test", kdc: kdc, words: []string{"-k", "-t", kdc["HOST_KEYTAB"]}, valid: 8 * time.Hour},
		{name: "", user: "host/pump-8.ipa.test", kdc: kdc, words: []string{"-k", "-t", kdc["HOST_KEYTAB"]}, valid: 10 * time.Hour},
	} {
		t.Run(strings.TrimPrefix(l.user+" "+l.name, " "), func(t *testing.T) {
			dir := t.TempDir()
			cache := filepath.Join(dir, "cache")
			words := append([]string{"kinit", "-c", "FILE:" + cache}, l.words...)
			if i := len(words) - 1; words[i] == "armor" {
				words[i] = "FILE:" + filepath.Join(dir, "armor")
				krb5(t, kdc, "", "kinit", "-n", "-c", words[i])
			}
			krb5(t, l.kdc, l.stdin+"\n", append(words, l.user)...)
			out := c.curl(t, kdc, cache, writeRequest(t, l.user))
			leaf, err := certificateOf(out)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got := time.Until(leaf.NotAfter); got > l.valid || got < l.valid-2*time.Minute || leaf.Subject.CommonName != l.user {
				t.Errorf("%q is valid for %v, not %v", leaf.Subject.CommonName, got, l.valid)
			}
			records := c.auditOf("validator-1")
			last := records[len(records)-1]
			if last.Event != "credential.accepted" || last.Identity != l.user+"@IPA.TEST" || last.Detail["indicators"] != l.name || last.Method != "negotiate" {
				t.Errorf("on record: %+v", last)
			}
		})
	}
}

// curl enrols by the ticket in the cache, as a user would, and returns the answer's body.
func (c *cluster) curl(t *testing.T, kdc map[string]string, cache, request string, more ...string) []byte {
	t.Helper()
	url := strings.Replace(c.est()[0], "127.0.0.1", "localhost", 1) + "/" + ticketLabel + "/simpleenroll"
	words := append([]string{
		"-sS", "--fail-with-body", "--negotiate", "-u", ":", "--cacert", filepath.Join(c.s.state, "tls-ca.crt"),
		"-H", "Content-Type: application/pkcs10", "--data-binary", "@" + request, url,
	}, more...)
	cmd := exec.CommandContext(t.Context(), "curl", words...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+kdc["KRB5_CONFIG"], "KRB5CCNAME=FILE:"+cache)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v\n%s", err, out)
	}
	return out
}
