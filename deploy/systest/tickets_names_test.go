package systest_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// TestTicketNames: the subject follows from the principal, a host gets the names of those that
// it manages by the directory, and who has left it gets nothing.
func TestTicketNames(t *testing.T) {
	t.Parallel()
	kdc := lab(t, "kdc")
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1}, "")
	for _, name := range []string{"alice", "bob"} {
		c.ipa.AddUser(ipatest.User{UID: name, CN: "The " + name, Mail: []string{name + "@ipa.test"}})
	}
	c.ipa.AddUser(ipatest.User{UID: "hanna", Locked: true})
	c.ipa.AddHost(ipatest.Host{FQDN: "pump-7.ipa.test"})
	c.ipa.AddHost(ipatest.Host{FQDN: "pump-8.ipa.test", ManagedBy: []string{"pump-7.ipa.test"}})
	s := labTickets(t, kdc, t.TempDir())
	s.label = `directory_check = "required"`
	s.profile = `subject = "CN={host}"
principal_mapping = { "alice@IPA.TEST" = "CN=Alice,O=Example" }
indicator_extension = "1.3.6.1.4.1.99999.7"
`
	c.useTickets(s)
	c.start()
	for _, who := range []struct {
		user, keytab string
		status       int
		subject      string
		names        []string
		reason       string // in the record of the signer or of the validator
	}{
		{user: "alice", status: http.StatusOK, subject: "CN=Alice,O=Example", names: []string{"alice@ipa.test"}},
		{user: "bob", status: http.StatusForbidden, reason: "principal not mapped: CN of the subject cannot be filled: the identity has no host"},
		{user: "hanna", status: http.StatusUnauthorized, reason: "account is locked (nsAccountLock)"},
		{user: "host/pump-7.ipa.test", keytab: kdc["HOST_KEYTAB"], status: http.StatusOK, subject: "CN=pump-7.ipa.test", names: []string{"pump-7.ipa.test", "pump-8.ipa.test"}},
		{user: "host/pump-8.ipa.test", keytab: kdc["HOST_KEYTAB"], status: http.StatusOK, subject: "CN=pump-8.ipa.test", names: []string{"pump-8.ipa.test"}},
	} {
		cache := filepath.Join(t.TempDir(), "cache")
		words := []string{"kinit", "-c", "FILE:" + cache, who.user}
		if who.keytab != "" {
			words = append(words, "-k", "-t", who.keytab)
		}
		krb5(t, kdc, kdc["PASSWORD"]+"\n", words...)
		k, err := serviceTicket(t, kdc, cache, "HTTP/localhost")
		if err != nil {
			t.Fatal(err)
		}
		a, err := applicant{name: "whoever"}.withKey()
		if err != nil {
			t.Fatal(err)
		}
		got := c.enrolByTicket(t.Context(), c.est()[0], k.mustHeader(t, time.Now()), a)
		if got.status != who.status {
			t.Errorf("%s: %v", who.user, got)
			continue
		}
		if who.status != http.StatusOK {
			said := append(c.auditOf("signer-1"), c.auditOf("validator-1")...)
			if !slices.ContainsFunc(said, func(r auditRecord) bool {
				return r.Identity == who.user+"@IPA.TEST" && strings.Contains(r.Reason, who.reason)
			}) {
				t.Errorf("%s: nobody has %q on record", who.user, who.reason)
			}
			continue
		}
		leaf, err := x509.ParseCertificate(got.der)
		if err != nil {
			t.Fatal(err)
		}
		names := slices.Concat(leaf.DNSNames, leaf.EmailAddresses)
		slices.Sort(names)
		if diff := cmp.Diff(who.names, names); diff != "" || leaf.Subject.String() != who.subject {
			t.Errorf("%s is %s, names (-want +got):\n%s", who.user, leaf.Subject, diff)
		}
		// alice and pump-7 logged in by SPAKE; pump-8 has no preauthentication.
		marked := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "1.3.6.1.4.1.99999.7" })
		if marked != (who.user != "host/pump-8.ipa.test") {
			t.Errorf("%s: the indicators are in the certificate: %v", who.user, marked)
		}
	}
}
