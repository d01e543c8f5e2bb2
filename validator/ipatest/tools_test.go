package ipatest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// The programs of ldap-utils, which share no code with the server or with go-ldap.
func TestLDAPUtils(t *testing.T) {
	s := start(t, ipatest.Config{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw", AuthTypes: []string{"otp"}, Mail: []string{"alice@ipa.test"}})
	s.AddToken(ipatest.Token{ID: "t1", Owner: "alice", HOTP: true})
	const otp = "!2.16.840.1.113730.3.8.10.7"
	locked := s.AddUser(ipatest.User{UID: "eve", Password: "pw", Locked: true})
	bound := "dn: " + dn
	certificate, key, err := s.ClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		want string // what the output has to hold; with "!" the program has to fail as well
		argv func() []string
	}{
		{"LDAPS", bound, func() []string {
			return []string{"ldapwhoami", "-H", s.LDAPS(), "-x", "-D", dn, "-w", "pw" + s.Code("t1")}
		}},
		{"StartTLS", bound, func() []string {
			return []string{"ldapwhoami", "-H", s.LDAP(), "-ZZ", "-x", "-D", dn, "-w", "pw" + s.Code("t1")}
		}},
		{"unknown control", "!(12)", func() []string {
			return []string{"ldapwhoami", "-H", s.LDAPS(), "-e", "!1.2.3.4", "-x", "-D", dn, "-w", "pw" + s.Code("t1")}
		}},
		{"unknown control, not critical", bound, func() []string {
			return []string{"ldapwhoami", "-H", s.LDAPS(), "-e", "1.2.3.4", "-x", "-D", dn, "-w", "pw" + s.Code("t1")}
		}},
		{"LDAPI", "dn: " + s.ServiceDN(), func() []string {
			return []string{"ldapwhoami", "-H", s.LDAPI(), "-Y", "EXTERNAL", "-Q"}
		}},
		{"client certificate", "dn: " + s.ServiceDN(), func() []string {
			return []string{"env", "LDAPTLS_CERT=" + certificate, "LDAPTLS_KEY=" + key, "ldapwhoami", "-H", s.LDAPS(), "-Y", "EXTERNAL", "-Q"}
		}},
		{"wrong password", "!Invalid credentials (49)", func() []string {
			return []string{"ldapwhoami", "-H", s.LDAPS(), "-x", "-D", dn, "-w", "pw"}
		}},
		{"locked", "!Account inactivated. Contact system administrator.", func() []string {
			return []string{"ldapwhoami", "-H", s.LDAPS(), "-x", "-D", locked, "-w", "pw"}
		}},
		{"search", "mail: alice@ipa.test", func() []string {
			return []string{
				"ldapsearch", "-LLL", "-H", s.LDAPS(), "-x", "-D", s.ServiceDN(), "-w", s.ServicePassword(), "-b", s.Base(),
				"(&(objectClass=Person)(krbPrincipalName=ali*)(!(nsAccountLock=TRUE)))", "uid", "mail",
			}
		}},
		{"control on a search", "!result: 12 ", func() []string {
			return []string{"ldapsearch", "-E", otp, "-H", s.LDAPS(), "-x", "-b", s.Base()}
		}},
		{"no such base", "!result: 32 No such object", func() []string {
			return []string{"ldapsearch", "-H", s.LDAPS(), "-x", "-b", "dc=nowhere"}
		}},
		{"another CA", "!Can't contact LDAP server", func() []string {
			return []string{"env", "LDAPTLS_CACERT=" + os.DevNull, "ldapwhoami", "-H", s.LDAPS(), "-x"}
		}},
	} {
		argv := c.argv()
		command := exec.Command(argv[0], argv[1:]...)
		command.Env = append(os.Environ(), "LDAPTLS_CACERT="+s.CAFile(), "HOME="+filepath.Dir(s.CAFile()))
		out, err := command.CombinedOutput()
		want, fails := strings.CutPrefix(c.want, "!")
		if (err != nil) != fails || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s; want %s", c.name, err, out, c.want)
		}
	}
}
