package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// txn is a transaction that remembers its audit records for the stream.
type txn struct {
	store.Tx
	chain   *audit.Chain
	entries []audit.Entry
}

// record adds r to the audit chain. It comes last in a transaction: the chain's head stays
// locked until the end.
func (t *txn) record(ctx context.Context, r audit.Record) error {
	e, err := t.chain.Append(ctx, t, r)
	if err != nil {
		return err
	}
	t.entries = append(t.entries, e)
	return nil
}

// count moves a counter and returns its new value. Like record it locks for everybody, and
// so numbers are given in the order of the commits.
func (t *txn) count(ctx context.Context, name string) (int64, error) {
	var n int64
	err := t.QueryRow(ctx, `INSERT INTO counter (name, value) VALUES ($1, 1)
 ON CONFLICT (name) DO UPDATE SET value = counter.value + 1 RETURNING value`, name).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("counting %s: %w", name, err)
	}
	return n, nil
}

// write runs fn in one transaction and streams its audit records once they are committed.
// fn may run more than once.
func (l *Ledger) write(ctx context.Context, fn func(ctx context.Context, tx *txn) error) error {
	var done *txn
	err := l.db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
		done = &txn{Tx: tx, chain: l.chain}
		return fn(ctx, done)
	})
	if err != nil {
		return l.explain(ctx, err)
	}
	for _, e := range done.entries {
		l.chain.Committed(e)
		if err := l.stream.Emit(e); err != nil {
			// The chain in the database has the record; only the copy is late.
			l.log.LogAttrs(ctx, slog.LevelError, "audit stream", slog.Int64("seq", e.Seq), slog.Any("error", err))
		}
	}
	return nil
}

// explain gives an error its kind: what could not be recorded is Unavailable whatever the
// database says, and a row that was altered raises the alarm.
func (l *Ledger) explain(ctx context.Context, err error) error {
	var altered alteredError
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return err
	case !errors.As(err, &altered):
		return fault.New(fault.Unavailable, "ledger.write", "", err)
	}
	return fault.New(fault.Internal, "ledger.load", "", l.alarm(ctx, altered))
}

// RecordRefusal records that something was refused, or failed before there was an intent,
// in a transaction of its own. The time is set here.
func (l *Ledger) RecordRefusal(ctx context.Context, r audit.Record) error {
	r.Time = l.now()
	return l.write(ctx, func(ctx context.Context, tx *txn) error { return tx.record(ctx, r) })
}
