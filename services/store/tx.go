package store

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
)

// Tx is a transaction in a Func. After an error of any of its statements the others are
// refused and the whole transaction is rolled back, whatever the Func returns. It is an
// alias, so that who must not link the engines can name what a *DB does by interfaces alone.
type Tx = interface {
	// Exec runs a statement and returns the number of rows that an INSERT, UPDATE or
	// DELETE changed.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// Query runs a statement that returns rows. They are closed with the transaction at
	// the latest.
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	// QueryRow runs a statement that returns one row at most; Scan, which must be called,
	// gives sql.ErrNoRows when there was none, which does not end the transaction.
	QueryRow(ctx context.Context, query string, args ...any) *sql.Row
}

var (
	errEnded    = errors.New("the transaction has ended")
	errClosed   = errors.New("the store is closed")
	errReadOnly = errors.New("the store was opened for reading only")
)

// runner is the side of *sql.Tx and *sql.Conn that statements need.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// transaction is Tx on both engines. Only one goroutine uses it at a time.
type transaction struct {
	runner runner
	// rewrite makes a statement fit the engine; nil leaves it.
	rewrite func(string) string
	// whole keeps the end of a context from interrupting a statement: SQLite answers an
	// interrupted write by rolling back the transaction of the whole group.
	whole bool
	// failed is the first error of a statement.
	failed error
	rows   []*sql.Rows
	ended  atomic.Bool
}

// run calls fn and ends the transaction for it. A statement's error that fn kept to itself
// is returned too: nothing of such a transaction may be committed.
func (t *transaction) run(ctx context.Context, fn Func) error {
	defer t.end()
	if err := fn(ctx, t); err != nil {
		return err
	}
	for _, r := range t.rows {
		t.fail(r.Err())
	}
	return t.failed
}

// end closes what fn left open and refuses further statements.
func (t *transaction) end() {
	t.ended.Store(true)
	for _, r := range t.rows {
		t.fail(r.Close())
	}
}

func (t *transaction) fail(err error) {
	if err != nil && t.failed == nil {
		t.failed = err
	}
}

// prepare returns the context and the text with which a statement is to be run.
func (t *transaction) prepare(ctx context.Context, query string) (context.Context, string, error) {
	if t.ended.Load() {
		return nil, "", errEnded
	}
	if t.failed != nil {
		return nil, "", t.failed
	}
	if err := ctx.Err(); err != nil {
		t.fail(err)
		return nil, "", err
	}
	if t.whole {
		ctx = context.WithoutCancel(ctx)
	}
	if t.rewrite != nil {
		query = t.rewrite(query)
	}
	return ctx, query, nil
}

func (t *transaction) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, query, err := t.prepare(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := t.runner.ExecContext(ctx, query, args...)
	if err != nil {
		t.fail(err)
		return 0, err
	}
	return res.RowsAffected()
}

func (t *transaction) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, query, err := t.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := t.runner.QueryContext(ctx, query, args...)
	if err != nil {
		t.fail(err)
		return nil, err
	}
	t.rows = append(t.rows, rows)
	return rows, nil
}

func (t *transaction) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	run, text, err := t.prepare(ctx, query)
	if err != nil {
		return t.runner.QueryRowContext(refused{ctx, err}, query) //nolint:contextcheck // it wraps ctx
	}
	row := t.runner.QueryRowContext(run, text, args...)
	t.fail(row.Err())
	return row
}

// refused is an ended context whose error is ours: the only way to a *sql.Row that
// carries an error.
type refused struct {
	context.Context
	err error
}

var closedChannel = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (refused) Done() <-chan struct{} { return closedChannel }
func (r refused) Err() error          { return r.err }
