// Package storetest holds fresh stores of both engines for tests.
//
// Tests of the store and of its users call it; it calls store, and deploy/lab/postgres,
// which starts a PostgreSQL server when ESTUARY_TEST_POSTGRES does not name one. A server
// that cannot be had fails the test.
package storetest

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/estuary-pki/estuary/services/store"
)

// Each runs f on a fresh SQLite file and on a fresh PostgreSQL schema. open opens that
// store, without any table of its own; called again after Close it opens the same one, and
// on PostgreSQL it may be open several times. What f leaves open is closed at its end.
func Each(t *testing.T, f func(t *testing.T, open func() *store.DB)) {
	t.Helper()
	on := func(url func(testing.TB) string) func(t *testing.T) {
		return func(t *testing.T) {
			u := url(t)
			f(t, func() *store.DB { return Open(t, u) })
		}
	}
	t.Run("sqlite", on(SQLite))
	t.Run("postgres", on(Postgres))
}

// SQLite returns the URL of a file in a folder of the test's own.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "store.db")
}

// Open opens the store at url, and closes it at the end of the test. Warnings of the store
// appear in the test's output.
func Open(t testing.TB, url string) *store.DB {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := store.Open(context.Background(), store.Config{URL: url, Holder: "storetest", Log: log})
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return db
}
