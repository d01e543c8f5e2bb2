package state_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// use is one of the credential and the key that begin with these octets.
func use(id, key byte) state.Use {
	return state.Use{ID: [32]byte{id}, Binding: [32]byte{key}, Method: 6, At: start, KeepUntil: start.Add(14 * time.Minute)}
}

var used = audit.Record{Time: start, Event: "credential.accepted", Outcome: audit.Success}

func wantUsed(t *testing.T, s *state.Store, u state.Use, now time.Time, want state.Standing) {
	t.Helper()
	got, at, err := s.Used(t.Context(), u.ID, u.Binding, now)
	if err != nil || got != want || want == state.Accepted && !at.Equal(start) {
		t.Errorf("credential %d with key %d: standing %d at %v, %v, not %d", u.ID[0], u.Binding[0], got, at, err, want)
	}
}

// What a second attempt finds of a first, by its key, its end and the time.
func TestUse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		s := newState(t, open(), 1, io.Discard)
		spoiled := use(2, 1)
		spoiled.Spoiled = true
		for _, u := range []state.Use{use(1, 1), spoiled} {
			wantUsed(t, s, u, start, state.Fresh)
			if err := s.Use(t.Context(), u, state.Settlement{At: start}, used); err != nil {
				t.Fatal(err)
			}
		}
		wantUsed(t, s, use(1, 1), start, state.Accepted)
		wantUsed(t, s, use(1, 2), start, state.Taken)
		wantUsed(t, s, use(2, 1), start, state.Lost)
		wantUsed(t, s, use(1, 2), start.Add(14*time.Minute), state.Taken)
		wantUsed(t, s, use(1, 1), start.Add(14*time.Minute+time.Microsecond), state.Fresh)
		if err := s.Use(t.Context(), use(1, 1), state.Settlement{At: start}, used); !errors.Is(err, state.ErrUsed) {
			t.Errorf("used again: %v", err)
		}
		// What was accepted is not spoiled afterwards; that is on record all the same.
		late := use(1, 1)
		late.Spoiled = true
		if err := s.Use(t.Context(), late, state.Settlement{At: start}, used); err != nil {
			t.Error(err)
		}
		wantUsed(t, s, use(1, 1), start, state.Accepted)
	})
}

// Of many at the same moment one is first, whatever keys they come with.
func TestUseHasOneWinner(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				switch err := s.Use(context.WithoutCancel(t.Context()), use(7, byte(i)), state.Settlement{At: start}, used); {
				case err == nil:
					won.Add(1)
				case errors.Is(err, state.ErrUsed):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 31 {
			t.Errorf("%d of 32 were first, %d were told", won.Load(), lost.Load())
		}
	})
}

// A row that somebody changed says nothing.
func TestUsedIsNotBelievedWithoutMAC(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		if err := s.Use(t.Context(), use(1, 1), state.Settlement{At: start}, used); err != nil {
			t.Fatal(err)
		}
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			key := [32]byte{2}
			_, err := tx.Exec(ctx, `UPDATE one_time SET binding = $1`, key[:])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Used(t.Context(), [32]byte{1}, [32]byte{2}, start); !errors.Is(err, state.ErrForged) {
			t.Errorf("a row with another key: %v", err)
		}
	})
}
