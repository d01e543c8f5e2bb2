package directory_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// env is what a script of deploy/lab says about its server.
type env map[string]string

// readEnv reads the file of KEY=VALUE lines, of a value in single quotes where it has to be.
func readEnv(t *testing.T, path string) env {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	e := env{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if !ok {
			continue
		}
		if quoted, ok := strings.CutPrefix(value, "'"); ok {
			value = strings.TrimSuffix(quoted, "'")
		}
		e[key] = value
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return e
}

// lab returns the server whose env file the variable names.
func lab(t *testing.T, variable, script string) env {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s does not name the env file of a server: %s up starts one and prints it", variable, script)
	}
	return readEnv(t, path)
}

// config is a configuration for the server.
func (e env) config() (directory.Config, *buffer) {
	c, log := settings(e["LDAPS"])
	c.CA, c.BaseDN, c.Realm = e["CA"], e["BASE"], e["REALM"]
	c.BindDN, c.Password = e["SERVICE_DN"], secret.New([]byte(e["SERVICE_PASSWORD"]))
	c.Timeout = 5 * time.Second
	return c, log
}

// manager is a connection that may read everything.
func (e env) manager(t *testing.T) *ldap.Conn {
	t.Helper()
	authorities, err := os.ReadFile(e["CA"])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authorities)
	conn, err := ldap.DialURL(e["LDAPS"], ldap.DialWithTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Bind(e["MANAGER_DN"], e["MANAGER_PASSWORD"]); err != nil {
		t.Fatal(err)
	}
	return conn
}

// bindLines are the DNs of bind requests in a log of 389-ds.
var bindLines = regexp.MustCompile(`BIND dn="([^"]*)"`)

// dirsrvUser is an entry of deploy/lab/dirsrv.
func dirsrvUser(uid string) directory.Entry {
	return directory.Entry{
		DN: "uid=" + uid + ",cn=users,cn=accounts," + base, Kind: assertionv1.IdentityKind_IDENTITY_KIND_USER,
		Principal: uid, Realm: realm, UID: uid, CN: strings.ToUpper(uid[:1]) + uid[1:] + " Test", Mail: []string{uid + "@ipa.test"},
	}
}

// people389 are the people of deploy/lab/dirsrv, which the fake has too.
func people389() map[string]directory.Entry {
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	link := func(cn string) string { return "cn=" + cn + ",cn=radiusproxy," + base }
	all := map[string]directory.Entry{}
	for _, uid := range []string{"alice", "bob", "carol", "björn", "locked", "expired", "stale", "otto", "dora", "egon", "nina", "olga", "oleg"} {
		e := dirsrvUser(uid)
		switch uid {
		case "alice":
			e.Groups = []string{"admins", "vpn"}
		case "bob":
			e.Groups = []string{"vpn"}
		case "carol":
			e.PolicyDN = "cn=strict,cn=" + realm + ",cn=kerberos," + base
		case "locked":
			e.Locked = true
		case "expired":
			e.PrincipalExpires = past
		case "stale":
			e.PasswordExpires = past
		case "otto", "dora", "egon", "nina":
			e.AuthTypes = []string{"otp"}
		case "olga":
			e.AuthTypes, e.RADIUSLink = []string{"radius"}, link("lab")
		case "oleg":
			e.AuthTypes, e.RADIUSLink, e.RADIUSUser = []string{"radius"}, link("second"), "olga"
		}
		if uid == "otto" || uid == "olga" {
			e.Groups = []string{"vpn"}
		}
		all[uid] = e
	}
	all["alice.alias"] = all["alice"]
	all["host/h1.ipa.test"] = directory.Entry{
		DN: "fqdn=h1.ipa.test,cn=computers,cn=accounts," + base, Kind: assertionv1.IdentityKind_IDENTITY_KIND_HOST,
		Principal: "host/h1.ipa.test", Realm: realm, CN: "h1.ipa.test", ManagedHosts: []string{"h1.ipa.test", "h2.ipa.test"},
	}
	all["HTTP/h1.ipa.test"] = directory.Entry{
		DN:   "krbPrincipalName=HTTP/h1.ipa.test@" + realm + ",cn=services,cn=accounts," + base,
		Kind: assertionv1.IdentityKind_IDENTITY_KIND_SERVICE, Principal: "HTTP/h1.ipa.test", Realm: realm,
	}
	return all
}

func TestContractDirsrv(t *testing.T) {
	e := lab(t, "ESTUARY_TEST_DIRSRV", "deploy/lab/dirsrv")
	config, log := e.config()
	config.OTPRequiredControl = false
	accepted := directory.Bind{Accepted: true}
	contract(t, world{
		config: config, log: log, urls: []string{e["LDAPS"], e["LDAP"], e["LDAPI"]}, password: e["PASSWORD"],
		certificate: e["CERT"], key: e["KEY"], plain: "alice", found: people389(),
		logins: []loginCase{
			{user: "alice", want: accepted},
			{user: "björn", want: accepted},
			{user: "alice.alias", want: accepted},
			{user: "bob", wrong: true, want: directory.Bind{Code: 49, Reason: directory.ReasonWrong, Counts: true}},
			{user: "bob", want: accepted},
			{user: "locked", want: directory.Bind{Code: 53, Reason: directory.ReasonLocked}},
			{user: "host/h1.ipa.test", want: accepted},
		},
		lockouts: map[string]directory.Lockout{
			"alice": {MaxFailures: 6, Interval: time.Minute, Duration: 10 * time.Minute},
			"carol": {MaxFailures: 4, Interval: 2 * time.Minute, Duration: 15 * time.Minute},
		},
		proxies: labProxies(t, e),
		bound: func(t *testing.T) (all []string) {
			text, err := os.ReadFile(e["LOG"])
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range bindLines.FindAllStringSubmatch(string(text), -1) {
				dn := strings.ReplaceAll(m[1], `\\`, `\`)
				switch {
				case dn == "" || strings.EqualFold(dn, e["MANAGER_DN"]):
				case strings.HasPrefix(dn, "uid=load"): // another test's
				default:
					all = append(all, dn)
				}
			}
			if len(all) == 0 {
				t.Error("no bind in the server's log")
			}
			return all
		},
	})
}

// It has tokens, and checks none at a bind; its users read their own.
func TestTokensAtDirsrv(t *testing.T) {
	e := lab(t, "ESTUARY_TEST_DIRSRV", "deploy/lab/dirsrv")
	config, _ := e.config()
	d := client(t, config)
	for user, want := range map[string]bool{"otto": true, "dora": false, "egon": false, "nina": false} {
		if got, err := directory.HasToken(t.Context(), d, dirsrvUser(user), e["PASSWORD"]); err != nil || got != want {
			t.Errorf("%s: %v, %v", user, got, err)
		}
	}
}

// labProxies are the RADIUS configurations, with the secrets that the manager reads.
func labProxies(t *testing.T, e env) map[string]directory.RADIUSProxy {
	t.Helper()
	conn := e.manager(t)
	all := map[string]directory.RADIUSProxy{}
	for user, cn := range map[string]string{"olga": "lab", "oleg": "second"} {
		found, err := conn.Search(&ldap.SearchRequest{BaseDN: "cn=" + cn + ",cn=radiusproxy," + e["BASE"], Filter: "(objectClass=*)", Scope: ldap.ScopeBaseObject})
		if err != nil {
			t.Fatal(err)
		}
		p := directory.RADIUSProxy{Name: cn, Timeout: 5 * time.Second, Retries: 3, User: "olga"}
		if cn == "second" {
			p.Timeout = 4 * time.Second
		}
		p.Servers = found.Entries[0].GetAttributeValues("ipatokenRadiusServer")
		p.Secret = secret.New(found.Entries[0].GetRawAttributeValue("ipatokenRadiusSecret"))
		all[user] = sorted(p)
	}
	return all
}

// The control that FreeIPA's servers know: 389-ds alone does not, and says so. The bind is not
// counted, and what is not counted does not lock.
func TestControlAtDirsrv(t *testing.T) {
	e := lab(t, "ESTUARY_TEST_DIRSRV", "deploy/lab/dirsrv")
	refusesControl(t, e, "carol")
}

func refusesControl(t *testing.T, e env, name string) {
	config, _ := e.config()
	if strings.Contains(e["SERVICE_DN"], "ou=services") {
		config.PrincipalAttribute = "uid"
	}
	d := client(t, config)
	found, err := d.Find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		got, err := d.Bind(t.Context(), found, secret.New([]byte(e["PASSWORD"])), directory.BindOptions{Control: true})
		if err != nil || got.Accepted || got.Code != 12 || got.Reason != directory.ReasonControl || got.Counts {
			t.Errorf("%+v, %v", got, err)
		}
	}
	got, err := d.Bind(t.Context(), found, secret.New([]byte(e["PASSWORD"])), directory.BindOptions{})
	if err != nil || !got.Accepted {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestContractOpenLDAP(t *testing.T) {
	e := lab(t, "ESTUARY_TEST_OPENLDAP", "deploy/lab/openldap")
	config, log := e.config()
	config.OTPRequiredControl, config.PrincipalAttribute = false, "uid"
	config.Evidence = "(|(objectClass=oathTOTPUser)(objectClass=oathHOTPUser))"
	found := map[string]directory.Entry{}
	for _, uid := range []string{"plain", "björn", "hotp8", "totp4"} {
		u := dirsrvUser(uid)
		u.DN = "uid=" + uid + ",ou=people," + base
		found[uid] = u
	}
	refused := directory.Bind{Code: 49, Reason: directory.ReasonWrong, Counts: true}
	proves := directory.BindOptions{Tokens: true}
	contract(t, world{
		config: config, log: log, urls: []string{e["LDAPS"], e["LDAP"], e["LDAPI"]}, password: e["PASSWORD"],
		certificate: e["CERT"], key: e["KEY"], plain: "plain", found: found,
		logins: []loginCase{
			{user: "plain", options: proves, want: directory.Bind{Accepted: true}},
			{user: "björn", want: directory.Bind{Accepted: true}},
			{user: "plain", wrong: true, want: refused},
			{user: "hotp8", want: refused},
			{user: "hotp8", code: true, options: proves, want: directory.Bind{Accepted: true, Token: true}},
			{user: "hotp8", code: true, wrong: true, want: refused},
			{user: "hotp8", code: true, options: proves, want: directory.Bind{Accepted: true, Token: true}},
			{user: "totp4", options: proves, want: refused},
		},
		code:     func(t *testing.T, user string) string { return hotp(t, e, user) },
		lockouts: map[string]directory.Lockout{"plain": {}},
		wrong:    []string{},
	})
	t.Run("control", func(t *testing.T) { refusesControl(t, e, "plain") })
	t.Run("spent", func(t *testing.T) {
		d := client(t, config)
		who, err := d.Find(t.Context(), "hotp8")
		if err != nil {
			t.Fatal(err)
		}
		password := secret.New([]byte(e["PASSWORD"] + hotp(t, e, "hotp8")))
		for i := range 2 {
			if got, err := d.Bind(t.Context(), who, password, proves); err != nil || got.Accepted != (i == 0) {
				t.Errorf("time %d: %+v, %v", i+1, got, err)
			}
		}
	})
}

// hotp returns the code behind the last one that was redeemed.
func hotp(t *testing.T, e env, user string) string {
	t.Helper()
	list, err := os.ReadFile(e["TOKENS"])
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 5 || fields[0] != user || fields[1] != "hotp" {
			continue
		}
		found, err := e.manager(t).Search(&ldap.SearchRequest{BaseDN: fields[4], Filter: "(objectClass=*)", Scope: ldap.ScopeBaseObject})
		if err != nil {
			t.Fatal(err)
		}
		next := uint64(0)
		if last := found.Entries[0].GetAttributeValue("oathHOTPCounter"); last != "" {
			if next, err = strconv.ParseUint(last, 10, 64); err != nil {
				t.Fatal(err)
			}
			next++
		}
		key, err := hex.DecodeString(fields[2])
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha1.New, key)
		_ = binary.Write(mac, binary.BigEndian, next)
		sum := mac.Sum(nil)
		at := sum[19] & 15
		return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff%1_000_000)
	}
	t.Fatalf("%s has no token", user)
	return ""
}

// A FreeIPA of somebody's own, in the form of deploy/lab's env files; PLAIN names a user who
// has PASSWORD and no token. It is the one server that the tests do without.
func TestContractFreeIPA(t *testing.T) {
	path := os.Getenv("ESTUARY_TEST_FREEIPA")
	if path == "" {
		t.Log("ESTUARY_TEST_FREEIPA names no server")
		return
	}
	e := readEnv(t, path)
	config, log := e.config()
	plain, err := client(t, config).Find(t.Context(), e["PLAIN"])
	if err != nil {
		t.Fatal(err)
	}
	w := world{
		config: config, log: log, urls: []string{e["LDAPS"]}, password: e["PASSWORD"], certificate: e["CERT"], key: e["KEY"],
		plain: e["PLAIN"], found: map[string]directory.Entry{e["PLAIN"]: plain},
		logins: []loginCase{
			{user: e["PLAIN"], want: directory.Bind{Accepted: true}},
			{
				user: e["PLAIN"], options: directory.BindOptions{Control: true, Tokens: true},
				want: directory.Bind{Code: 49, Reason: directory.ReasonWrong, Counts: true},
			},
		},
	}
	for _, key := range []string{"LDAP", "LDAPI"} {
		if e[key] != "" {
			w.urls = append(w.urls, e[key])
		}
	}
	contract(t, w)
}
