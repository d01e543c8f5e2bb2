package ipatest_test

import (
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// What a bind proves, and what it does not: with and without a code, with and without the
// control that asks for a second factor.
func TestTruthTable(t *testing.T) {
	now := newClock()
	past, future := now.Now().Add(-time.Hour), now.Now().Add(time.Hour)
	good := &ipatest.Token{}
	for _, c := range []struct {
		name   string
		types  []string
		global []string
		token  *ipatest.Token
		// Result codes of password, password+code, password with control, both with control.
		want [4]int
	}{
		{"none, no token", nil, nil, nil, [4]int{0, 49, 49, 49}},
		{"password, no token", []string{"password"}, nil, nil, [4]int{0, 49, 49, 49}},
		{"none, active token", nil, nil, good, [4]int{0, 49, 49, 49}},
		{"otp, active token", []string{"otp"}, nil, good, [4]int{49, 0, 49, 0}},
		{"otp, active HOTP token", []string{"otp"}, nil, &ipatest.Token{HOTP: true}, [4]int{49, 0, 49, 0}},
		{"password and otp, active token", []string{"password", "otp"}, nil, good, [4]int{0, 0, 49, 0}},
		{"otp, no token", []string{"otp"}, nil, nil, [4]int{0, 49, 0, 49}},
		{"password and otp, no token", []string{"password", "otp"}, nil, nil, [4]int{0, 49, 0, 49}},
		{"otp, disabled token", []string{"otp"}, nil, &ipatest.Token{Disabled: true}, [4]int{0, 49, 0, 49}},
		{"otp, expired token", []string{"otp"}, nil, &ipatest.Token{NotAfter: past}, [4]int{0, 49, 0, 49}},
		{"otp, token of the future", []string{"otp"}, nil, &ipatest.Token{NotBefore: future}, [4]int{0, 49, 0, 49}},
		{"otp, token good now", []string{"otp"}, nil, &ipatest.Token{NotBefore: past, NotAfter: future}, [4]int{49, 0, 49, 0}},
		{"radius", []string{"radius"}, nil, nil, [4]int{49, 49, 49, 49}},
		{"pkinit", []string{"pkinit"}, nil, nil, [4]int{49, 49, 49, 49}},
		{"idp, active token", []string{"idp"}, nil, good, [4]int{49, 49, 49, 49}},
		{"OTP in capitals", []string{"OTP"}, nil, good, [4]int{49, 0, 49, 0}},
		{"unknown type", []string{"magic"}, nil, nil, [4]int{0, 49, 49, 49}},
		{"none, global otp", nil, []string{"otp"}, good, [4]int{49, 0, 49, 0}},
		{"password, global otp", []string{"password"}, []string{"otp"}, good, [4]int{0, 49, 49, 49}},
		{"otp, global disabled", []string{"otp"}, []string{"disabled"}, good, [4]int{0, 49, 49, 49}},
		{"password, global disabled and otp", []string{"password"}, []string{"disabled", "otp"}, good, [4]int{49, 0, 49, 0}},
		{"none, global radius", nil, []string{"radius"}, nil, [4]int{49, 49, 49, 49}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, ipatest.Config{Now: now.Now})
			s.SetGlobalTypes(c.global...)
			s.SetPolicy(ipatest.Policy{})
			dn := s.AddUser(ipatest.User{UID: "alice", Password: "Secret.123", AuthTypes: c.types})
			if c.token != nil {
				c.token.ID, c.token.Owner = "t1", "alice"
				s.AddToken(*c.token)
			}
			connection := dial(t, s)
			for i, want := range c.want {
				password := "Secret.123"
				if i%2 == 1 {
					password += code(s, "t1")
				}
				if got, text := bindOn(t, connection, dn, password, i > 1); got != want {
					t.Errorf("code %t, control %t: result %d %s, want %d", i%2 == 1, i > 1, got, text, want)
				}
			}
			if got := s.Binds(dn); got != 4 {
				t.Errorf("Binds is %d", got)
			}
		})
	}
}

// code is a token's code, or one of nobody.
func code(s *ipatest.Server, id string) string {
	if c := s.Code(id); c != "" {
		return c
	}
	return "123456"
}

func TestRefusals(t *testing.T) {
	now := newClock()
	s := start(t, ipatest.Config{Now: now.Now})
	user := func(u ipatest.User) string {
		u.Password = "Secret.123"
		return s.AddUser(u)
	}
	locked := user(ipatest.User{UID: "locked", Locked: true})
	lockedOTP := user(ipatest.User{UID: "lockedotp", Locked: true, AuthTypes: []string{"otp"}})
	s.AddToken(ipatest.Token{ID: "t1", Owner: "lockedotp"})
	for _, c := range []struct {
		name, dn, password string
		code               int
		text               string
	}{
		{"locked", locked, "Secret.123", 53, "Account inactivated. Contact system administrator."},
		{"locked, wrong password", locked, "wrong", 53, "Account inactivated. Contact system administrator."},
		{"locked, wrong code", lockedOTP, "Secret.123000000", 49, ""},
		{"locked, right code", lockedOTP, "Secret.123" + s.Code("t1"), 53, "Account inactivated. Contact system administrator."},
		{"expired", user(ipatest.User{UID: "gone", PrincipalExpires: now.Now().Add(-time.Second)}), "Secret.123", 53, "Account (Kerberos principal) is expired"},
		{"expired now", user(ipatest.User{UID: "going", PrincipalExpires: now.Now()}), "Secret.123", 0, ""},
		{"password expired", user(ipatest.User{UID: "old", PasswordExpires: now.Now().Add(-time.Hour)}), "Secret.123", 0, ""},
		{"nobody", s.UserDN("nobody"), "Secret.123", 49, ""},
		{"elsewhere", "uid=alice,dc=example", "Secret.123", 32, ""},
		{"no DN", "alice", "Secret.123", 34, "Invalid DN"},
		{"no password on the entry", s.AddHost(ipatest.Host{FQDN: "h.ipa.test"}), "Secret.123", 49, ""},
		{"host", s.AddHost(ipatest.Host{FQDN: "i.ipa.test", Password: "x"}), "x", 0, ""},
	} {
		if got, text := bind(t, s, c.dn, c.password, false); got != c.code || text != c.text {
			t.Errorf("%s: result %d %q, want %d %q", c.name, got, text, c.code, c.text)
		}
	}
}

// A DN without a password binds nobody and succeeds.
func TestEmptyPassword(t *testing.T) {
	s := start(t, ipatest.Config{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "Secret.123"})
	c := dial(t, s)
	if got, _ := bindOn(t, c, dn, "", false); got != 0 {
		t.Errorf("result %d", got)
	}
	if who, err := c.WhoAmI(nil); err != nil || who.AuthzID != "" {
		t.Errorf("bound as %v, error %v", who, err)
	}
	if s.Unauthenticated() != 1 || s.Binds(dn) != 1 || len(s.Bound()) != 1 || s.Bound()[0] != dn {
		t.Errorf("%d unauthenticated, %d binds, bound %q", s.Unauthenticated(), s.Binds(dn), s.Bound())
	}
}
