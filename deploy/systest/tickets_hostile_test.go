package systest_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTicketsOfRealms: tickets that a real KDC gives out, and that are good for somebody, of
// which the configuration accepts some. What is refused has its reason on record.
func TestTicketsOfRealms(t *testing.T) {
	t.Parallel()
	kdc := lab(t, "kdc")
	c := planCluster(t, shape{gateways: 1, validators: 1, signers: 1})
	s := labTickets(t, kdc, t.TempDir())
	s.more = `aliases = ["HTTP/session.ipa.test@IPA.TEST", "HTTP/sha2.ipa.test@IPA.TEST", "HTTP/aes128.ipa.test@IPA.TEST", "HTTP/aes128-sha2.ipa.test@IPA.TEST"]
realms = ["IPA.TEST", "OTHER.TEST", "LOST.TEST"]
clock_skew = "1s"
`
	c.useTickets(s)
	c.rewrite(c.node("signer-1"), func(text string) string {
		return strings.ReplaceAll(text, `realms = ["IPA.TEST"`, `realms = ["OTHER.TEST", "IPA.TEST"`)
	})
	c.start()
	for _, h := range []struct {
		name, user, service string
		words               []string
		wait                time.Duration // until it is presented
		offset              time.Duration // of the authenticator
		status              int
		reason, identity    string
	}{
		{name: "our own", user: "alice", status: http.StatusOK, identity: "alice@IPA.TEST"},
		{name: "AES-256 with SHA-2", user: "alice", service: "HTTP/sha2.ipa.test", status: http.StatusOK, identity: "alice@IPA.TEST"},
		{name: "AES-128", user: "alice", service: "HTTP/aes128.ipa.test", status: http.StatusOK, identity: "alice@IPA.TEST"},
		{name: "AES-128 with SHA-2", user: "alice", service: "HTTP/aes128-sha2.ipa.test", status: http.StatusOK, identity: "alice@IPA.TEST"},
		{name: "another realm", user: "carol@OTHER.TEST", status: http.StatusOK, identity: "carol@OTHER.TEST"},
		{name: "the same name in another realm", user: "alice@OTHER.TEST", status: http.StatusOK, identity: "alice@OTHER.TEST"},
		{name: "a realm that is not accepted", user: "tina@THIRD.TEST", status: http.StatusUnauthorized, reason: "client's realm is not accepted"},
		{name: "a way that nobody checked", user: "lars@LOST.TEST", status: http.StatusUnauthorized, reason: "ticket came through realms that its KDC did not check"},
		{name: "another service of the keytab", user: "alice", service: "HTTP/pair.ipa.test", status: http.StatusUnauthorized, reason: "ticket is for another service"},
		{name: "an RC4 session key", user: "alice", service: "HTTP/session.ipa.test", status: http.StatusUnauthorized, reason: "session key is of an algorithm that is not accepted"},
		{name: "an RC4 ticket", user: "alice", service: "HTTP/rc4.ipa.test", status: http.StatusUnauthorized, reason: "ticket is for another service"},
		{name: "nobody", user: "", words: []string{"-n"}, status: http.StatusUnauthorized, reason: "client is anonymous"},
		{name: "expired", user: "alice", words: []string{"-l", "2s"}, wait: 4 * time.Second, status: http.StatusUnauthorized, reason: "ticket has expired"},
		{name: "a late authenticator", user: "alice", offset: -3 * time.Second, status: http.StatusUnauthorized, reason: "authenticator was made at another time"},
		{name: "an early authenticator", user: "alice", offset: 3 * time.Second, status: http.StatusUnauthorized, reason: "authenticator was made at another time"},
	} {
		t.Run(h.name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			words := append([]string{"kinit", "-c", "FILE:" + cache}, h.words...)
			if h.user != "" {
				words = append(words, h.user)
			}
			krb5(t, kdc, kdc["PASSWORD"]+"\n", words...)
			service := h.service
			if service == "" {
				service = "HTTP/localhost"
			}
			k, err := serviceTicket(t, kdc, cache, service)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(h.wait)
			a, err := applicant{name: "somebody"}.withKey()
			if err != nil {
				t.Fatal(err)
			}
			got := c.enrolByTicket(t.Context(), c.est()[0], k.mustHeader(t, time.Now().Add(h.offset)), a)
			records := c.auditOf("validator-1")
			last := records[len(records)-1]
			if got.status != h.status || !strings.HasPrefix(last.Reason, h.reason) || h.reason == "" && last.Identity != h.identity {
				t.Errorf("%v; on record: %+v", got, last)
			}
		})
	}
}
