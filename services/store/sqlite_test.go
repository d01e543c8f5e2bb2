package store_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// TestMain plays the second process of the tests that need one.
func TestMain(m *testing.M) {
	if url := os.Getenv("ESTUARY_STORE_HOLD"); url != "" {
		hold(url)
		return
	}
	os.Exit(m.Run())
}

// hold opens the store, says so, writes without end, and lives until it is killed.
func hold(url string) {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{URL: url, Holder: "the-first", Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = db.Migrate(ctx, fstest.MapFS{"0001_item.sql": {Data: []byte(schema)}})
	}
	for i := 0; err == nil; i++ {
		if err = db.Write(ctx, insert(i)); err == nil {
			fmt.Println("holding", i)
		}
	}
	fmt.Println("holding:", err)
	os.Exit(1)
}

func TestTwoProcesses(t *testing.T) {
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
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "holding 0" {
		t.Fatalf("the first process says %q", lines.Text())
	}
	config := store.Config{URL: url, Holder: "the-second", Log: slog.New(slog.DiscardHandler)}
	db, err := store.Open(t.Context(), config)
	if err == nil {
		_ = db.Close()
		t.Fatal("two processes have one store")
	}
	for _, part := range []string{"the-first", fmt.Sprintf("process %d,", child.Process.Pid), "since 20", ".lock"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the refusal does not say %q: %v", part, err)
		}
	}
	// What the process has been told to be durable outlives its death, its lock does not.
	last := 0
	for range 20 {
		if !lines.Scan() {
			t.Fatal("the first process has ended")
		}
		last++
	}
	_ = child.Process.Kill()
	for lines.Scan() {
		last++
	}
	_ = child.Wait()
	db = items(t, func() *store.DB { return storetest.Open(t, url) })
	if n := count(t, db); n < last+1 {
		t.Errorf("%d rows after the death of the writer, it was told of %d", n, last+1)
	}
}

func TestOpeningTwiceInOneProcess(t *testing.T) {
	url := storetest.SQLite(t)
	db := items(t, func() *store.DB { return storetest.Open(t, url) })
	path := strings.TrimPrefix(url, "sqlite:")
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{url, "sqlite:" + link} {
		second, err := store.Open(t.Context(), store.Config{URL: other, Holder: "x", Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			_ = second.Close()
			t.Errorf("%s can be opened a second time", other)
		}
	}
	if err := db.Write(t.Context(), insert(1)); err != nil {
		t.Errorf("writing after a refused second opening: %v", err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	// A path with the characters that mean something in a URL.
	dir := filepath.Join(t.TempDir(), "a b?c#d%20e&mode=ro")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "store.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	db := items(t, func() *store.DB { return storetest.Open(t, "sqlite:"+path) })
	if err := db.Write(t.Context(), insert(1)); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("mode of store.db%s is %v, want 0600", suffix, info.Mode().Perm())
		}
	}
}

func TestConnectionSettings(t *testing.T) {
	db := storetest.Open(t, storetest.SQLite(t))
	for name, run := range map[string]func(context.Context, store.Func) error{"Write": db.Write, "Read": db.Read} {
		for setting, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "trusted_schema": "0", "busy_timeout": "5000", "temp_store": "2",
		} {
			var got string
			err := run(t.Context(), func(ctx context.Context, tx store.Tx) error {
				return tx.QueryRow(ctx, "PRAGMA "+setting).Scan(&got)
			})
			if err != nil || got != want {
				t.Errorf("%s: %s is %q, error %v; want %q", name, setting, got, err, want)
			}
		}
		err := run(t.Context(), func(ctx context.Context, tx store.Tx) error {
			var s string
			return tx.QueryRow(ctx, `SELECT "a string?"`).Scan(&s)
		})
		if err == nil {
			t.Errorf("%s takes a double-quoted name for a string", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"sqlite:" + filepath.Join(dir, "missing", "store.db"): "its folder does not exist",
		"sqlite:" + dir:             "directory",
		"sqlite:" + text:            "not a database",
		"sqlite:":                   "neither",
		"mysql://root@localhost/db": "neither",
		"/var/lib/store.db":         "neither",
	} {
		_, err := store.Open(t.Context(), store.Config{URL: url, Holder: "x", Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that says %q", url, err, want)
		}
	}
	if _, err := store.Open(t.Context(), store.Config{URL: storetest.SQLite(t)}); err == nil {
		t.Error("Open without Holder and Log succeeds")
	}
}
