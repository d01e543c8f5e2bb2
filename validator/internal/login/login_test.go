package login_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/ipatest"
)

// user makes an account with these types, and a HOTP token of its name where token is set.
func (w *world) user(name string, types string, token bool) string {
	w.t.Helper()
	w.ipa.AddUser(ipatest.User{UID: name, Password: password, AuthTypes: strings.Fields(types)})
	if token {
		w.ipa.AddToken(ipatest.Token{ID: name, Owner: name, HOTP: true})
	}
	return name
}

// behind makes an account whose passwords the RADIUS server checks.
func (w *world) behind(name, good string) {
	w.t.Helper()
	w.ipa.AddRADIUS(ipatest.Proxy{Name: name, Servers: []string{w.radius.address()}, Secret: radiusSecret, Timeout: 1, Retries: 1})
	w.ipa.AddUser(ipatest.User{UID: name, Password: password, AuthTypes: []string{"radius"}, RADIUS: name})
	w.radius.set(func() { w.radius.good[name] = good })
}

// Every row of what a bind proves: where it succeeds without a second factor, none is
// asserted.
func TestTruthTable(t *testing.T) {
	w := newWorld(t, options{})
	w.user("none", "", false)
	w.user("password", "password", false)
	w.user("otp", "otp", true)
	w.user("both", "password otp", true)
	w.user("tokenless", "otp", false)
	w.ipa.AddUser(ipatest.User{UID: "disabled", Password: password, AuthTypes: []string{"otp"}})
	w.ipa.AddToken(ipatest.Token{ID: "disabled", Owner: "disabled", HOTP: true, Disabled: true})
	w.ipa.AddUser(ipatest.User{UID: "expired", Password: password, AuthTypes: []string{"otp"}})
	w.ipa.AddToken(ipatest.Token{ID: "expired", Owner: "expired", HOTP: true, NotAfter: time.Now().Add(-time.Hour)})
	w.user("radius", "radius", false)
	w.user("pkinit", "pkinit", false)
	w.user("idp", "idp", false)
	n := byte(0)
	for _, c := range []struct{ user, alone, withCode string }{
		{"none", "ldap-password", "refused"},
		{"password", "ldap-password", "refused"},
		{"otp", "refused", "ldap-otp"},
		{"both", "refused", "ldap-otp"},
		{"tokenless", "refused", "refused"}, // the bind with the password alone succeeds, under the control
		{"disabled", "refused", "refused"},  // likewise
		{"expired", "refused", "refused"},   // likewise
		{"radius", "refused", "refused"},
		{"pkinit", "refused", "refused"},
		{"idp", "refused", "refused"},
	} {
		for _, accept := range []bool{false, true} {
			for code, want := range map[bool]string{false: c.alone, true: c.withCode} {
				n++
				a := attempt(c.user, password)
				if code {
					next := "123456"
					if c.user == "otp" || c.user == "both" {
						next = w.ipa.Code(c.user)
					}
					a = attempt(c.user, password+next)
				}
				a.AcceptPassword, a.Binding = accept, key(n)
				if !accept && want == "ldap-password" {
					want = "refused"
				}
				out, err := w.try(a)
				if err != nil {
					t.Fatal(err)
				}
				got := "refused"
				if out.Refused == "" {
					got = map[assertionv1.Method]string{
						assertionv1.Method_METHOD_LDAP_OTP: "ldap-otp", assertionv1.Method_METHOD_LDAP_PASSWORD: "ldap-password",
					}[assertionv1.Method(out.Proved.Method)]
				}
				otp := len(out.Proved.Indicators) == 1 && out.Proved.Indicators[0] == "otp"
				if got != want || otp != (want == "ldap-otp") || (len(out.Spent) > 0) != (want == "ldap-otp") && out.Refused == "" {
					t.Errorf("%s, with code %v, passwords accepted %v: %s with indicators %q (%s), not %s",
						c.user, code, accept, got, out.Proved.Indicators, out.Refused, want)
				}
				w.advance(2 * time.Minute) // the failures of the one before are forgotten
			}
		}
	}
}

// A second attempt with the same code: which answer, and that nobody is asked again.
func TestRepeats(t *testing.T) {
	w := newWorld(t, options{})
	w.user("alice", "otp", true)
	a := attempt("alice", password+w.ipa.Code("alice"))
	first := w.proves(a, "otp")
	again := w.proves(a, "otp")
	if !again.Repeated || !again.Proved.At.Equal(first.Proved.At) || len(again.Spent) != 1 || string(again.Spent[0]) != string(first.Spent[0]) {
		t.Errorf("the repeat is another one: %+v, %+v", first.Proved, again.Proved)
	}
	other := a
	other.Binding = key(2)
	w.refuses(other, "another key")
	w.advance(4 * time.Minute)
	w.proves(attempt("alice@IPA.TEST", string(a.Password.Reveal())), "otp") // the same account
	w.advance(2 * time.Minute)
	w.refuses(a, "more than five minutes ago")
	if n := w.ipa.Binds(w.ipa.UserDN("alice")); n != 1 {
		t.Errorf("%d binds", n)
	}
}

// A linked account's password goes to its RADIUS server and nowhere else.
func TestRADIUS(t *testing.T) {
	w := newWorld(t, options{})
	w.behind("olga", "tok123456")
	w.proves(attempt("olga", "tok123456"), "radius")
	w.proves(attempt("olga", "tok123456"), "radius")
	if n := w.radius.asked(); n != 1 {
		t.Errorf("%d requests for one code", n)
	}
	w.refuses(attempt("olga", "wrong"), "refused the password")
	w.refuses(attempt("olga", "ask"), "Access-Challenge")
	if n := w.ipa.Binds(w.ipa.UserDN("olga")); n != 0 {
		t.Errorf("%d binds beside RADIUS", n)
	}
	// The directory's ban holds on this way too.
	asked := w.radius.asked()
	w.ipa.AddUser(ipatest.User{UID: "locked", Password: password, AuthTypes: []string{"radius"}, RADIUS: "olga", Locked: true})
	w.ipa.AddUser(ipatest.User{UID: "ended", Password: password, AuthTypes: []string{"radius"}, RADIUS: "olga", PrincipalExpires: time.Now().Add(-time.Hour)})
	w.radius.set(func() { w.radius.good["locked"], w.radius.good["ended"] = "tok1", "tok1" })
	w.refuses(attempt("locked", "tok1"), "locked")
	w.refuses(attempt("ended", "tok1"), "expired")
	if n := w.radius.asked(); n != asked {
		t.Error("a locked account's server was asked")
	}
}

// The answer to a challenge may stand behind a separator.
func TestChallenge(t *testing.T) {
	w := newWorld(t, options{login: func(c *login.Config) { c.Separator = "//" }})
	w.behind("olga", "unused")
	w.proves(attempt("olga", "ask//42"), "radius")
	w.refuses(attempt("olga", "ask//43"), "refused the password")
	w.refuses(attempt("olga", "ask"), "Access-Challenge")
}

// A code that a server did not answer for is lost; its account is not blamed.
func TestUnknownFate(t *testing.T) {
	w := newWorld(t, options{})
	w.behind("olga", "tok1")
	w.radius.set(func() { w.radius.silent = true })
	a := attempt("olga", "tok1")
	_, err := w.try(a)
	if !errors.Is(err, fault.Unavailable) || !contains(fault.Public(err), "next code") {
		t.Fatalf("a server that is silent: %v", err)
	}
	w.radius.set(func() { w.radius.silent = false })
	w.refuses(a, "the next one is needed")
	w.radius.set(func() { w.radius.good["olga"] = "tok2" })
	for n := range byte(5) { // more than there is room for failures
		a := attempt("olga", "tok2")
		a.Binding = key(n)
		if n == 0 {
			w.proves(a, "radius")
			continue
		}
		w.refuses(a, "another key")
	}
}

// While a RADIUS server is down a name that is no account is answered as one of its could be.
func TestUnknownNamesWhileAServerIsDown(t *testing.T) {
	w := newWorld(t, options{})
	w.behind("olga", "tok1")
	w.user("bob", "otp", true)
	w.refuses(attempt("nobody", "x"), "unknown account")
	w.radius.set(func() { w.radius.silent = true })
	for n := range 3 {
		if _, err := w.try(attempt("olga", fmt.Sprint("tok", n))); !errors.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
	}
	_, err := w.try(attempt("nobody", "x"))
	_, known := w.try(attempt("olga", "tok9"))
	if !errors.Is(err, fault.Unavailable) || fault.Public(err) != fault.Public(known) {
		t.Errorf("a name that is none: %v; an account: %v", err, known)
	}
	w.proves(attempt("bob", password+w.ipa.Code("bob")), "otp") // others go on
}

// Four failures reach the directory, whoever makes them and through whichever validator; the
// account is never locked.
func TestThrottle(t *testing.T) {
	w := newWorld(t, options{})
	w.user("alice", "otp", true)
	replicas := []*login.Login{w.login, w.replica(options{}), w.replica(options{})}
	var wg sync.WaitGroup
	var asked, kept atomic.Int64
	for n := range 30 {
		wg.Go(func() {
			a := attempt("alice", fmt.Sprintf("%s%06d", password, n+900000))
			a.Binding = key(byte(n))
			out, err := w.tryAt(replicas[n%3], a)
			switch {
			case err != nil:
				t.Error(err)
			case contains(out.Refused, "too many failed logins of this account"):
				kept.Add(1)
			case contains(out.Refused, "wrong password"):
				asked.Add(1)
			default:
				t.Errorf("refused %q", out.Refused)
			}
		})
	}
	wg.Wait()
	if n := w.ipa.Binds(w.ipa.UserDN("alice")); n != 4 || asked.Load() != 4 || kept.Load() != 26 {
		t.Errorf("%d binds, %d refused by the directory, %d kept from it", n, asked.Load(), kept.Load())
	}
	good := attempt("alice", password+w.ipa.Code("alice"))
	good.Binding = key(99)
	w.refuses(good, "too many failed logins")
	w.advance(71 * time.Second)
	w.proves(good, "otp")
}

// A user who hangs up while the directory works gets what it said when he comes again.
func TestHangingUp(t *testing.T) {
	w := newWorld(t, options{})
	w.behind("olga", "tok1")
	w.radius.set(func() { w.radius.delay = 300 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	a := attempt("olga", "tok1")
	out, err := w.login.Check(ctx, a)
	if err != nil || out.Refused != "" || ctx.Err() == nil {
		t.Fatalf("refused %q, %v", out.Refused, err)
	}
	if err := w.state.Settle(context.WithoutCancel(ctx), out.Settlement, nil); err != nil {
		t.Fatal(err)
	}
	if again := w.proves(a, "radius"); !again.Repeated {
		t.Error("the server was asked again")
	}
}

// The same attempt several times at once: one asks, the others wait for what it is told.
func TestSameAttemptAtOnce(t *testing.T) {
	w := newWorld(t, options{})
	w.behind("olga", "tok1")
	w.radius.set(func() { w.radius.delay = 300 * time.Millisecond })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if out, err := w.try(attempt("olga", "tok1")); err != nil || out.Refused != "" {
				t.Errorf("refused %q, %v", out.Refused, err)
			}
		})
	}
	wg.Wait()
	if w.radius.asked() != 1 {
		t.Errorf("%d requests", w.radius.asked())
	}
}

// Validators that are changing their spend keys do not both take one code to a back end.
func TestKeySets(t *testing.T) {
	keys := func(n ...byte) func(*login.Config) {
		return func(c *login.Config) {
			c.Keys = nil
			for _, b := range n {
				c.Keys = append(c.Keys, secret.New(append(make([]byte, login.KeySize-1), b)))
			}
		}
	}
	w := newWorld(t, options{login: keys(1, 2)})
	w.behind("olga", "tok1") // accepted again and again
	w.proves(attempt("olga", "tok1"), "radius")
	a := attempt("olga", "tok1")
	a.Binding = key(2)
	if out, err := w.tryAt(w.replica(options{login: keys(2, 3)}), a); err != nil || !contains(out.Refused, "another key") {
		t.Errorf("refused %q, %v", out.Refused, err)
	}
	if n := w.radius.asked(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// What the directory and the settings say of an account, before its password is looked at.
func TestBarred(t *testing.T) {
	w := newWorld(t, options{login: func(c *login.Config) { c.PasswordExpiration = true }})
	past := time.Now().Add(-time.Hour)
	w.ipa.AddUser(ipatest.User{UID: "locked", Password: password, Locked: true})
	w.ipa.AddUser(ipatest.User{UID: "ended", Password: password, PrincipalExpires: past})
	w.ipa.AddUser(ipatest.User{UID: "stale", Password: password, PasswordExpires: past})
	w.user("fine", "", false)
	for name, words := range map[string]string{
		"locked": "nsAccountLock", "ended": "krbPrincipalExpiration", "stale": "krbPasswordExpiration", "nobody": "unknown account",
	} {
		a := attempt(name, password)
		a.AcceptPassword = true
		w.refuses(a, words)
		if _, reason, err := w.login.Account(t.Context(), name); err != nil || !contains(reason, words) {
			t.Errorf("%s: standing %q, %v", name, reason, err)
		}
	}
	if _, reason, err := w.login.Account(t.Context(), "fine"); err != nil || reason != "" {
		t.Errorf("standing %q, %v", reason, err)
	}
	w.refuses(login.Attempt{User: "", Password: secret.New([]byte("x"))}, "no user name")
	w.refuses(login.Attempt{User: "fine"}, "password is empty")
	w.refuses(attempt("fine", "a\x00b"), "NUL")
	for _, dn := range w.ipa.Bound() {
		if dn != w.ipa.ServiceDN() {
			t.Errorf("somebody was bound: %s", dn)
		}
	}
}

// Servers of the configuration, for accounts of a directory that names none.
func TestConfiguredServers(t *testing.T) {
	var address string
	w := newWorld(t, options{})
	address = w.radius.address()
	w.radius.set(func() { w.radius.good["alice"] = "tok1" })
	w.user("alice", "", false)
	w.user("bob", "", false)
	l := w.replica(options{login: func(c *login.Config) { c.Proxies = []login.Proxy{proxyAt(address, "(uid=alice)")} }})
	if out, err := w.tryAt(l, attempt("alice", "tok1")); err != nil || out.Refused != "" || out.Proved.Indicators[0] != "radius" {
		t.Errorf("refused %q, %v", out.Refused, err)
	}
	if out, err := w.tryAt(l, attempt("bob", "tok1")); err != nil || !contains(out.Refused, "password alone") {
		t.Errorf("an account that the filter leaves out: %q, %v", out.Refused, err)
	}
}

// A directory without FreeIPA's control: only its own evidence makes an otp of a bind.
func TestEvidence(t *testing.T) {
	plain := func(evidence string) options {
		return options{directory: func(c *directory.Config) { c.OTPRequiredControl, c.Evidence = false, evidence }}
	}
	w := newWorld(t, plain("(mail=token@ipa.test)"))
	w.ipa.AddUser(ipatest.User{UID: "with", Password: password, Mail: []string{"token@ipa.test"}})
	w.ipa.AddUser(ipatest.User{UID: "without", Password: password})
	w.proves(attempt("with", password), "otp")
	w.refuses(attempt("without", password), "without a second factor")
	a := attempt("without", password)
	a.AcceptPassword = true
	if out := w.proves(a); len(out.Spent) != 0 {
		t.Error("a password is used up")
	}
	w.proves(a) // and is good again
	none := w.replica(plain(""))
	w.user("types", "otp", false)
	if out, err := w.tryAt(none, attempt("types", password)); err != nil || !contains(out.Refused, "no second factor can be proved") {
		t.Errorf("refused %q, %v", out.Refused, err)
	}
}

func TestNewRefusesBadKeys(t *testing.T) {
	w := newWorld(t, options{})
	for name, keys := range map[string][]secret.Bytes{
		"none":     {},
		"short":    {secret.New(make([]byte, login.KeySize-1))},
		"same":     {secret.New(make([]byte, login.KeySize)), secret.New(make([]byte, login.KeySize))},
		"too many": {secret.New(make([]byte, login.KeySize)), secret.New(make([]byte, login.KeySize)), secret.New(make([]byte, login.KeySize))},
	} {
		c := w.config
		c.Keys = keys
		if _, err := login.New(c); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}
