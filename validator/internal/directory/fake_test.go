package directory_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/ipatest"
)

const everybodys = "Secret.123"

// ipa starts the fake of FreeIPA with the people of deploy/lab/dirsrv, and two with both types.
func ipa(t *testing.T) *ipatest.Server {
	t.Helper()
	s, err := ipatest.Start(ipatest.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	s.AddPolicy("strict", ipatest.Policy{MaxFailures: 4, Interval: 2 * time.Minute, Duration: 15 * time.Minute})
	for _, u := range []ipatest.User{
		{UID: "alice", Groups: []string{"admins", "vpn", "staff"}, Aliases: []string{"alice.alias"}},
		{UID: "bob", Groups: []string{"vpn"}},
		{UID: "carol", Policy: "strict"},
		{UID: "björn"},
		{UID: "locked", Locked: true},
		{UID: "expired", PrincipalExpires: past},
		{UID: "stale", PasswordExpires: past},
		{UID: "otto", AuthTypes: []string{"otp"}, Groups: []string{"vpn"}},
		{UID: "dora", AuthTypes: []string{"otp"}},
		{UID: "egon", AuthTypes: []string{"otp"}},
		{UID: "nina", AuthTypes: []string{"otp"}},
		{UID: "olga", AuthTypes: []string{"radius"}, RADIUS: "lab", Groups: []string{"vpn"}},
		{UID: "oleg", AuthTypes: []string{"radius"}, RADIUS: "second", RADIUSUser: "olga"},
		{UID: "both", AuthTypes: []string{"password", "otp"}},
		{UID: "plain", AuthTypes: []string{"password"}},
		{UID: "reset", MustChange: true},
		{UID: "pkinit", AuthTypes: []string{"pkinit"}},
		{UID: "soon", AuthTypes: []string{"otp"}},
	} {
		u.Password, u.CN, u.Mail = everybodys, strings.ToUpper(u.UID[:1])+u.UID[1:]+" Test", []string{u.UID + "@ipa.test"}
		s.AddUser(u)
	}
	for _, k := range []ipatest.Token{
		{ID: "otto", Owner: "otto", HOTP: true},
		{ID: "both", Owner: "both", HOTP: true},
		{ID: "dora", Owner: "dora", Disabled: true},
		{ID: "egon", Owner: "egon", NotAfter: past},
		{ID: "soon", Owner: "soon", NotBefore: time.Now().Add(time.Hour)},
	} {
		s.AddToken(k)
	}
	s.AddRADIUS(ipatest.Proxy{Name: "lab", Servers: []string{"127.0.0.1:1812", "r2.ipa.test"}, Secret: "geheim\xffß", UserMapAttribute: "mail"})
	s.AddRADIUS(ipatest.Proxy{Name: "second", Servers: []string{"[::1]:1812"}, Secret: "x", Timeout: 4, Retries: -1})
	s.AddHost(ipatest.Host{FQDN: "h1.ipa.test", Password: everybodys})
	s.AddHost(ipatest.Host{FQDN: "h2.ipa.test", ManagedBy: []string{"h1.ipa.test"}})
	s.AddService(ipatest.Service{Principal: "HTTP/h1.ipa.test"})
	return s
}

// ipaSettings is a configuration for the fake.
func ipaSettings(servers ...*ipatest.Server) (directory.Config, *buffer) {
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.LDAPS())
	}
	config, log := settings(urls...)
	config.CA, config.BindDN = servers[0].CAFile(), servers[0].ServiceDN()
	config.Password = secret.New([]byte(servers[0].ServicePassword()))
	return config, log
}

// truthTable is what FreeIPA's binds prove, row by row of types and tokens: with and without
// code, with and without the control.
func truthTable() (all []loginCase) {
	yes, token := directory.Bind{Accepted: true}, directory.Bind{Accepted: true, Token: true}
	no := directory.Bind{Code: 49, Reason: directory.ReasonWrong, Counts: true}
	asks, control := directory.BindOptions{Tokens: true}, directory.BindOptions{Control: true, Tokens: true}
	for _, row := range []struct {
		users                            []string
		password, code, passwordC, codeC directory.Bind
	}{
		{[]string{"alice", "plain"}, yes, directory.Bind{}, no, directory.Bind{}},
		{[]string{"otto"}, no, yes, no, token},
		{[]string{"both"}, yes, yes, no, token},
		{[]string{"nina"}, yes, directory.Bind{}, yes, directory.Bind{}},
		{[]string{"dora", "egon", "soon"}, yes, no, yes, no},
		{[]string{"olga", "pkinit"}, no, directory.Bind{}, no, directory.Bind{}},
	} {
		for _, user := range row.users {
			for _, c := range []loginCase{
				{options: asks, want: row.password},
				{code: true, options: asks, want: row.code},
				{options: control, want: row.passwordC},
				{code: true, options: control, want: row.codeC},
			} {
				if c.user = user; c.want != (directory.Bind{}) {
					all = append(all, c)
				}
			}
		}
	}
	return all
}

func TestContractFake(t *testing.T) {
	s := ipa(t)
	config, log := ipaSettings(s)
	certificate, key, err := s.ClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	found := people389()
	for uid, types := range map[string][]string{
		"both": {"password", "otp"}, "plain": {"password"}, "reset": nil, "pkinit": {"pkinit"}, "soon": {"otp"},
	} {
		e := dirsrvUser(uid)
		e.AuthTypes = types
		found[uid] = e
	}
	contract(t, world{
		config: config, log: log, urls: []string{s.LDAPS(), s.LDAP(), s.LDAPI()}, password: everybodys,
		certificate: certificate, key: key, plain: "alice", found: found,
		logins: append(truthTable(),
			loginCase{user: "björn", want: directory.Bind{Accepted: true}},
			loginCase{user: "alice.alias", want: directory.Bind{Accepted: true}},
			loginCase{user: "alice", wrong: true, want: directory.Bind{Code: 49, Reason: directory.ReasonWrong, Counts: true}},
			loginCase{user: "locked", want: directory.Bind{Code: 53, Reason: directory.ReasonLocked}},
			loginCase{user: "expired", want: directory.Bind{Code: 53, Reason: directory.ReasonExpired}},
			loginCase{user: "stale", want: directory.Bind{Accepted: true}},
			loginCase{user: "reset", want: directory.Bind{Reason: directory.ReasonPassword}},
			loginCase{user: "host/h1.ipa.test", want: directory.Bind{Accepted: true}},
		),
		code: func(_ *testing.T, user string) string { return s.Code(user) },
		proxies: map[string]directory.RADIUSProxy{
			"olga": {
				Name: "lab", Servers: []string{"127.0.0.1:1812", "r2.ipa.test"}, Secret: secret.New([]byte("geheim\xffß")),
				Timeout: 15 * time.Second, Retries: 3, User: "olga@ipa.test",
			},
			"oleg": {Name: "second", Servers: []string{"[::1]:1812"}, Secret: secret.New([]byte("x")), Timeout: 4 * time.Second, User: "olga"},
		},
		lockouts: map[string]directory.Lockout{
			"alice": {MaxFailures: 6, Interval: time.Minute, Duration: 10 * time.Minute},
			"carol": {MaxFailures: 4, Interval: 2 * time.Minute, Duration: 15 * time.Minute},
		},
		bound: func(*testing.T) []string { return s.Bound() },
	})
	if s.Clear() != 0 || s.Unauthenticated() != 0 {
		t.Errorf("%d passwords in clear, %d binds without one", s.Clear(), s.Unauthenticated())
	}
	if strings.Contains(log.String(), "geheim") {
		t.Error("a RADIUS secret is in the log")
	}
}

// A code counts once, and too many failures lock.
func TestSpentAndLocked(t *testing.T) {
	s := ipa(t)
	config, _ := ipaSettings(s)
	d := client(t, config)
	bind := func(user, password string) directory.Bind {
		t.Helper()
		e, err := d.Find(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Bind(t.Context(), e, secret.New([]byte(password)), directory.BindOptions{Control: true, Tokens: true})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	password := everybodys + s.Code("otto")
	if b := bind("otto", password); !b.Accepted || !b.Token {
		t.Errorf("%+v", b)
	}
	for i := range 4 {
		if b := bind("carol", "wrong"); b.Reason != directory.ReasonWrong || !b.Counts {
			t.Errorf("failure %d: %+v", i, b)
		}
	}
	if b := bind("carol", everybodys); b.Reason != directory.ReasonTooMany || b.Counts {
		t.Errorf("%+v", b)
	}
	if b := bind("otto", password); b.Accepted || b.Reason != directory.ReasonWrong {
		t.Errorf("the code again: %+v", b)
	}
}

func TestGlobalTypes(t *testing.T) {
	s := ipa(t)
	s.SetGlobalTypes("OTP", "disabled")
	config, _ := ipaSettings(s)
	if got, err := client(t, config).GlobalTypes(t.Context()); err != nil || !slices.Equal(got, []string{"otp", "disabled"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// Without the ACI of deploy/freeipa nobody but the manager reads a RADIUS secret.
func TestSecretsDenied(t *testing.T) {
	s := ipa(t)
	s.DenySecrets(true)
	config, _ := ipaSettings(s)
	d := client(t, config)
	e, err := d.Find(t.Context(), "olga")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Proxy(t.Context(), e); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "deploy/freeipa") {
		t.Errorf("%v", err)
	}
	wrong := 0
	for _, f := range d.Verify(t.Context()) {
		if !f.OK && strings.Contains(f.Fix, "deploy/freeipa") {
			wrong++
		}
	}
	if wrong != 2 {
		t.Errorf("%d findings, want one for each configuration", wrong)
	}
}

// The server fails in every way while it is asked, and is back within two seconds.
func TestFaultsOfRunningServer(t *testing.T) {
	for name, f := range map[string]ipatest.Fault{
		"refuse": ipatest.Refuse, "deaf": ipatest.Deaf, "mute": ipatest.Mute, "slow": ipatest.Slow, "reset": ipatest.Reset,
		"hangup": ipatest.Hangup, "garbage": ipatest.Garbage, "huge": ipatest.Huge, "stalled TLS": ipatest.StallTLS,
	} {
		t.Run(name, func(t *testing.T) {
			s := ipa(t)
			config, log := ipaSettings(s)
			config.Timeout = 400 * time.Millisecond
			d := client(t, config)
			base := runtime.NumGoroutine()
			ctx, stop := context.WithCancel(context.Background())
			var all sync.WaitGroup
			all.Go(func() { _ = d.Run(ctx) })
			who, err := d.Find(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SetFault(f); err != nil {
				t.Fatal(err)
			}
			var calling sync.WaitGroup
			for range 8 {
				calling.Go(func() {
					begin := time.Now()
					_, findErr := d.Find(t.Context(), "alice")
					_, bindErr := d.Bind(t.Context(), who, secret.New([]byte(everybodys)), directory.BindOptions{Tokens: true})
					if took := time.Since(begin); took > 2*config.Timeout+slack {
						t.Errorf("two calls took %v", took)
					}
					if f != ipatest.StallTLS && (!errors.Is(findErr, fault.Unavailable) || !errors.Is(bindErr, fault.Unavailable)) {
						t.Errorf("%v, %v", findErr, bindErr)
					}
				})
			}
			calling.Wait()
			if err := s.SetFault(ipatest.NoFault); err != nil {
				t.Fatal(err)
			}
			healed := time.Now()
			for {
				if _, err = d.Find(t.Context(), "alice"); err == nil {
					break
				}
				if time.Since(healed) > 2*time.Second {
					t.Fatalf("not back: %v, log:\n%s", err, log.String())
				}
				time.Sleep(20 * time.Millisecond)
			}
			stop()
			all.Wait()
			s.CloseConnections()
			settled(t, base)
		})
	}
}

// The answer to a bind is lost: the password has been seen once, by one server.
func TestLostAnswers(t *testing.T) {
	for _, f := range []ipatest.Fault{ipatest.Mute, ipatest.Reset, ipatest.Hangup, ipatest.Garbage, ipatest.Huge} {
		one, other := ipa(t), ipa(t)
		config, _ := ipaSettings(one, other)
		authorities, err := os.ReadFile(one.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		more, err := os.ReadFile(other.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		config.CA = filepath.Join(t.TempDir(), "both.pem")
		if err := os.WriteFile(config.CA, append(authorities, more...), 0o600); err != nil {
			t.Fatal(err)
		}
		config.Timeout = 400 * time.Millisecond
		d := client(t, config)
		one.SetBindFault(f)
		other.SetBindFault(f)
		_, err = d.Bind(t.Context(), user, secret.New([]byte(everybodys)), directory.BindOptions{})
		var unknown *directory.Unknown
		if !errors.As(err, &unknown) || !unknown.Sent {
			t.Errorf("%v: %v", f, err)
		}
		if n := one.Binds(alice) + other.Binds(alice); n != 1 {
			t.Errorf("%v: %d binds", f, n)
		}
	}
}
