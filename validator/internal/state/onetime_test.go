package state_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// claim is one of the code and the key that begin with these octets.
func claim(code, key byte) *state.Claim {
	return &state.Claim{
		IDs: [][]byte{{code, 2}, {code, 1}}, Binding: [32]byte{key}, At: start,
		LeaseUntil: start.Add(10 * time.Second), KeepUntil: start.Add(30 * 24 * time.Hour),
	}
}

// subject is an account with room for that many failures.
func subject(s *state.Store, name string, room int64) state.Subject {
	return state.Subject{ID: s.SubjectID("account", name), Limit: state.Limit{Max: room, Window: 70 * time.Second, Gap: true}}
}

func begin(t *testing.T, s *state.Store, c *state.Claim) (state.Standing, state.Proved) {
	t.Helper()
	standing, proved, err := s.Begin(t.Context(), c, subject(s, "alice", 1000))
	if err != nil {
		t.Fatal(err)
	}
	return standing, proved
}

func wantStanding(t *testing.T, s *state.Store, c *state.Claim, want state.Standing) {
	t.Helper()
	if got, _ := begin(t, s, c); got != want {
		t.Errorf("code %d with key %d at %v: standing %d, not %d", c.IDs[0][0], c.Binding[0], c.At.Sub(start), got, want)
	}
}

func settle(t *testing.T, s *state.Store, set state.Settlement) {
	t.Helper()
	set.At = start
	if err := s.Settle(t.Context(), set, &audit.Record{Time: start, Event: "credential.accepted", Outcome: audit.Success}); err != nil {
		t.Fatal(err)
	}
}

var proved = state.Proved{Method: 3, Backend: "ipa1", Indicators: []string{"otp"}, At: start}

func later(c *state.Claim, d time.Duration) *state.Claim {
	c.At = c.At.Add(d)
	return c
}

// What a second attempt finds of a first: by its end, the key it comes with, and the time.
func TestStandings(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		pending, accepted, lost, released := claim(1, 1), claim(2, 1), claim(3, 1), claim(4, 1)
		for _, c := range []*state.Claim{pending, accepted, lost, released} {
			wantStanding(t, s, c, state.Fresh)
		}
		settle(t, s, state.Settlement{Claim: accepted, End: state.Proven, Proved: proved})
		settle(t, s, state.Settlement{Claim: lost, End: state.Unresolved})
		settle(t, s, state.Settlement{Claim: released, End: state.Released})

		wantStanding(t, s, claim(1, 1), state.Working)
		wantStanding(t, s, claim(1, 2), state.Taken)
		wantStanding(t, s, later(claim(1, 1), 10*time.Second), state.Lost)
		if standing, got := begin(t, s, claim(2, 1)); standing != state.Accepted || !cmp.Equal(got, proved) {
			t.Errorf("standing %d, proved %+v", standing, got)
		}
		wantStanding(t, s, claim(2, 2), state.Taken)
		wantStanding(t, s, claim(3, 1), state.Lost)
		wantStanding(t, s, claim(3, 2), state.Taken)
		wantStanding(t, s, claim(4, 2), state.Fresh)
		// What is kept no more is fresh, purged or not.
		wantStanding(t, s, later(claim(2, 9), 30*24*time.Hour+time.Second), state.Fresh)
	})
}

// Validators that are changing their keys have one in common: that is enough.
func TestKeySetsThatOverlap(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		first, second, third := claim(1, 1), claim(1, 2), claim(1, 3)
		first.IDs, second.IDs, third.IDs = [][]byte{{1}, {2}}, [][]byte{{2}, {3}}, [][]byte{{3}, {4}}
		wantStanding(t, s, first, state.Fresh)
		wantStanding(t, s, second, state.Taken)
		// Nothing of the refused one has stayed.
		wantStanding(t, s, third, state.Fresh)
	})
}

func TestOnlyTheOwnerEndsAClaim(t *testing.T) {
	s := newState(t, storetest.Open(t, storetest.SQLite(t)), 1, io.Discard)
	first := claim(1, 1)
	wantStanding(t, s, first, state.Fresh)
	stranger := claim(1, 1)
	wantStanding(t, s, stranger, state.Working)
	record := audit.Record{Time: start, Event: "credential.accepted", Outcome: audit.Success}
	if err := s.Settle(t.Context(), state.Settlement{Claim: stranger, End: state.Proven, Proved: proved, At: start}, &record); err == nil {
		t.Error("a claim of somebody else was ended as proven")
	}
	settle(t, s, state.Settlement{Claim: stranger, End: state.Released})
	wantStanding(t, s, claim(1, 2), state.Taken)
	settle(t, s, state.Settlement{Claim: first, End: state.Proven, Proved: proved})
}

// A row that somebody turned into an accepted one, or moved, is believed by nobody.
func TestForgedOneTimeRows(t *testing.T) {
	for name, change := range map[string]string{
		"phase":   `UPDATE one_time SET phase = 2, method = 3`,
		"key":     `UPDATE one_time SET binding = $1`,
		"backend": `UPDATE one_time SET backend = 'evil'`,
		"lease":   `UPDATE one_time SET lease_until = lease_until + 1`,
		"mac":     `UPDATE one_time SET mac = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			db := storetest.Open(t, storetest.SQLite(t))
			s := newState(t, db, 1, io.Discard)
			wantStanding(t, s, claim(1, 1), state.Fresh)
			err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
				args := []any{make([]byte, 32)}
				if name != "key" && name != "mac" {
					args = nil
				}
				_, err := tx.Exec(ctx, change, args...)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Begin(t.Context(), claim(1, 1), subject(s, "alice", 9)); !errors.Is(err, state.ErrForged) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// One code, offered at once with many keys: one of them gets to the back end.
func TestClaimsAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		for round := range byte(5) {
			var fresh atomic.Int64
			var wg sync.WaitGroup
			for key := range byte(32) {
				wg.Go(func() {
					switch got, _ := begin(t, s, claim(round, key+1)); got {
					case state.Fresh:
						fresh.Add(1)
					case state.Taken:
					default:
						t.Errorf("standing %d", got)
					}
				})
			}
			wg.Wait()
			if fresh.Load() != 1 {
				t.Errorf("round %d: %d claims", round, fresh.Load())
			}
		}
	})
}

// The same by validators with different sets of keys.
func TestClaimsAtOnceByKeySets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		for range 20 {
			common := make([]byte, 32)
			_, _ = rand.Read(common)
			own := make([][]byte, 3)
			for i := range own {
				own[i] = make([]byte, 32)
				_, _ = rand.Read(own[i])
			}
			var mu sync.Mutex
			found := map[state.Standing]int{}
			var wg sync.WaitGroup
			for n := range 48 {
				wg.Go(func() {
					c := claim(1, byte(n+1))
					c.IDs = [][]byte{bytes.Clone(common), bytes.Clone(own[n%3])}
					got, _ := begin(t, s, c)
					mu.Lock()
					defer mu.Unlock()
					found[got]++
				})
			}
			wg.Wait()
			if found[state.Fresh] != 1 || found[state.Taken] != 47 {
				t.Errorf("standings %v", found)
			}
		}
	})
}
