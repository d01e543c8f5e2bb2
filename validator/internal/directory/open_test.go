package directory_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/validator/internal/directory"
)

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	servers := func(s ...string) func(*directory.Config) { return func(c *directory.Config) { c.Servers = s } }
	cases := []struct {
		name string
		set  func(*directory.Config)
		want string // in the error; empty for none
	}{
		{"good", func(*directory.Config) {}, ""},
		{"all schemes", servers("ldaps://a", "ldaps://a:1636/", "ldap://[::1]:3389", "ldapi://%2Frun%2Fx.socket"), ""},
		{"no server", servers(), "[directory] servers"},
		{"twice", servers("ldaps://a", "ldaps://a"), "twice"},
		{"no scheme", servers("a:636"), "[directory] servers"},
		{"other scheme", servers("http://a"), "[directory] servers"},
		{"upper case", servers("LDAPS://a"), "[directory] servers"},
		{"no host", servers("ldaps://"), "[directory] servers"},
		{"port", servers("ldaps://a:0"), "port"},
		{"large port", servers("ldaps://a:65536"), "port"},
		{"path", servers("ldaps://a/dc=x"), "more than host and port"},
		{"user", servers("ldaps://u@a"), "more than host and port"},
		{"query", servers("ldaps://a?x"), "more than host and port"},
		{"relative socket", servers("ldapi://run%2Fx"), "ldapi"},
		{"socket twice", servers("ldapi://%2Fx?a"), "ldapi"},
		{"no time", func(c *directory.Config) { c.Timeout = 0 }, "[directory] timeout"},
		{"long", func(c *directory.Config) { c.Timeout = time.Hour }, "[directory] timeout"},
		{"pool", func(c *directory.Config) { c.Pool = 0 }, "[directory] pool"},
		{"realm", func(c *directory.Config) { c.Realm = "" }, "[directory] realm"},
		{"realm with @", func(c *directory.Config) { c.Realm = "@X" }, "[directory] realm"},
		{"attribute", func(c *directory.Config) { c.PrincipalAttribute = "uid=*)(x" }, "[directory] principal_attribute"},
		{"base", func(c *directory.Config) { c.BaseDN = "ipa.test" }, "[directory] base_dn"},
		{"account", func(c *directory.Config) { c.BindDN = "estuary" }, "[directory] bind_dn"},
		{"no password", func(c *directory.Config) { c.Password = hidden("") }, "[directory] password_file"},
		{"password of nobody", func(c *directory.Config) { c.BindDN = "" }, "[directory] bind_dn"},
		{"nobody", func(c *directory.Config) {
			c.Servers, c.BindDN, c.Password = []string{"ldaps://a"}, "", hidden("")
		}, "needs a service account"},
		{"evidence", func(c *directory.Config) { c.Evidence = "(x" }, "[directory] otp_evidence"},
		{"certificate without key", func(c *directory.Config) { c.Certificate = empty }, "[directory] certificate"},
		{"CA not there", func(c *directory.Config) { c.Servers, c.CA = []string{"ldaps://a"}, filepath.Join(dir, "x") }, "[directory] ca"},
		{"CA empty", func(c *directory.Config) { c.Servers, c.CA = []string{"ldaps://a"}, empty }, "[directory] ca"},
		{"certificate empty", func(c *directory.Config) {
			c.Servers, c.Certificate, c.Key = []string{"ldaps://a"}, empty, empty
		}, "[directory] certificate"},
		{"no clock", func(c *directory.Config) { c.Now = nil }, "clock"},
		{"no log", func(c *directory.Config) { c.Log = nil }, "log"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config, _ := settings("ldapi://%2Fnowhere")
			c.set(&config)
			_, err := directory.New(config)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What a server that answers shows to be wrong stops the start and names its key; what may
// pass does not.
func TestOpen(t *testing.T) {
	nobody := func(string) (string, answer) { return "", answer{} }
	cases := []struct {
		name   string
		server func(*scripted)
		set    func(*directory.Config)
		want   string
	}{
		{"good", nil, nil, ""},
		{"base missing", nil, func(c *directory.Config) { c.BaseDN = "dc=other,dc=test" }, "[directory] base_dn"},
		{"control unknown", func(s *scripted) { s.controls = []string{} }, nil, "[directory] otp_required_control"},
		{"control not needed", func(s *scripted) { s.controls = []string{} }, func(c *directory.Config) { c.OTPRequiredControl = false }, ""},
		{"anonymous", func(s *scripted) { s.who = nobody }, func(c *directory.Config) { c.BindDN, c.Password = "", hidden("") }, "[directory] bind_dn"},
		{"no single base", func(s *scripted) { s.contexts = []string{base, "o=other"} }, func(c *directory.Config) { c.BaseDN = "" }, "[directory] base_dn"},
		{"a single base", func(s *scripted) { s.contexts = []string{base} }, func(c *directory.Config) { c.BaseDN = "" }, ""},
		{"wrong password", func(s *scripted) { s.account = answer{code: 49} }, nil, "[directory] bind_dn, password_file"},
		{"EXTERNAL refused", func(s *scripted) { s.account = answer{code: 48} }, func(c *directory.Config) { c.BindDN, c.Password = "", hidden("") }, "[directory] bind_dn, certificate"},
		{"busy", func(s *scripted) { s.account = answer{code: 51} }, nil, "down"},
		{"operations error", func(s *scripted) { s.account = answer{code: 1} }, nil, "down"},
		{"lost", func(s *scripted) { s.account = answer{drop: true} }, nil, "down"},
		{"not there", (*scripted).stop, nil, "down"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, "")
			if c.server != nil {
				c.server(s)
			}
			config, log := settings(s.url())
			if c.set != nil {
				c.set(&config)
			}
			d := client(t, config)
			err := d.Open(t.Context())
			var bad *directory.SettingError
			switch {
			case c.want == "down":
				if err != nil || !strings.Contains(log.String(), "starting without") || d.Check(t.Context()) == nil {
					t.Errorf("%v, log:\n%s", err, log.String())
				}
			case errors.As(err, &bad) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want+": "+s.url()):
				t.Errorf("%v, want %q", err, c.want)
			case (d.Check(t.Context()) == nil) != (c.want == ""):
				t.Error(d.Check(t.Context()))
			}
			if err != nil && strings.Contains(err.Error(), "service password") {
				t.Error("the password is in the error")
			}
		})
	}
}

func TestVerify(t *testing.T) {
	s := listen(t, "")
	missing := false
	s.search = func(at, filter string) answer {
		switch {
		case missing && (strings.HasPrefix(at, "cn=ipaConfig") || strings.HasPrefix(at, "cn=global_policy")):
			return answer{code: ldap.LDAPResultNoSuchObject}
		case missing && at == base:
			return answer{}
		case at == base:
			return answer{code: 4, entries: []entry{person("alice", nil)}}
		case at == "cn=radiusproxy,"+base:
			all := []entry{{"cn=corp," + at, map[string][]string{"cn": {"corp"}, "ipatokenRadiusServer": {"r"}, "ipatokenRadiusSecret": {"canary"}}}}
			if missing {
				all = append(all, entry{"cn=new," + at, map[string][]string{"cn": {"new"}, "ipatokenRadiusServer": {"r"}}})
			}
			return answer{entries: all}
		}
		return answer{entries: []entry{{at, nil}}}
	}
	config, _ := settings(s.url(), "ldapi://%2Fnowhere")
	d := client(t, config)
	wrong := func() (all []string) {
		for _, f := range d.Verify(t.Context()) {
			if strings.Contains(f.Subject+f.Problem+f.Fix, "canary") {
				t.Errorf("a secret: %+v", f)
			}
			if f.OK != (f.Problem == "") || f.OK != (f.Fix == "") {
				t.Errorf("%+v", f)
			}
			if !f.OK {
				all = append(all, f.Subject)
			}
			if strings.Contains(f.Subject, "cn=new") && f.Fix != "add the ACI of deploy/freeipa, which lets the service account read ipatokenRadiusSecret" {
				t.Errorf("fix %q", f.Fix)
			}
		}
		return all
	}
	if got := wrong(); !slices.Equal(got, []string{"server ldapi://%2Fnowhere"}) {
		t.Errorf("wrong: %q", got)
	}
	missing = true
	want := []string{
		"server ldapi://%2Fnowhere", "users", "global authentication types", "password policy",
		`RADIUS configuration "cn=new,cn=radiusproxy,dc=ipa,dc=test"`,
	}
	if got := wrong(); !slices.Equal(got, want) {
		t.Errorf("wrong: %q, want %q", got, want)
	}
}
