// The chain's tests need databases, which the race detector makes slow: they stand apart
// from those of the stream.
package audittest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestChain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := newLab(t, opener())
		db := l.db
		const writers, each = 8, 5
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				for i := range each {
					err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
						_, err := l.chain.Append(ctx, tx, audit.Record{Time: at, Event: "test.done", Reason: fmt.Sprint(w, i)})
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if n := verify(t, db); n != writers*each {
			t.Errorf("%d records, not %d", n, writers*each)
		}
	})
}

// verify recomputes the chain from the table and returns its length.
func verify(t *testing.T, db *store.DB) (n int64) {
	t.Helper()
	previous := make([]byte, 32)
	err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		rows, err := tx.Query(ctx, `SELECT seq, record, hash FROM audit_record ORDER BY seq`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var seq int64
			var record string
			var hash []byte
			if err := rows.Scan(&seq, &record, &hash); err != nil {
				return err
			}
			n++
			if want := audit.Link(previous, n, []byte(record)); seq != n || !bytes.Equal(hash, want[:]) {
				t.Errorf("record %d does not follow from the one before", seq)
			}
			previous = hash
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A transaction that fails takes its record with it and leaves no gap.
func TestRolledBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := newLab(t, opener())
		db := l.db
		boom := errors.New("boom")
		for i := range 3 {
			err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
				if _, err := l.chain.Append(ctx, tx, audit.Record{Time: at, Event: "test.done"}); err != nil {
					return err
				}
				if i == 1 {
					return boom
				}
				return nil
			})
			if (i == 1) != errors.Is(err, boom) {
				t.Fatal(err)
			}
		}
		if n := verify(t, db); n != 2 {
			t.Errorf("%d records, not 2", n)
		}
	})
}
