package login_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/ipatest"
)

// A code is one credential, whatever stands behind the separator: this server takes it again
// and again.
func TestAnswerThatNobodyAskedFor(t *testing.T) {
	w := newWorld(t, options{login: func(c *login.Config) { c.Separator = "//" }})
	w.behind("olga", "tok1")
	for n, text := range []string{"tok1//1", "tok1//2", "tok1//"} {
		a := attempt("olga", text)
		a.Binding = key(byte(n))
		w.refuses(a, "separator")
	}
	w.proves(attempt("olga", "tok1"), "radius")
}

// A server that does not answer may have counted a failure: no more than the limit are sent
// until it has forgotten them, although nobody knows of one.
func TestUnansweredAttemptsTakeRoom(t *testing.T) {
	w := newWorld(t, options{})
	w.user("alice", "otp", true)
	w.ipa.SetBindDelay(3*time.Second, 3*time.Second) // more than the directory's timeout
	guess := func(n int) error {
		a := attempt("alice", fmt.Sprintf("%s%06d", password, 900000+n))
		a.Binding = key(byte(n))
		out, err := w.try(a)
		if err == nil && !contains(out.Refused, "too many failed logins") {
			t.Errorf("refused %q", out.Refused)
		}
		return err
	}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			if guess(n) == nil {
				t.Error("a guess was decided")
			}
		})
	}
	wg.Wait()
	w.advance(65 * time.Second)
	err := guess(4)
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); err = guess(4) {
		time.Sleep(50 * time.Millisecond) // the server is thought to be down for a moment
	}
	if n := w.ipa.Binds(w.ipa.UserDN("alice")); err != nil || n > 4 {
		t.Errorf("the fifth guess: %v; %d binds", err, n)
	}
	w.advance(8 * time.Second)
	w.ipa.SetBindDelay(0, 0)
	w.proves(attempt("alice", password+w.ipa.Code("alice")), "otp")
}

// The same wrong attempt several times at once reaches the server once, and the others are
// refused when it is.
func TestSameWrongAttemptAtOnce(t *testing.T) {
	w := newWorld(t, options{})
	w.behind("olga", "tok1")
	w.radius.set(func() { w.radius.delay = 300 * time.Millisecond })
	began := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if out, err := w.try(attempt("olga", "tok9")); err != nil || out.Refused == "" {
				t.Errorf("refused %q, %v", out.Refused, err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); w.radius.asked() != 1 || took > 900*time.Millisecond {
		t.Errorf("%d requests in %v", w.radius.asked(), took)
	}
	w.radius.set(func() { w.radius.delay = 0 })
	w.refuses(attempt("olga", "tok9"), "refused the password")
	w.proves(attempt("olga", "tok1"), "radius")
}

// Whoever tries a spent code again and again is one who fails.
func TestReplaysCountForTheNetwork(t *testing.T) {
	w := newWorld(t, options{limits: func(c *throttle.Config) {
		c.Network = state.Limit{Max: 5, Window: time.Hour, Lockout: time.Hour}
	}})
	w.behind("olga", "tok1")
	w.proves(attempt("olga", "tok1"), "radius")
	again := attempt("olga", "tok1")
	again.Binding = key(2)
	for range 5 {
		w.refuses(again, "another key")
	}
	place := w.config.Throttle.Place(again.Address)
	if w.config.Throttle.Admit(t.Context(), place, w.now()) == nil {
		t.Error("the network goes on")
	}
}

// Where one failure locks an account nobody is asked.
func TestPolicyOfOneFailure(t *testing.T) {
	w := newWorld(t, options{})
	w.user("alice", "otp", true)
	w.ipa.SetPolicy(ipatest.Policy{MaxFailures: 1, Interval: time.Minute, Duration: 10 * time.Minute})
	w.refuses(attempt("alice", password+w.ipa.Code("alice")), "krbPwdMaxFailure")
	if n := w.ipa.Binds(w.ipa.UserDN("alice")); n != 0 {
		t.Errorf("%d binds", n)
	}
}
