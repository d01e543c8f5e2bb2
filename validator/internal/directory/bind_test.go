package directory_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

var user = directory.Entry{DN: alice, Principal: "alice", Realm: realm}

func hidden(text string) secret.Bytes { return secret.New([]byte(text)) }

func TestBindResults(t *testing.T) {
	cases := []struct {
		name   string
		answer answer
		want   directory.Bind
	}{
		{"right", answer{}, directory.Bind{Accepted: true}},
		{"wrong", answer{code: 49}, directory.Bind{Code: 49, Reason: directory.ReasonWrong, Counts: true}},
		{"locked", answer{code: 53, text: "Account inactivated. Contact system administrator."}, directory.Bind{Code: 53, Reason: directory.ReasonLocked}},
		{"expired", answer{code: 53, text: "Account (Kerberos principal) is expired"}, directory.Bind{Code: 53, Reason: directory.ReasonExpired}},
		{"too many", answer{code: 53, text: "Too many failed logins."}, directory.Bind{Code: 53, Reason: directory.ReasonTooMany}},
		{"unwilling", answer{code: 53, text: "no"}, directory.Bind{Code: 53, Reason: directory.ReasonUnwilling}},
		{"policy", answer{code: 19, text: "no"}, directory.Bind{Code: 19, Reason: directory.ReasonPolicy}},
		{"retries", answer{code: 19, text: "Exceed password retry limit. Please try later."}, directory.Bind{Code: 19, Reason: directory.ReasonTooMany}},
		{"control", answer{code: 12}, directory.Bind{Code: 12, Reason: directory.ReasonControl}},
		{"no password", answer{code: 48}, directory.Bind{Code: 48, Reason: directory.ReasonNoPassword}},
		{"no access", answer{code: 50}, directory.Bind{Code: 50, Reason: directory.ReasonUnwilling}},
		{"gone", answer{code: 32}, directory.Bind{Code: 32, Reason: directory.ReasonGone}},
		{"password expired", answer{controls: []string{"2.16.840.1.113730.3.4.4"}}, directory.Bind{Reason: directory.ReasonPassword}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, "")
			s.bind = func(string, string, []string) answer { return c.answer }
			config, log := settings(s.url())
			c.want.Server = "localhost"
			got, err := client(t, config).Bind(t.Context(), user, hidden("hunter2 canary"), directory.BindOptions{})
			if err != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
			if strings.Contains(log.String(), "hunter2") {
				t.Error("the password is in the log")
			}
		})
	}
}

// A code that says nothing about the password is an Unknown, and so is a lost answer: the
// password has been sent, and no other server sees it.
func TestBindUnknown(t *testing.T) {
	for _, a := range []answer{{code: 1}, {code: 51}, {code: 52}, {code: 80}, {code: 10}, {code: 8}, {drop: true}} {
		one, other := listen(t, ""), listen(t, "")
		one.bind = func(string, string, []string) answer { return a }
		other.bind = one.bind
		config, _ := settings(one.url(), other.url())
		_, err := client(t, config).Bind(t.Context(), user, hidden("hunter2"), directory.BindOptions{})
		var unknown *directory.Unknown
		if !errors.As(err, &unknown) || !unknown.Sent || !errors.Is(err, fault.Unavailable) {
			t.Errorf("%+v: %v, want an Unknown that was sent", a, err)
		}
		if n := len(one.tried()) + len(other.tried()); n != 1 {
			t.Errorf("%+v: %d servers have seen the password", a, n)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

func TestBindAsksWhoIsBound(t *testing.T) {
	cases := []struct {
		name string
		who  string
		code int64
		drop bool
		want string // the reason; empty for accepted, "unknown" for that
	}{
		{name: "the same", who: "dn:" + alice},
		{name: "as 389-ds writes it", who: "dn: UID=Alice, cn=Users,cn=accounts,dc=ipa,dc=test"},
		{name: "somebody else", who: "dn:uid=admin,cn=users,cn=accounts,dc=ipa,dc=test", want: directory.ReasonSomebodyElse},
		{name: "anonymous", who: "", want: directory.ReasonSomebodyElse},
		{name: "empty DN", who: "dn:", want: directory.ReasonSomebodyElse},
		{name: "no DN", who: "u:alice", want: directory.ReasonSomebodyElse},
		{name: "not known", code: 2},
		{name: "restricted", code: 53, want: directory.ReasonPolicy},
		{name: "failed", code: 80, want: "unknown"},
		{name: "lost", drop: true, want: "unknown"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, "")
			s.who = func(string) (string, answer) { return c.who, answer{code: c.code, drop: c.drop} }
			config, _ := settings(s.url())
			got, err := client(t, config).Bind(t.Context(), user, hidden("x"), directory.BindOptions{})
			var unknown *directory.Unknown
			switch {
			case c.want == "unknown":
				if !errors.As(err, &unknown) || !unknown.Sent {
					t.Errorf("%+v, %v; want an Unknown that was sent", got, err)
				}
			case err != nil || got.Accepted != (c.want == "") || got.Reason != c.want || got.Counts:
				t.Errorf("%+v, %v; want %q", got, err, c.want)
			}
			if len(s.tried()) != 1 {
				t.Errorf("%d binds", len(s.tried()))
			}
		})
	}
}

func TestNothingIsSentThatMustNotBe(t *testing.T) {
	s := listen(t, "")
	config, _ := settings(s.url())
	d := client(t, config)
	for _, p := range []string{"", "x\x00y", strings.Repeat("x", 5000)} {
		got, err := d.Bind(t.Context(), user, hidden(p), directory.BindOptions{})
		if err != nil || got.Accepted || got.Reason != directory.ReasonForm || got.Counts {
			t.Errorf("a password of %d octets: %+v, %v", len(p), got, err)
		}
	}
	for _, dn := range []string{"", " ", "alice", "uid=", "\x00"} {
		_, err := d.Bind(t.Context(), directory.Entry{DN: dn}, hidden("x"), directory.BindOptions{})
		var unknown *directory.Unknown
		if !errors.As(err, &unknown) || unknown.Sent {
			t.Errorf("DN %q: %v", dn, err)
		}
	}
	if s.dialled() != 0 {
		t.Errorf("%d connections", s.dialled())
	}
}

func TestControlIsSentCritical(t *testing.T) {
	for _, c := range []struct{ setting, asked, want bool }{{true, true, true}, {true, false, false}, {false, true, false}} {
		s := listen(t, "")
		var got []string
		s.bind = func(_, _ string, controls []string) answer { got = controls; return answer{} }
		config, _ := settings(s.url())
		config.OTPRequiredControl = c.setting
		if _, err := client(t, config).Bind(t.Context(), user, hidden("x"), directory.BindOptions{Control: c.asked}); err != nil {
			t.Fatal(err)
		}
		if sent := slices.Equal(got, []string{"2.16.840.1.113730.3.8.10.7 critical"}); sent != c.want || !sent && got != nil {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestTokens(t *testing.T) {
	const stamp = "20060102150405Z"
	now := time.Now().UTC()
	past, future := now.Add(-time.Hour).Format(stamp), now.Add(time.Hour).Format(stamp)
	token := func(more map[string][]string) entry {
		e := entry{"ipatokenuniqueid=1,cn=otp," + base, map[string][]string{
			"objectClass": {"top", "ipaToken", "ipatokenTOTP"}, "ipatokenOwner": {alice},
		}}
		for name, values := range more {
			e.attrs[name] = values
		}
		return e
	}
	cases := []struct {
		name    string
		answer  answer
		want    bool
		unknown bool
	}{
		{"none", answer{}, false, false},
		{"no tree", answer{code: 32}, false, false},
		{"one", answer{entries: []entry{token(nil)}}, true, false},
		{"its owner in another spelling", answer{entries: []entry{token(map[string][]string{"ipatokenOwner": {strings.ToUpper(alice)}})}}, true, false},
		{"in its time", answer{entries: []entry{token(map[string][]string{"ipatokenNotBefore": {past}, "ipatokenNotAfter": {future}})}}, true, false},
		{"not yet", answer{entries: []entry{token(map[string][]string{"ipatokenNotBefore": {future}})}}, false, false},
		{"no longer", answer{entries: []entry{token(map[string][]string{"ipatokenNotAfter": {past}})}}, false, false},
		{"no longer, by a clock ahead", answer{entries: []entry{token(map[string][]string{"ipatokenNotAfter": {now.Add(20 * time.Second).Format(stamp)}})}}, false, false},
		{"not yet, by a clock behind", answer{entries: []entry{token(map[string][]string{"ipatokenNotBefore": {now.Add(-20 * time.Second).Format(stamp)}})}}, false, false},
		{"garbled", answer{entries: []entry{token(map[string][]string{"ipatokenNotAfter": {"next year"}})}}, false, false},
		{"two ends", answer{entries: []entry{token(map[string][]string{"ipatokenNotAfter": {future, past}})}}, false, false},
		{"disabled", answer{entries: []entry{token(map[string][]string{"ipatokenDisabled": {"TRUE"}})}}, false, false},
		{"enabled", answer{entries: []entry{token(map[string][]string{"ipatokenDisabled": {"FALSE"}})}}, true, false},
		{"somebody else's", answer{entries: []entry{token(map[string][]string{"ipatokenOwner": {"uid=bob," + base}})}}, false, false},
		{"without owner", answer{entries: []entry{token(map[string][]string{"ipatokenOwner": nil})}}, false, false},
		{"no token", answer{entries: []entry{token(map[string][]string{"objectClass": {"top"}})}}, false, false},
		{"the second", answer{entries: []entry{token(map[string][]string{"ipatokenNotAfter": {past}}), token(nil)}}, true, false},
		{"too many", answer{code: 4, entries: []entry{token(nil)}}, true, false},
		{"not allowed", answer{code: 50}, false, true},
		{"lost", answer{drop: true}, false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, "")
			s.search = func(at, filter string) answer {
				if at != "cn=otp,"+base || !strings.Contains(filter, "(ipatokenOwner="+alice+")") {
					t.Errorf("a search for %s at %q", filter, at)
				}
				return c.answer
			}
			config, _ := settings(s.url())
			got, err := client(t, config).Bind(t.Context(), user, hidden("x"), directory.BindOptions{Control: true, Tokens: true})
			var unknown *directory.Unknown
			if errors.As(err, &unknown) != c.unknown || c.unknown && !unknown.Sent || !c.unknown && (!got.Accepted || got.Token != c.want) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// Without the control a token proves nothing: its owner may have been let in by the password.
func TestTokenWithoutControl(t *testing.T) {
	for _, known := range []bool{true, false} {
		s := listen(t, "")
		s.search = func(at, filter string) answer {
			t.Errorf("a search for %s at %q", filter, at)
			return answer{}
		}
		config, _ := settings(s.url())
		config.OTPRequiredControl = known
		got, err := client(t, config).Bind(t.Context(), user, hidden("x"), directory.BindOptions{Control: !known, Tokens: true})
		if err != nil || !got.Accepted || got.Token {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestEvidence(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  answer
		want    bool
		unknown bool
	}{
		{"there", answer{entries: []entry{person("alice", nil)}}, true, false},
		{"not there", answer{}, false, false},
		{"another entry", answer{entries: []entry{person("bob", nil)}}, false, true},
		{"not allowed", answer{code: 50}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, "")
			s.search = func(at, filter string) answer {
				if at != alice || filter != "(oathTOTPToken=*)" {
					t.Errorf("a search for %s at %q", filter, at)
				}
				return c.answer
			}
			config, _ := settings(s.url())
			config.OTPRequiredControl, config.Evidence = false, "(oathTOTPToken=*)"
			got, err := client(t, config).Bind(t.Context(), user, hidden("x"), directory.BindOptions{Control: true, Tokens: true})
			if errors.Is(err, fault.Unavailable) != c.unknown || got.Token != c.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
