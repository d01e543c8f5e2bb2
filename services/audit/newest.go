package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// NewestTime returns the time of the newest record, or the zero time when there is none. It
// looks at that record and the one before it. An error that wraps ErrTampered names the
// newest record when nobody with the MAC key has written it there with this time.
func (c *Chain) NewestTime(ctx context.Context, db Database) (newest time.Time, err error) {
	var seq int64
	var wrong string
	err = db.Read(ctx, func(ctx context.Context, tx Transaction) error {
		newest, wrong = time.Time{}, ""
		last, before, err := readEnd(ctx, tx)
		if err != nil || last == nil {
			return err
		}
		seq, newest = last.seq, time.UnixMicro(last.at).UTC()
		bare := true // a record without a MAC may stand here
		if len(last.mac) == 0 {
			if bare, err = c.mayBeBare(ctx, tx, last, before); err != nil {
				return err
			}
		}
		follow(c, position{before.seq, fixed(before.hash)}, !bare).next(last, func(_ int64, what string) { wrong = what })
		return nil
	})
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("reading the time of the newest audit record: %w", err)
	case wrong != "":
		return time.Time{}, fmt.Errorf("%w: the newest record, %d, tells no time: %s: %s", ErrTampered, seq, wrong, wayOut)
	}
	return newest, nil
}

// readEnd reads the last record, nil where there is none, and the one before it.
func readEnd(ctx context.Context, tx Transaction) (last, before *row, err error) {
	rows, err := tx.Query(ctx, `SELECT seq, at, record, hash, mac FROM audit_record WHERE seq > 0 ORDER BY seq DESC LIMIT 2`)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	last, before = nil, new(row)
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.seq, &r.at, &r.record, &r.hash, &r.mac); err != nil {
			return nil, nil, err
		}
		r.record, r.hash, r.mac = bytes.Clone(r.record), bytes.Clone(r.hash), bytes.Clone(r.mac)
		if last == nil {
			last = &r
		} else {
			before = &r
		}
	}
	return last, before, rows.Err()
}

// mayBeBare tells whether the newest record needs no MAC: a checkpoint signs it, or there
// has never been a MAC or a checkpoint yet.
func (c *Chain) mayBeBare(ctx context.Context, tx Transaction, last, before *row) (bool, error) {
	signed, err := readCheckpoints(ctx, tx, `SELECT `+checkpointColumns+` FROM audit_checkpoint ORDER BY seq DESC LIMIT 1`)
	if err != nil {
		return false, err
	}
	for _, s := range signed {
		return s.Seq == last.seq && s.Hash == fixed(last.hash) && len(last.hash) == sha256.Size && s.Verify(c.Public()), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(before.mac) == 0 && c.signed == 0, nil
}
