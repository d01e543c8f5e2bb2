package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

type row struct {
	ID    int64
	Name  string
	Body  sql.Null[[]byte]
	Note  sql.Null[string]
	Small sql.Null[int16]
	N     int32
}

func TestValuesComeBack(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	rows := []row{
		{ID: math.MinInt64, Name: "nothing"},
		{
			ID: math.MaxInt64, Name: "Ωmega 日本 𝄞 e\u0301 'quoted' \"double\" $1 ?2 -- ;",
			Body: sql.Null[[]byte]{V: every, Valid: true}, Note: sql.Null[string]{V: "", Valid: true},
			Small: sql.Null[int16]{V: math.MinInt16, Valid: true}, N: math.MaxInt32,
		},
		{ID: 0, Name: "long", Body: sql.Null[[]byte]{V: bytes.Repeat(every, 4096), Valid: true}, N: math.MinInt32},
		// Digits stay what they are: an engine that guesses types would make them numbers.
		{ID: 1, Name: "0012e3", Body: sql.Null[[]byte]{V: []byte("0012"), Valid: true}},
	}
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		for _, r := range rows {
			err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO item (id, name, body, note, small, n) VALUES ($1, $2, $3, $4, $5, $6)`,
					r.ID, r.Name, r.Body, r.Note, r.Small, r.N)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			var got row
			err = db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
				return tx.QueryRow(ctx, `SELECT id, name, body, note, small, n FROM item WHERE name = $1`, r.Name).
					Scan(&got.ID, &got.Name, &got.Body, &got.Note, &got.Small, &got.N)
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%s comes back changed (-stored +read):\n%s", r.Name, diff)
			}
		}
	})
}

func TestEmptyIsNotNull(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		var empty sql.Null[[]byte]
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO item (id, name, body) VALUES (1, 'empty', $1)`, []byte{}); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT body FROM item WHERE body = $1`, []byte{}).Scan(&empty)
		})
		if err != nil || !empty.Valid || len(empty.V) != 0 {
			t.Errorf("an empty BYTEA: %+v, %v", empty, err)
		}
	})
}

func TestPlaceholdersInAnyOrder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			n, err := tx.Exec(ctx, `INSERT INTO item (name, note, id, n) VALUES ($2, $2 || ' $1 ' || $3, $1, $4)`, 7, "seven", "end", 8)
			if n != 1 {
				t.Errorf("%d rows inserted, want 1", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var id, n int
		var note string
		err = db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
			return tx.QueryRow(ctx, `SELECT id, n, note FROM item WHERE name = $2 AND id >= $1 AND id < $1 + 1 /* not $3 */`, 7, "seven").Scan(&id, &n, &note)
		})
		if err != nil || id != 7 || n != 8 || note != "seven $1 end" {
			t.Errorf("read id %d, n %d, note %q, error %v", id, n, note, err)
		}
	})
}

func TestNoRowIsNoFailure(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			var id int
			if err := tx.QueryRow(ctx, `SELECT id FROM item`).Scan(&id); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("scanning no row: %v, want sql.ErrNoRows", err)
			}
			return insert(1)(ctx, tx)
		})
		if n := count(t, db); err != nil || n != 1 {
			t.Errorf("%d rows, error %v, want 1", n, err)
		}
	})
}

// A function that stops reading in the middle must not hold the transaction open, and what
// it kept must be of no use afterwards.
func TestLeftOver(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		var kept store.Tx
		for i := range 3 {
			err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
				kept = tx
				if err := insert(i)(ctx, tx); err != nil {
					return err
				}
				rows, err := tx.Query(ctx, `UPDATE item SET n = n + 1 RETURNING id`) // left open on purpose
				if err == nil {
					rows.Next()
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := insert(9)(t.Context(), kept); err == nil {
			t.Error("a transaction works after its end")
		}
		var sum int
		err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
			return tx.QueryRow(ctx, `SELECT sum(n) FROM item`).Scan(&sum)
		})
		if err != nil || sum != 6 {
			t.Errorf("sum %d, error %v, want 6", sum, err)
		}
	})
}
