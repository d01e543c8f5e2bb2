package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// acceptance is one of the credential and the key that begin with these octets.
func acceptance(credential, spki byte) state.Acceptance {
	return state.Acceptance{
		Credential: [32]byte{credential, 1}, SPKISHA256: [32]byte{spki, 2}, AcceptedAt: start, KeepUntil: start.Add(time.Hour),
	}
}

func accepted() audit.Record {
	return audit.Record{Time: start, Event: "credential.accepted", Outcome: audit.Success}
}

func accept(t *testing.T, s *state.Store, all ...state.Acceptance) {
	t.Helper()
	for _, a := range all {
		if err := s.Accept(t.Context(), a, accepted()); err != nil {
			t.Fatal(err)
		}
	}
}

// What a look for an acceptance comes to.
const (
	yes    = "yes"
	no     = "no"
	forged = "forged"
)

func look(t *testing.T, s *state.Store, a state.Acceptance, now time.Time) string {
	t.Helper()
	found, err := s.Accepted(t.Context(), a.Credential, a.SPKISHA256, now)
	switch {
	case errors.Is(err, state.ErrForged) && !found:
		return forged
	case err != nil:
		t.Fatal(err)
	case found:
		return yes
	}
	return no
}

func expect(t *testing.T, s *state.Store, a state.Acceptance, want string) {
	t.Helper()
	if got := look(t, s, a, start); got != want {
		t.Errorf("credential %d with key %d: %s, not %s", a.Credential[0], a.SPKISHA256[0], got, want)
	}
}

func TestAccepted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		var out bytes.Buffer
		stream := audit.NewStream(&out)
		s := newStreamed(t, db, 1, stream)
		expect(t, s, acceptance(1, 1), no)
		accept(t, s, acceptance(1, 1), acceptance(1, 2))
		end := start.Add(time.Hour)
		for _, key := range []byte{1, 2} {
			expect(t, s, acceptance(1, key), yes)
			if before, at := look(t, s, acceptance(1, key), end.Add(-time.Microsecond)), look(t, s, acceptance(1, key), end); before != yes || at != no {
				t.Errorf("key %d: just before the end %s, at the end %s", key, before, at)
			}
		}
		expect(t, s, acceptance(1, 3), no)
		expect(t, s, acceptance(2, 1), no)
		longer := acceptance(1, 1)
		longer.AcceptedAt, longer.KeepUntil = end, end.Add(time.Hour)
		accept(t, s, longer)
		if got := look(t, s, longer, end); got != yes {
			t.Errorf("accepted anew: %s", got)
		}
		if got := records(t, db); len(got) != 3 || !strings.Contains(got[2], "credential.accepted") || flush(t, stream, &out) != 3 {
			t.Errorf("three acceptances made the records %q and this stream:\n%s", got, out.String())
		}
	})
}

// A row that was changed or copied in the database is not believed, wherever it is found; an
// acceptance that was recorded anew is.
func TestForgedAcceptances(t *testing.T) {
	changes := []struct {
		column string
		value  any
		found  state.Acceptance
	}{
		{"credential", bytesOf(acceptance(9, 1).Credential), acceptance(9, 1)},
		{"spki", bytesOf(acceptance(1, 9).SPKISHA256), acceptance(1, 9)},
		{"accepted_at", start.UnixMicro() + 1, acceptance(1, 1)},
		{"keep_until", start.Add(8760 * time.Hour).UnixMicro(), acceptance(1, 1)},
		{"keep_until", int64(1), acceptance(1, 1)},
		{"mac", make([]byte, 32), acceptance(1, 1)},
		{"mac", []byte{}, acceptance(1, 1)},
	}
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		for _, c := range changes {
			accept(t, s, acceptance(1, 1))
			exec(t, db, `UPDATE credential_check SET `+c.column+` = $1`, c.value)
			expect(t, s, c.found, forged)
			if c.found != acceptance(1, 1) {
				expect(t, s, acceptance(1, 1), no)
			}
			accept(t, s, c.found)
			expect(t, s, c.found, yes)
			exec(t, db, `DELETE FROM credential_check`)
		}
		accept(t, s, acceptance(1, 1))
		for _, other := range []state.Acceptance{acceptance(2, 1), acceptance(1, 2)} {
			exec(t, db, `INSERT INTO credential_check (credential, spki, accepted_at, keep_until, mac)
				SELECT $1, $2, accepted_at, keep_until, mac FROM credential_check WHERE credential = $3 AND spki = $4`,
				bytesOf(other.Credential), bytesOf(other.SPKISHA256),
				bytesOf(acceptance(1, 1).Credential), bytesOf(acceptance(1, 1).SPKISHA256))
			expect(t, s, other, forged)
		}
		expect(t, s, acceptance(1, 1), yes)
		expect(t, newState(t, db, 2, io.Discard), acceptance(1, 1), forged)
	})
}

func bytesOf(a [32]byte) []byte { return a[:] }

// Neither the acceptance nor its record is there without the other.
func TestUnrecordedAcceptance(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		accept(t, s, acceptance(1, 1))
		exec(t, db, `UPDATE audit_head SET seq = 0`) // the next number is taken: no record can be written
		if err := s.Accept(t.Context(), acceptance(1, 2), accepted()); err == nil {
			t.Error("accepted without a record")
		}
		expect(t, s, acceptance(1, 2), no)
		exec(t, db, `UPDATE audit_head SET seq = 1`)
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			_, err := tx.Exec(ctx, `ALTER TABLE credential_check RENAME TO elsewhere`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Accept(t.Context(), acceptance(1, 2), accepted()); err == nil || len(records(t, db)) != 1 {
			t.Errorf("%v, with the records %q", err, records(t, db))
		}
	})
}

func TestPurge(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		accept(t, s, acceptance(1, 1))
		fill(t, db, 1500)
		end := acceptance(1, 1).KeepUntil
		for _, want := range []int64{1000, 500, 0} {
			if n, err := s.Purge(t.Context(), end); err != nil || n != want {
				t.Errorf("%d, %v, not %d", n, err, want)
			}
		}
		expect(t, s, acceptance(1, 1), yes)
		if n, err := s.Purge(t.Context(), end.Add(time.Microsecond)); err != nil || n != 1 {
			t.Errorf("past its end: %d, %v", n, err)
		}
		expect(t, s, acceptance(1, 1), no)
		if got := records(t, db); len(got) != 1 {
			t.Errorf("records %q", got)
		}
	})
}

// Replicas purge at the same time: each row is deleted and counted once.
func TestPurgeTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		fill(t, db, 1500)
		var wg sync.WaitGroup
		counts := make([]int64, 4)
		for i := range counts {
			wg.Go(func() {
				for range 4 {
					n, err := s.Purge(t.Context(), start)
					if err != nil {
						t.Error(err)
					}
					counts[i] += n
				}
			})
		}
		wg.Wait()
		if n := counts[0] + counts[1] + counts[2] + counts[3]; n != 1500 {
			t.Errorf("%d rows deleted: %v", n, counts)
		}
	})
}

// fill stores n rows that ended before start.
func fill(t *testing.T, db *store.DB, n int) {
	t.Helper()
	var values strings.Builder
	for i := range n {
		fmt.Fprintf(&values, ", (CAST('%d' AS BYTEA), CAST('k' AS BYTEA), 1, %d, CAST('m' AS BYTEA))", i, i+1)
	}
	err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO credential_check (credential, spki, accepted_at, keep_until, mac) VALUES `+values.String()[2:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A credential stands for what a token is verified by, and for nothing that may change.
func TestCredential(t *testing.T) {
	base := sample("one")
	for name, change := range map[string]func(*state.Token){
		"id":        func(r *state.Token) { r.ID = "two" },
		"index":     func(r *state.Token) { r.Index = []byte("other") },
		"algorithm": func(r *state.Token) { r.Algorithm = "bcrypt" },
		"hash":      func(r *state.Token) { r.Hash = []byte{9} },
		"border": func(r *state.Token) {
			r.Algorithm, r.Hash = "sha256-hma", append([]byte("c"), r.Hash...)
		},
	} {
		other := base
		change(&other)
		if other.Credential() == base.Credential() {
			t.Errorf("another %s: the same credential", name)
		}
	}
	ended := base
	ended.RevokedAt, ended.ExpiresAt = start, start
	if ended.Credential() != base.Credential() {
		t.Error("revoked: another credential")
	}
}
