package store

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// liteReader is the engine of a SQLite file that another process may have: the read-only
// pool of lite, without its lock and its writer.
type liteReader struct{ lite }

// openReader opens the file at path for reading. SQLite makes the -wal and -shm files beside
// it where they are missing, so the folder has to be writable for this user, but not the file.
//
// Neither this nor what it calls opens and closes the file but SQLite, which knows the locks
// that this process has on it.
func openReader(ctx context.Context, c Config, path string) (*DB, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening the store for reading: %w", err)
	}
	r := &liteReader{}
	if r.pool, err = openPool(dataSource(path, "ro")); err != nil {
		return nil, fmt.Errorf("opening %s for reading: %w", path, err)
	}
	r.pool.SetMaxOpenConns(readers)
	r.pool.SetMaxIdleConns(readers)
	db := &DB{engine: r, log: c.Log, now: c.Now, readOnly: true, probe: "SELECT count(*) FROM sqlite_schema"}
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s for reading: %w", path, err), r.close())
	}
	return db, nil
}

// write is never reached: DB refuses before.
func (*liteReader) write(context.Context, Func) error { return errReadOnly }

func (r *liteReader) close() error { return r.pool.Close() }
