package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

const (
	allIDs = `SELECT id FROM item ORDER BY id`
	nameOf = `SELECT name FROM item WHERE id = $1`
	// What the engine makes of it.
	insertText = `INSERT INTO item (id, name) VALUES (?1, ?2)`
)

// stocked opens a SQLite store with the items 0 to n-1.
func stocked(t *testing.T, n int) *store.DB {
	t.Helper()
	db := items(t, func() *store.DB { return storetest.Open(t, storetest.SQLite(t)) })
	for i := range n {
		if err := db.Write(t.Context(), insert(i)); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// both runs the test for the writer and for the readers.
func both(t *testing.T, db *store.DB, f func(t *testing.T, run func(context.Context, store.Func) error)) {
	t.Run("write", func(t *testing.T) { f(t, db.Write) })
	t.Run("read", func(t *testing.T) { f(t, db.Read) })
}

func TestStatementsAreKept(t *testing.T) {
	db := stocked(t, 1)
	first := store.Compiled(db)
	for _, query := range []string{insertText, "BEGIN IMMEDIATE", "SAVEPOINT member", "RELEASE member", "COMMIT"} {
		if first[query] == nil {
			t.Errorf("%s is not kept", query)
		}
	}
	if err := db.Write(t.Context(), insert(1)); err != nil {
		t.Fatal(err)
	}
	again := store.Compiled(db)
	for query, s := range first {
		if again[query] != s {
			t.Errorf("%s has been compiled again", query)
		}
		if word, _, _ := strings.Cut(query, " "); word == "CREATE" || word == "PRAGMA" {
			t.Errorf("%s is kept", query)
		}
	}
}

// A statement whose rows are open is not run again: one with parameters could not bind them,
// one without would go on in the middle, and begin the outer rows again with its end.
func TestSameTextInside(t *testing.T) {
	both(t, stocked(t, 3), func(t *testing.T, run func(context.Context, store.Func) error) {
		for range 3 {
			var got []string
			err := run(t.Context(), func(ctx context.Context, tx store.Tx) error {
				var err error
				got, err = pairs(ctx, tx)
				return err
			})
			want := []string{"0 0", "0 1", "0 2", "1 0", "1 1", "1 2", "2 0", "2 1", "2 2"}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		}
	})
}

// pairs returns every pair of ids.
func pairs(ctx context.Context, tx store.Tx) (all []string, err error) {
	outer, err := tx.Query(ctx, allIDs)
	if err != nil {
		return nil, err
	}
	for outer.Next() {
		inner, err := tx.Query(ctx, allIDs)
		if err != nil {
			return nil, err
		}
		for inner.Next() {
			var a, b int
			if err := errors.Join(outer.Scan(&a), inner.Scan(&b)); err != nil {
				return nil, err
			}
			if all = append(all, fmt.Sprint(a, " ", b)); len(all) > 1000 {
				return nil, errors.New("the rows do not end")
			}
		}
		if err := inner.Err(); err != nil {
			return nil, err
		}
	}
	return all, outer.Err()
}

// A row that is scanned late, in its transaction or after the next one.
func TestSameTextBeforeScan(t *testing.T) {
	both(t, stocked(t, 3), func(t *testing.T, run func(context.Context, store.Func) error) {
		for range 3 {
			var names [3]string
			err := run(t.Context(), func(ctx context.Context, tx store.Tx) error {
				var open [3]*sql.Row
				for i := range open {
					open[i] = tx.QueryRow(ctx, nameOf, i)
				}
				return errors.Join(open[1].Scan(&names[1]), open[0].Scan(&names[0]), open[2].Scan(&names[2]))
			})
			if err != nil || names != [3]string{"item 0", "item 1", "item 2"} {
				t.Errorf("%q, %v", names, err)
			}
		}
		var forgotten *sql.Row
		for i := range 2 {
			var name string
			err := run(t.Context(), func(ctx context.Context, tx store.Tx) error {
				if i == 0 {
					forgotten = tx.QueryRow(ctx, nameOf, 0)
					return nil
				}
				return tx.QueryRow(ctx, nameOf, i).Scan(&name)
			})
			if err != nil || i == 1 && name != "item 1" {
				t.Errorf("%q, %v", name, err)
			}
		}
		_ = forgotten.Scan(new(string)) // an open row holds the connection
	})
}

func TestStatementAfterItsError(t *testing.T) {
	db := stocked(t, 1)
	for i := 1; i < 4; i++ {
		if err := db.Write(t.Context(), insert(0)); !store.Conflict(err) {
			t.Errorf("a second row of the same key: %v, want a conflict", err)
		}
		if store.Compiled(db)[insertText] != nil {
			t.Error("a statement is kept that has failed")
		}
		if err := db.Write(t.Context(), insert(i)); err != nil {
			t.Errorf("after a conflict: %v", err)
		}
	}
	// The error comes with the second row, in the middle of the rows.
	for range 2 {
		err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
			rows, err := tx.Query(ctx, `SELECT id, abs(CASE WHEN id = $1 THEN -9223372036854775807 - 1 ELSE id END) FROM item ORDER BY id`, 1)
			if err != nil {
				return err
			}
			for rows.Next() {
				continue
			}
			return nil // the error is the transaction's without it
		})
		if err == nil || !strings.Contains(err.Error(), "integer overflow") {
			t.Errorf("an overflow: %v", err)
		}
	}
	if n := count(t, db); n != 4 {
		t.Errorf("%d rows, want 4", n)
	}
}

// The statements of a lost connection are gone with it, and keep none of its files open.
func TestStatementsOfLostConnection(t *testing.T) {
	url := storetest.SQLite(t)
	db := items(t, func() *store.DB { return storetest.Open(t, url) })
	path := strings.TrimPrefix(url, "sqlite:")
	files := 0
	for i := range 5 {
		if err := db.Write(t.Context(), insert(i)); err != nil {
			t.Fatal(err)
		}
		before := store.Compiled(db)[insertText]
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			var pages int // a limit of this connection
			if err := tx.QueryRow(ctx, `PRAGMA max_page_count = 1`).Scan(&pages); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `INSERT INTO item (id, name, body) VALUES ($1, 'large', zeroblob(1000000))`, 100)
			return err
		})
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "full") {
			t.Fatalf("a full file: %v, want Unavailable", err)
		}
		if err := db.Write(t.Context(), insert(10+i)); err != nil {
			t.Fatal(err)
		}
		if after := store.Compiled(db)[insertText]; before == nil || after == nil || after == before {
			t.Errorf("round %d: the statement was %v and is %v", i, before, after)
		}
		if n := opened(t, path); i == 0 {
			files = n
		} else if n != files {
			t.Errorf("round %d: %d open files, %d at first", i, n, files)
		}
	}
	if n := count(t, db); n != 10 {
		t.Errorf("%d rows, want 10", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil || opened(t, path) != 0 {
		t.Errorf("after Close a connection is left: %v, %d files", err, opened(t, path))
	}
}

// opened counts how often this process has the files of the store open.
func opened(t *testing.T, path string) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(links) == 0 {
		t.Fatal("no list of open files: ", err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, path) {
			n++
		}
	}
	return n
}

func TestKeptStatementsAreBounded(t *testing.T) {
	db := stocked(t, 1)
	both(t, db, func(t *testing.T, run func(context.Context, store.Func) error) {
		for range 2 {
			err := run(t.Context(), func(ctx context.Context, tx store.Tx) error {
				for i := range 300 {
					var n int
					if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT id + %d FROM item`, i)).Scan(&n); err != nil || n != i {
						return fmt.Errorf("%d instead of %d: %w", n, i, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	if n := len(store.Compiled(db)); n != 256 {
		t.Errorf("%d statements are kept, want 256", n)
	}
	if err := db.Write(t.Context(), insert(1)); err != nil {
		t.Error(err)
	}
}

// SQLite compiles a statement again after a change of the schema, also when that has been
// rolled back, and on the connections of the readers.
func TestStatementsAfterChangeOfSchema(t *testing.T) {
	db := stocked(t, 1)
	columns := func(want int) {
		t.Helper()
		both(t, db, func(t *testing.T, run func(context.Context, store.Func) error) {
			var got []string
			err := run(t.Context(), func(ctx context.Context, tx store.Tx) error {
				var err error
				got, err = describe(ctx, tx)
				return err
			})
			if err != nil || len(got) != want {
				t.Errorf("SELECT * has %q, %v; want %d columns", got, err, want)
			}
		})
	}
	alter := func(then error) error {
		return db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if _, err := tx.Exec(ctx, `ALTER TABLE item ADD COLUMN extra TEXT DEFAULT 'more'`); err != nil {
				return err
			}
			if got, err := describe(ctx, tx); err != nil || len(got) != 7 {
				t.Errorf("in the same transaction SELECT * has %q, %v", got, err)
			}
			return errors.Join(insert(1)(ctx, tx), then)
		})
	}
	columns(6)
	if err := alter(errOwn); !errors.Is(err, errOwn) {
		t.Fatal(err)
	}
	columns(6)
	if err := alter(nil); err != nil {
		t.Fatal(err)
	}
	columns(7)
	if err := db.Write(t.Context(), insert(2)); err != nil {
		t.Error(err)
	}
	if n := count(t, db); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

// describe returns the columns of the first item.
func describe(ctx context.Context, tx store.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT * FROM item WHERE id = $1`, 0)
	if err != nil {
		return nil, err
	}
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errors.Join(err, rows.Err(), errors.New("no row"))
	}
	values := make([]any, len(names))
	for i := range values {
		values[i] = new(any)
	}
	if err := rows.Scan(values...); err != nil {
		return nil, err
	}
	if last := *values[len(values)-1].(*any); len(values) == 7 && last != "more" {
		return nil, fmt.Errorf("the new column is %v", last)
	}
	return names, nil
}

func TestManyReadersOfTheSameTexts(t *testing.T) {
	db := stocked(t, 3)
	var all sync.WaitGroup
	for w := range 12 { // more than connections
		all.Go(func() {
			for i := range 10 {
				err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
					var name string
					if err := tx.QueryRow(ctx, nameOf, i%3).Scan(&name); err != nil || name != fmt.Sprint("item ", i%3) {
						return fmt.Errorf("%q: %w", name, err)
					}
					if got, err := pairs(ctx, tx); err != nil || len(got) < 9 {
						return fmt.Errorf("%q: %w", got, err)
					}
					return nil
				})
				if i == 5 {
					err = errors.Join(err, db.Write(t.Context(), insert(10+w)))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
