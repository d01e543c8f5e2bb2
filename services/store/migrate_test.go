package store_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

func files(texts ...string) fstest.MapFS {
	names := []string{"0001_first.sql", "0002_second.sql", "0003_third.sql"}
	all := fstest.MapFS{}
	for i, text := range texts {
		all[names[i]] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

const (
	first  = "CREATE TABLE a (id BIGINT PRIMARY KEY);\n-- a comment at the end; with a semicolon\n"
	second = "CREATE TABLE b (id BIGINT PRIMARY KEY); INSERT INTO a (id) VALUES (1);"
)

func TestMigrate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		refused := func(all fstest.MapFS, parts ...string) {
			t.Helper()
			err := db.Migrate(t.Context(), all)
			for _, part := range parts {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want one that says %q", err, part)
				}
			}
		}
		for _, all := range []fstest.MapFS{files(first), files(first, second), files(first, second)} {
			if err := db.Migrate(t.Context(), all); err != nil {
				t.Fatal(err)
			}
		}
		refused(files(first), "0002_second.sql", "0001_first.sql", "newer program")
		refused(files(first+" ", second), "0001_first.sql is not the file")
		refused(files(first, second, "CREATE TABLE c (id BIGINT); CREATE TABLE a (id BIGINT);"), "0003_third.sql, statement 2")
		// A file that fails leaves nothing of itself.
		if err := db.Migrate(t.Context(), files(first, second, "CREATE TABLE c (id BIGINT);")); err != nil {
			t.Errorf("migrating after a failed file: %v", err)
		}
		var applied, a int
		err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM schema_migration WHERE applied_at > 0`).Scan(&applied); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT count(*) FROM a`).Scan(&a)
		})
		if err != nil || applied != 3 || a != 1 {
			t.Errorf("%d migrations recorded, %d rows in a, error %v; want 3 and 1", applied, a, err)
		}
	})
}

func TestMigrateRefusesFiles(t *testing.T) {
	db := storetest.Open(t, storetest.SQLite(t))
	for name, all := range map[string]fstest.MapFS{
		"none":         {},
		"a gap":        {"0001_a.sql": {Data: []byte(first)}, "0003_c.sql": {Data: []byte(second)}},
		"not from 1":   {"0002_a.sql": {Data: []byte(first)}},
		"twice":        {"0001_a.sql": {Data: []byte(first)}, "0001_b.sql": {Data: []byte(second)}},
		"another file": {"0001_a.sql": {Data: []byte(first)}, "README": {}},
		"a folder":     {"migrations/0001_a.sql": {Data: []byte(first)}},
	} {
		if err := db.Migrate(t.Context(), all); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Several replicas start at once.
func TestMigrateTogether(t *testing.T) {
	url := storetest.Postgres(t)
	var all sync.WaitGroup
	for range 6 {
		db := storetest.Open(t, url)
		all.Go(func() {
			if err := db.Migrate(t.Context(), files(first, second)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
