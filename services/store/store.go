// Package store turns functions over rows into durable transactions, on SQLite or PostgreSQL.
//
// It opens, migrates, writes, reads and tells a conflict; it knows no table. The signer's
// ledger and the validator's state own their migrations and queries and call it; it calls
// database/sql.
//
// One SQL text serves both engines:
//
//   - placeholders are $1, $2, … in any order and as often as wanted, each of them with one
//     type, none inside a string;
//   - column types are BYTEA, TEXT, BIGINT, INTEGER and SMALLINT; truth values are 0 and 1;
//     times are BIGINT microseconds (Micros, Time); text is UTF-8 without NUL;
//   - an empty BYTEA may come back as a nil slice: only sql.Null tells it from NULL;
//   - identifiers are not quoted, and there are neither triggers nor dollar-quoted strings;
//   - where a duplicate is no error, say ON CONFLICT DO NOTHING and look at the number of
//     rows: after an error every further statement of the transaction is refused.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
)

// Config says which store to open.
type Config struct {
	// URL is "sqlite:PATH" or a PostgreSQL URL, "postgres://USER:PASSWORD@HOST/DATABASE?…". To
	// another machine it has to have sslmode=verify-full.
	URL string
	// Holder is the name of this process, which stands in the lock file of a SQLite store
	// and is the application_name at PostgreSQL.
	Holder string
	// ReadOnly opens a store that exists for looking at it, also while the process that owns
	// a SQLite file is running: without its lock, and without any change. Write and Migrate
	// fail then. On PostgreSQL every transaction is read-only.
	ReadOnly bool
	// Log receives applied migrations, and the loss and the return of the store.
	Log *slog.Logger
	// Now stamps the lock file and applied migrations; nil is time.Now.
	Now func() time.Time
}

// Func is the body of a transaction. It may be run again when the engine had to roll it
// back, so it must have no effect outside its transaction and set what it returns to its
// caller anew each time. It must not keep tx, nor use it from another goroutine.
type Func = func(ctx context.Context, tx Tx) error

// engine is what SQLite and PostgreSQL do differently.
type engine interface {
	write(ctx context.Context, fn Func) error
	read(ctx context.Context, fn Func) error
	close() error
}

// DB is an open store. Its methods may be called from many goroutines.
type DB struct {
	engine engine
	log    *slog.Logger
	now    func() time.Time
	closed atomic.Bool
	// readOnly refuses writes.
	readOnly bool
	// lock are the statements with which a migration keeps other processes out.
	lock []string
	// probe is the smallest query that needs the store itself.
	probe string
}

// Open opens the store at c.URL. A store that cannot be reached is a *fault.Error of kind
// Unavailable; a SQLite file that another process holds is an error naming that process.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Log == nil || c.Holder == "" {
		return nil, errors.New("opening a store: Log and Holder are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	path, isFile := strings.CutPrefix(c.URL, "sqlite:")
	switch {
	case isFile && path != "" && c.ReadOnly:
		return openReader(ctx, c, path)
	case isFile && path != "":
		return openSQLite(ctx, c, path)
	case strings.HasPrefix(c.URL, "postgres://"), strings.HasPrefix(c.URL, "postgresql://"):
		return openPostgres(ctx, c)
	}
	return nil, errors.New(`opening a store: the URL is neither "sqlite:PATH" nor "postgres://…"`)
}

// Write runs fn in a transaction and returns when it is durable. An error of fn rolls its
// own work back and comes back unchanged. When the store cannot be reached or written, or
// the outcome of the commit is unknown, the error is a *fault.Error of kind Unavailable.
//
// On SQLite writes follow one another and several may share one commit; a write that has
// begun is not interrupted within a statement. On PostgreSQL writes run beside one another
// at READ COMMITTED, so decide by unique columns and by UPDATE … WHERE, never by reading
// first. Once the commit has begun, the end of ctx no longer stops it.
func (db *DB) Write(ctx context.Context, fn Func) error {
	ctx, err := db.enter(ctx, "store.Write")
	if err != nil {
		return err
	}
	if db.readOnly {
		return fault.New(fault.Internal, "store.Write", "", errReadOnly)
	}
	return unavailable("store.Write", db.engine.write(ctx, fn))
}

// Read runs fn over one snapshot of what has been committed. fn cannot write. Errors are
// those of Write.
func (db *DB) Read(ctx context.Context, fn Func) error {
	ctx, err := db.enter(ctx, "store.Read")
	if err != nil {
		return err
	}
	return unavailable("store.Read", db.engine.read(ctx, fn))
}

// Ping tells whether the store can be read.
func (db *DB) Ping(ctx context.Context) error {
	return db.Read(ctx, func(ctx context.Context, tx Tx) error {
		var n int64
		return tx.QueryRow(ctx, db.probe).Scan(&n)
	})
}

// Close refuses new and waiting transactions as Unavailable, lets running ones end, and
// gives the store free. Closing twice is no error.
func (db *DB) Close() error {
	if db.closed.Swap(true) {
		return nil
	}
	if err := db.engine.close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// inside marks the context of a transaction.
type inside struct{}

// enter refuses a transaction inside a transaction: on SQLite it would wait for itself, on
// PostgreSQL it would take a second connection while holding the first.
func (db *DB) enter(ctx context.Context, op string) (context.Context, error) {
	if db.closed.Load() {
		return nil, fault.New(fault.Unavailable, op, "", errClosed)
	}
	if ctx.Value(inside{}) != nil {
		return nil, fault.New(fault.Internal, op, "", errors.New("a transaction inside a transaction"))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("waiting for the store: %w", err)
	}
	return context.WithValue(ctx, inside{}, true), nil
}

// Micros returns t as it is stored: microseconds since 1970.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time returns the time of Micros, in UTC.
func Time(us int64) time.Time { return time.UnixMicro(us).UTC() }
