package store_test

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// reader opens a store for reading.
func reader(t *testing.T, url string) (*store.DB, error) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: url, Holder: "reader", ReadOnly: true, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return db, err
}

// A reader beside the process that owns the file sees what that one commits, keeps nothing
// from it, and takes neither its lock nor, when it closes, its journal.
func TestReaderBesideOwner(t *testing.T) {
	url := storetest.SQLite(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), "ESTUARY_STORE_HOLD="+url)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }()
	lines := bufio.NewScanner(out)
	next := func() (committed int) {
		lines.Scan()
		last, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "holding "))
		if err != nil {
			t.Fatalf("the owner says %q", lines.Text())
		}
		return last + 1
	}
	committed := next()
	for range 3 {
		db, err := reader(t, url)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if n := count(t, db); n < committed {
				t.Errorf("%d rows, of %d that were committed", n, committed)
			}
			for range 20 {
				committed = next()
			}
		}
		refusesToWrite(t, db)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	if db, err := store.Open(t.Context(), store.Config{URL: url, Holder: "x", Log: slog.New(slog.DiscardHandler)}); err == nil {
		_ = db.Close()
		t.Error("the owner's lock is gone")
	}
	// A crash leaves the journal: a reader reads it, and the next owner finds it.
	_ = child.Process.Kill()
	for lines.Scan() {
		committed++
	}
	_ = child.Wait()
	db, err := reader(t, url)
	if err != nil {
		t.Fatal(err)
	}
	rows := count(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if again := count(t, storetest.Open(t, url)); rows < committed || again != rows {
		t.Errorf("%d rows after the crash, the next owner has %d", rows, again)
	}
}

// refusesToWrite tries everything that would change a store.
func refusesToWrite(t *testing.T, db *store.DB) {
	t.Helper()
	if err := db.Write(t.Context(), insert(1<<30)); err == nil || !strings.Contains(err.Error(), "for reading only") {
		t.Errorf("written: %v", err)
	}
	if err := db.Migrate(t.Context(), fstest.MapFS{"0001_item.sql": {Data: []byte(schema)}}); err == nil || !strings.Contains(err.Error(), "for reading only") {
		t.Errorf("migrated: %v", err)
	}
	err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM item`)
		return err
	})
	if err == nil {
		t.Error("a read has written")
	}
}

func TestReader(t *testing.T) {
	for name, url := range map[string]string{"sqlite": storetest.SQLite(t), "postgres": storetest.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			owner := storetest.Open(t, url)
			if err := owner.Migrate(t.Context(), fstest.MapFS{"0001_item.sql": {Data: []byte(schema)}}); err != nil {
				t.Fatal(err)
			}
			if err := owner.Write(t.Context(), insert(1)); err != nil {
				t.Fatal(err)
			}
			if err := owner.Close(); err != nil { // on SQLite the journal goes with it
				t.Fatal(err)
			}
			db, err := reader(t, url)
			if err != nil {
				t.Fatal(err)
			}
			if n := count(t, db); n != 1 {
				t.Errorf("%d rows, not 1", n)
			}
			refusesToWrite(t, db)
			if err := db.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A reader creates nothing.
func TestReaderOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if _, err := reader(t, "sqlite:"+path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := reader(t, "sqlite:"+path); err == nil {
		t.Error("opened what is no database")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
