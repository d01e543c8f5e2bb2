package state_test

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// try is one attempt for an account that ends at once; it tells whether a back end was asked.
func try(t *testing.T, s *state.Store, account state.Subject, at time.Time, failed bool) bool {
	t.Helper()
	c := &state.Claim{At: at, LeaseUntil: at.Add(10 * time.Second), KeepUntil: at}
	standing, _, err := s.Begin(t.Context(), c, account)
	if err != nil {
		t.Fatal(err)
	}
	if standing == state.Throttled {
		return false
	}
	if err := s.Settle(t.Context(), state.Settlement{Claim: c, Account: &account, Failed: failed, At: at}, nil); err != nil {
		t.Fatal(err)
	}
	return true
}

// At most four failures reach the directory until 70 s have passed since the last of them,
// however the attempts are spread.
func TestAccountLimit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		alice := subject(s, "alice", 4)
		at := start
		for i := range 4 {
			if !try(t, s, alice, at, true) {
				t.Fatalf("failure %d was not let through", i+1)
			}
			at = at.Add(60 * time.Second)
		}
		last := at.Add(-60 * time.Second)
		for _, d := range []time.Duration{time.Second, 60 * time.Second, 70*time.Second - time.Microsecond} {
			if try(t, s, alice, last.Add(d), true) {
				t.Errorf("%v behind the last failure another one got through", d)
			}
		}
		if !try(t, s, subject(s, "bob", 4), last, true) {
			t.Error("another account is refused")
		}
		if !try(t, s, alice, last.Add(70*time.Second), true) {
			t.Error("nothing gets through when the failures are forgotten")
		}
	})
}

// What succeeds, or of which nobody knows, is no failure; nor does a success forget one.
func TestWhatCounts(t *testing.T) {
	s := newState(t, storetest.Open(t, storetest.SQLite(t)), 1, io.Discard)
	alice := subject(s, "alice", 2)
	for range 10 {
		if !try(t, s, alice, start, false) {
			t.Fatal("a success counts")
		}
	}
	try(t, s, alice, start, true)
	try(t, s, alice, start, false)
	if !try(t, s, alice, start, true) {
		t.Fatal("one failure was two")
	}
	if try(t, s, alice, start, true) {
		t.Error("the third failure got through")
	}
}

// Attempts on their way count as failures until they have ended: those at once too.
func TestAccountLimitAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		alice := subject(s, "alice", 4)
		var asked atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				if try(t, s, alice, start, true) {
					asked.Add(1)
				}
			})
		}
		wg.Wait()
		if asked.Load() != 4 {
			t.Errorf("%d failures got through", asked.Load())
		}
	})
}

// A validator that died with attempts in hand does not lock the account: they are over when
// their lease is.
func TestAbandonedAttempts(t *testing.T) {
	s := newState(t, storetest.Open(t, storetest.SQLite(t)), 1, io.Discard)
	alice := subject(s, "alice", 1)
	c := &state.Claim{At: start, LeaseUntil: start.Add(10 * time.Second)}
	if standing, _, err := s.Begin(t.Context(), c, alice); err != nil || standing != state.Fresh {
		t.Fatal(standing, err)
	}
	if try(t, s, alice, start.Add(9*time.Second), true) {
		t.Error("there was room beside an attempt on its way")
	}
	if !try(t, s, alice, start.Add(10*time.Second), true) {
		t.Error("an attempt that is over takes room")
	}
}

// Networks are counted from the first failure on, and refused for the lockout.
func TestWindowedLimit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		network := state.Subject{ID: s.SubjectID("network", "192.0.2.0/24"), Limit: state.Limit{Max: 3, Window: time.Minute, Lockout: 10 * time.Minute}}
		fail := func(at time.Duration) {
			t.Helper()
			if err := s.Settle(t.Context(), state.Settlement{Others: []state.Subject{network}, At: start.Add(at)}, nil); err != nil {
				t.Fatal(err)
			}
		}
		blocked := func(at time.Duration, want bool) {
			t.Helper()
			other := state.Subject{ID: s.SubjectID("network", "other"), Limit: network.Limit}
			which, until, err := s.Blocked(t.Context(), start.Add(at), other, network)
			if err != nil || (which == 1) != want || !want && which != -1 {
				t.Errorf("at %v: subject %d blocked until %v, error %v; want blocked %v", at, which, until, err, want)
			}
		}
		fail(0)
		fail(30 * time.Second)
		fail(60 * time.Second) // the first of a new window
		fail(90 * time.Second)
		blocked(90*time.Second, false)
		fail(110 * time.Second)
		blocked(110*time.Second, true)
		blocked(110*time.Second+10*time.Minute-time.Microsecond, true)
		blocked(110*time.Second+10*time.Minute, false)
		fail(12 * time.Minute)
		blocked(12*time.Minute, false)
	})
}

func TestPurgeOfLogins(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		wantStanding(t, s, claim(1, 1), state.Fresh)
		try(t, s, subject(s, "bob", 4), start, true)
		count := func() (n int) {
			t.Helper()
			err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
				return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM one_time) + (SELECT count(*) FROM login_failure)`).Scan(&n)
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for _, step := range []struct {
			before time.Duration
			left   int
		}{{0, 4}, {2 * time.Hour, 2}, {31 * 24 * time.Hour, 0}} {
			if _, err := s.Purge(t.Context(), start.Add(step.before)); err != nil {
				t.Fatal(err)
			}
			if n := count(); n != step.left {
				t.Errorf("%d rows left before %v, want %d", n, step.before, step.left)
			}
		}
	})
}
