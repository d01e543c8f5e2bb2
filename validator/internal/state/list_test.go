package state_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

func TestList(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		var want, ofOther []string
		for i := range 7 { // in pairs of one microsecond, the later ids made first
			tok := sample(fmt.Sprintf("t%d", i^1))
			tok.CreatedAt = start.Add(time.Duration(i/2) * time.Microsecond)
			if i%3 == 0 {
				tok.ClientID = "pump-8"
				ofOther = append(ofOther, tok.ID)
			}
			want = append(want, tok.ID)
			create(t, s, tok)
		}
		slices.Sort(want)
		slices.Sort(ofOther)
		for size := 1; size <= 8; size++ {
			if got := walk(t, s, "", size); !slices.Equal(got, want) {
				t.Errorf("pages of %d: %v, not %v", size, got, want)
			}
			if got := walk(t, s, "pump-8", size); !slices.Equal(got, ofOther) {
				t.Errorf("pages of %d of one client: %v, not %v", size, got, ofOther)
			}
		}
		if got := walk(t, s, "nobody", 3); len(got) != 0 {
			t.Errorf("tokens of nobody: %v", got)
		}
		// A changed row is told apart, and does not end the walk.
		exec(t, db, `UPDATE enrolment_token SET max_uses = 9 WHERE id = $1`, want[2])
		if got := walk(t, s, "", 3); !slices.Equal(got, slices.Delete(slices.Clone(want), 2, 3)) {
			t.Errorf("with a changed row: %v", got)
		}
	})
}

func walk(t *testing.T, s *state.Store, client string, size int) (ids []string) {
	t.Helper()
	var at state.Cursor
	for range 20 {
		page, err := s.ListTokens(t.Context(), client, at, size)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(page.Tokens) + len(page.Forged); n > size {
			t.Fatalf("a page of %d, not %d", n, size)
		}
		for _, tok := range page.Tokens {
			ids = append(ids, tok.ID)
		}
		if at = page.Next; at.ID == "" {
			return ids
		}
	}
	t.Fatal("the list does not end")
	return nil
}
