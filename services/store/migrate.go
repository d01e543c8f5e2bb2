package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strconv"
	"time"
)

const migrationTable = `CREATE TABLE IF NOT EXISTS schema_migration (
	version BIGINT PRIMARY KEY,
	name TEXT NOT NULL,
	sha256 TEXT NOT NULL,
	applied_at BIGINT NOT NULL
)`

var migrationName = regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)

// migration is one file; its version is its place, counted from 1.
type migration struct {
	name, sum string
	text      string
}

// Migrate brings the schema to the state of files: 0001_name.sql, 0002_name.sql and so on
// at the root of the file system, and nothing else. Each is applied once, in a transaction
// of its own, one process at a time. It refuses a schema that is newer than the files, and
// a file that is not what has been applied under its number.
func (db *DB) Migrate(ctx context.Context, files fs.FS) error {
	all, err := migrations(files)
	if err != nil {
		return err
	}
	for {
		var applied *migration
		err := db.Write(ctx, func(ctx context.Context, tx Tx) error {
			var err error
			applied, err = step(ctx, tx, db.lock, all, db.now())
			return err
		})
		if err != nil {
			return fmt.Errorf("migrating the schema: %w", err)
		}
		if applied == nil {
			return nil
		}
		db.log.LogAttrs(ctx, slog.LevelInfo, "applied a migration", slog.String("file", applied.name))
	}
}

// migrations reads the files and checks that they are numbered without a gap.
func migrations(files fs.FS) ([]migration, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	all := make([]migration, 0, len(entries))
	for i, e := range entries { // ReadDir sorts them
		m := migrationName.FindStringSubmatch(e.Name())
		if m == nil || e.IsDir() {
			return nil, fmt.Errorf("reading the migrations: %s is not of the form 0001_name.sql", e.Name())
		}
		if n, err := strconv.Atoi(m[1]); err != nil || n != i+1 {
			return nil, fmt.Errorf("reading the migrations: %s stands where number %04d belongs", e.Name(), i+1)
		}
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return nil, fmt.Errorf("reading the migrations: %w", err)
		}
		sum := sha256.Sum256(text)
		all = append(all, migration{name: e.Name(), sum: hex.EncodeToString(sum[:]), text: string(text)})
	}
	if len(all) == 0 {
		return nil, errors.New("reading the migrations: there is no file")
	}
	return all, nil
}

// step applies the next file and returns it, or nil when the schema is up to date.
func step(ctx context.Context, tx Tx, lock []string, all []migration, now time.Time) (*migration, error) {
	for _, s := range append(lock[:len(lock):len(lock)], migrationTable) {
		if _, err := tx.Exec(ctx, s); err != nil {
			return nil, fmt.Errorf("taking the schema: %w", err)
		}
	}
	done, err := compare(ctx, tx, all)
	if err != nil || done == len(all) {
		return nil, err
	}
	next := &all[done]
	for i, s := range statements(next.text) {
		if _, err := tx.Exec(ctx, s); err != nil {
			return nil, fmt.Errorf("applying %s, statement %d: %w", next.name, i+1, err)
		}
	}
	_, err = tx.Exec(ctx, `INSERT INTO schema_migration (version, name, sha256, applied_at) VALUES ($1, $2, $3, $4)`,
		done+1, next.name, next.sum, Micros(now))
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", next.name, err)
	}
	return next, nil
}

// compare returns how many files have been applied, after a look at whether they are these.
func compare(ctx context.Context, tx Tx, all []migration) (int, error) {
	rows, err := tx.Query(ctx, `SELECT version, name, sha256 FROM schema_migration ORDER BY version`)
	if err != nil {
		return 0, fmt.Errorf("reading the schema's version: %w", err)
	}
	n := 0
	for rows.Next() {
		var version int
		var name, sum string
		if err := rows.Scan(&version, &name, &sum); err != nil {
			return 0, fmt.Errorf("reading the schema's version: %w", err)
		}
		n++
		switch {
		case version != n:
			return 0, fmt.Errorf("the schema's record of migration %d is missing", n)
		case n > len(all):
			return 0, fmt.Errorf("the schema has %s applied, this program ends at %s: run the newer program", name, all[len(all)-1].name)
		case sum != all[n-1].sum:
			return 0, fmt.Errorf("%s is not the file that was applied as %s: migrations are never edited", all[n-1].name, name)
		}
	}
	return n, rows.Err()
}
