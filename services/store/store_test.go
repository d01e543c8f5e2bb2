package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

const schema = `
CREATE TABLE item (
	id BIGINT PRIMARY KEY,
	name TEXT NOT NULL UNIQUE, -- a comment; with a semicolon
	body BYTEA,
	note TEXT,
	small SMALLINT,
	n INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX item_note ON item (note);
`

var errOwn = errors.New("an error of the function's own")

// items opens a store with the table item.
func items(t *testing.T, open func() *store.DB) *store.DB {
	t.Helper()
	db := open()
	if err := db.Migrate(t.Context(), fstest.MapFS{"0001_item.sql": {Data: []byte(schema)}}); err != nil {
		t.Fatal(err)
	}
	return db
}

func insert(id int) store.Func {
	return func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO item (id, name) VALUES ($1, $2)`, id, fmt.Sprint("item ", id))
		return err
	}
}

func count(t *testing.T, db *store.DB) (n int) {
	t.Helper()
	err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM item`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWrittenIsThereAfterReopening(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		if err := db.Write(t.Context(), insert(1)); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if n := count(t, items(t, open)); n != 1 {
			t.Errorf("%d rows after reopening, want 1", n)
		}
	})
}

func TestConflict(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		if err := db.Write(t.Context(), insert(1)); err != nil {
			t.Fatal(err)
		}
		if err := db.Write(t.Context(), insert(1)); !store.Conflict(err) {
			t.Errorf("a second row of the same key: %v, want a conflict", err)
		}
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO item (id, name) VALUES (2, 'item 1')`)
			return fmt.Errorf("inserting: %w", err)
		})
		if !store.Conflict(err) {
			t.Errorf("a second row of the same unique column: %v, want a conflict", err)
		}
		err = db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO item (id, name) VALUES (3, NULL)`)
			return err
		})
		if err == nil || store.Conflict(err) || fault.KindOf(err) == fault.Unavailable {
			t.Errorf("NULL in a NOT NULL column: %v, want an error that is no conflict", err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestErrorRollsBackAndComesBackUnchanged(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			return errors.Join(insert(1)(ctx, tx), errOwn)
		})
		if !errors.Is(err, errOwn) || fault.KindOf(err) != fault.Internal {
			t.Errorf("error %v, want the function's own", err)
		}
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows after an error, want none", n)
		}
	})
}

// PostgreSQL refuses every statement after a failed one; SQLite would go on.
func TestNothingAfterFailedStatement(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		if err := db.Write(t.Context(), insert(1)); err != nil {
			t.Fatal(err)
		}
		var exec, query, row error
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			_ = insert(2)(ctx, tx)
			_ = insert(1)(ctx, tx)
			exec = insert(3)(ctx, tx)
			_, query = tx.Query(ctx, `SELECT id FROM item`) // it is refused
			var n int
			row = tx.QueryRow(ctx, `SELECT count(*) FROM item`).Scan(&n)
			return nil // as if nothing had been
		})
		for what, err := range map[string]error{"Write": err, "Exec": exec, "Query": query, "QueryRow": row} {
			if !store.Conflict(err) {
				t.Errorf("%s after a conflict: %v, want the conflict", what, err)
			}
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestReadSeesOneCommittedState(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		wrote, read := make(chan struct{}), make(chan struct{})
		var writing sync.WaitGroup
		writing.Go(func() {
			err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
				err := insert(1)(ctx, tx)
				close(wrote)
				<-read
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-wrote
		if n := count(t, db); n != 0 {
			t.Errorf("Read sees %d rows of an open transaction", n)
		}
		var commit sync.Once
		err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
			for range 2 {
				var n int
				if err := tx.QueryRow(ctx, `SELECT count(*) FROM item`).Scan(&n); err != nil || n != 0 {
					return fmt.Errorf("%d rows, error %w, in a snapshot from before the commit", n, err)
				}
				commit.Do(func() {
					close(read)
					writing.Wait()
				})
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows after the commit, want 1", n)
		}
	})
}

func TestReadCannotWrite(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		if err := db.Read(t.Context(), insert(1)); err == nil {
			t.Error("Read lets a function write")
		}
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows, want none", n)
		}
	})
}

func TestTransactionInsideTransaction(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		nop := func(context.Context, store.Tx) error { return nil }
		for name, outer := range map[string]func(context.Context, store.Func) error{"Write": db.Write, "Read": db.Read} {
			err := outer(t.Context(), func(ctx context.Context, _ store.Tx) error {
				if err := db.Read(ctx, nop); fault.KindOf(err) != fault.Internal {
					return fmt.Errorf("a Read inside is not refused: %w", err)
				}
				return db.Write(ctx, nop)
			})
			if err == nil || !strings.Contains(err.Error(), "inside a transaction") {
				t.Errorf("a Write inside a %s: %v, want a refusal", name, err)
			}
		}
	})
}

func TestPanicReachesTheCaller(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		func() {
			defer func() {
				if v := recover(); v != "on purpose" {
					t.Errorf("recovered %v, want the function's panic", v)
				}
			}()
			_ = db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
				_ = insert(1)(ctx, tx)
				panic("on purpose")
			})
		}()
		if err := db.Write(t.Context(), insert(2)); err != nil {
			t.Errorf("writing after a panic: %v", err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want the one from after the panic", n)
		}
	})
}

func TestWritesOfManyGoroutines(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		const writers, each = 32, 20
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range each {
					if err := db.Write(t.Context(), insert(w*each+i)); err != nil {
						t.Errorf("writing: %v", err)
					}
				}
			})
		}
		all.Wait()
		if n := count(t, db); n != writers*each {
			t.Errorf("%d rows, want %d", n, writers*each)
		}
	})
}

func TestEndedContext(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Write(ended, insert(1)); !errors.Is(err, context.Canceled) {
			t.Errorf("Write with an ended context: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
			err := insert(2)(ctx, tx)
			cancel()
			return errors.Join(err, insert(3)(ctx, tx))
		})
		if !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Write whose context ended between statements: %v", err)
		}
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows, want none", n)
		}
	})
}

func TestClose(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := items(t, open)
		if err := db.Ping(t.Context()); err != nil {
			t.Errorf("Ping: %v", err)
		}
		for range 2 {
			if err := db.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
		for what, err := range map[string]error{
			"Write": db.Write(t.Context(), insert(1)), "Read": db.Read(t.Context(), insert(1)), "Ping": db.Ping(t.Context()),
		} {
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("%s of a closed store: %v, want Unavailable", what, err)
			}
		}
	})
}

func TestTimes(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Date(2026, 7, 1, 12, 30, 0, 123456000, time.FixedZone("", 7200))} {
		got := store.Time(store.Micros(at))
		if !got.Equal(at) || got.Location() != time.UTC {
			t.Errorf("%v comes back as %v", at, got)
		}
	}
}
