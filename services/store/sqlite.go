package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/estuary-pki/estuary/services/filelock"
)

// readers is the number of connections of the read-only pool.
const readers = 8

// lite is the engine of a SQLite file that this process alone has.
type lite struct {
	lock   *os.File
	writer *writer
	pool   *sql.DB
	rewriter
}

// openSQLite opens the file at path, and creates it in a folder that must exist.
//
// The lock comes first: opening and closing the file while this process already has it
// open would drop SQLite's own locks.
func openSQLite(ctx context.Context, c Config, path string) (*DB, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	l := &lite{}
	if l.lock, err = filelock.Take(path+".lock", c.Holder, c.Now()); err != nil {
		return nil, fmt.Errorf("opening %s: the store is %w", path, err)
	}
	if err := private(ctx, path, c.Log); err != nil {
		return nil, errors.Join(err, l.lock.Close())
	}
	writable, err := openPool(dataSource(path, "rw"))
	if err == nil {
		l.pool, err = openPool(dataSource(path, "ro"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), l.lock.Close())
	}
	writable.SetMaxOpenConns(1)
	l.pool.SetMaxOpenConns(readers)
	l.pool.SetMaxIdleConns(readers)
	if err := checkJournal(ctx, writable); err != nil {
		err = unavailable("store.Open", fmt.Errorf("opening %s: %w", path, err))
		return nil, errors.Join(err, l.pool.Close(), writable.Close(), l.lock.Close())
	}
	l.writer = newWriter(writable, l.rewrite, c.Log.With(slog.String("store", path))) //nolint:contextcheck // the writer outlives Open
	return &DB{engine: l, log: c.Log, now: c.Now, probe: "SELECT count(*) FROM sqlite_schema"}, nil
}

// resolve returns the path without symbolic links, so that two names of one file have one lock.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("opening a store: %w", err)
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("opening %s: its folder does not exist: create it with mode 0700 for the user of this process", path)
	}
	if err != nil {
		return "", fmt.Errorf("opening %s: %w", path, err)
	}
	path = filepath.Join(folder, filepath.Base(path))
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target, nil
	}
	return path, nil
}

// private creates the file, or takes the access of others away from it and its journal.
// SQLite gives the files that it makes beside it the same mode.
func private(ctx context.Context, path string, log *slog.Logger) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("opening the store: %w", err)
		}
		if info.Mode().Perm()&0o077 == 0 {
			continue
		}
		log.LogAttrs(ctx, slog.LevelWarn, "others had access to the store, taking it away",
			slog.String("file", name), slog.String("mode", info.Mode().Perm().String()))
		if err := os.Chmod(name, 0o600); err != nil {
			return fmt.Errorf("making the store private: %w", err)
		}
	}
	return nil
}

// dataSource returns the driver's URL. Double quotes never mean a string, as in PostgreSQL; nothing is
// written beside the database, because a container has nowhere else to write.
func dataSource(path, mode string) string {
	q := url.Values{
		"mode":       {mode},
		"_dqs":       {"0"},
		"_defensive": {"1"},
		"_pragma":    {"busy_timeout(5000)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)", "temp_store(MEMORY)"},
	}
	if mode == "rw" {
		q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)")
	} else {
		q["_pragma"] = append(q["_pragma"], "query_only(1)")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// checkJournal opens the first connection. A file system without shared memory, such as
// NFS, leaves the file without write-ahead log, and PRAGMA does not call that an error.
func checkJournal(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the journal mode is %q, not wal: the file must lie on a local file system", mode)
	}
	return nil
}

func (l *lite) write(ctx context.Context, fn Func) error { return l.writer.write(ctx, fn) }

// read uses a deferred BEGIN, which on a connection that cannot write is a snapshot.
func (l *lite) read(ctx context.Context, fn Func) error {
	tx, err := l.pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to keep
	t := &transaction{runner: tx, rewrite: l.rewrite}
	return t.run(ctx, fn)
}

// close ends the readers first: the last connection writes the journal back into the file.
func (l *lite) close() error {
	return errors.Join(l.pool.Close(), l.writer.close(), l.lock.Close())
}
