package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// view is one look at where the chain stands: all of it belongs to one moment.
type view struct {
	head     position
	end      int64 // the last record there is
	newest   Checkpoint
	first    int64                       // the record of the first checkpoint, 0 where there is none
	hashes   map[int64][sha256.Size]byte // of the records that were asked for and are there
	asserted map[int64]Checkpoint        // of the same, the checkpoints
}

// look reads where the chain stands, and what there is about some of its records and that
// of the newest checkpoint.
func look(ctx context.Context, db Database, records ...int64) (v view, err error) {
	err = db.Read(ctx, func(ctx context.Context, tx Transaction) error {
		v = view{hashes: map[int64][sha256.Size]byte{}, asserted: map[int64]Checkpoint{}}
		if v.head, err = readHead(ctx, tx); err != nil {
			return err
		}
		if _, err := one(tx.QueryRow(ctx, `SELECT seq FROM audit_record ORDER BY seq DESC LIMIT 1`), &v.end); err != nil {
			return err
		}
		if _, err := one(tx.QueryRow(ctx, `SELECT seq FROM audit_checkpoint ORDER BY seq LIMIT 1`), &v.first); err != nil {
			return err
		}
		newest, err := readCheckpoints(ctx, tx, `SELECT `+checkpointColumns+` FROM audit_checkpoint ORDER BY seq DESC LIMIT 1`)
		if err != nil {
			return err
		}
		for _, c := range newest {
			v.newest = c
		}
		for _, seq := range append([]int64{v.newest.Seq}, records...) {
			if err := v.ask(ctx, tx, seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return view{}, fmt.Errorf("reading where the audit chain stands: %w", err)
	}
	return v, nil
}

// ask looks up one record and its checkpoint.
func (v *view) ask(ctx context.Context, tx Transaction, seq int64) error {
	var hash []byte
	found, err := one(tx.QueryRow(ctx, `SELECT hash FROM audit_record WHERE seq = $1`, seq), &hash)
	if err != nil {
		return err
	}
	if found {
		v.hashes[seq] = fixed(hash)
	}
	signed, err := readCheckpoints(ctx, tx, `SELECT `+checkpointColumns+` FROM audit_checkpoint WHERE seq = $1`, seq)
	for _, c := range signed {
		v.asserted[seq] = c
	}
	return err
}

// readHead returns the chain's head, which has number 0 before the first record.
func readHead(ctx context.Context, tx Transaction) (head position, err error) {
	var hash []byte
	if _, err := one(tx.QueryRow(ctx, `SELECT seq, hash FROM audit_head WHERE id = 1`), &head.seq, &hash); err != nil {
		return position{}, err
	}
	head.hash = fixed(hash)
	return head, nil
}

const checkpointColumns = `seq, previous, hash, at, signature`

func readCheckpoints(ctx context.Context, tx Transaction, query string, args ...any) (all []Checkpoint, err error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	for rows.Next() {
		var c Checkpoint
		var hash []byte
		var at int64
		if err := rows.Scan(&c.Seq, &c.Previous, &hash, &at, &c.Signature); err != nil {
			return nil, err
		}
		c.Hash, c.At = fixed(hash), time.UnixMicro(at).UTC()
		all = append(all, c)
	}
	return all, rows.Err()
}

// one scans a row and tells whether there is one.
func one(row *sql.Row, to ...any) (found bool, err error) {
	err = row.Scan(to...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// fixed returns a hash of the database; one of another size becomes one that nothing has.
func fixed(hash []byte) (h [sha256.Size]byte) {
	if len(hash) == sha256.Size {
		copy(h[:], hash)
	}
	return h
}

// keep makes a checkpoint when there is something new.
func (k *Keeper) keep(ctx context.Context) error {
	v, err := k.trust(ctx)
	if err != nil {
		return err
	}
	return k.settle(ctx, v)
}

// trust inspects the chain. One that cannot be trusted is broken for good.
func (k *Keeper) trust(ctx context.Context) (view, error) {
	v, err := k.inspect(ctx)
	if errors.Is(err, ErrTampered) || errors.Is(err, ErrRolledBack) {
		err = k.Chain.fail(err)
	}
	return v, err
}

// settle makes the checkpoint of a chain that was inspected, when there is something new.
func (k *Keeper) settle(ctx context.Context, v view) error {
	if v.newest.Seq > k.known().Seq { // another process made it, or this one could not save it
		if err := k.save(v.newest); err != nil {
			return err
		}
	}
	if v.head.seq == v.newest.Seq {
		k.Chain.Committed(Entry{Seq: v.head.seq, Hash: v.head.hash})
		return nil
	}
	return k.sign(ctx, v)
}

// known returns the checkpoint in the file.
func (k *Keeper) known() Checkpoint {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.saved
}

// inspect looks at what the checkpoint in the file says, and at all that came since the
// newest one.
func (k *Keeper) inspect(ctx context.Context) (view, error) {
	known, err := k.Chain.known() // before the look: the database must not lack any of it
	if err != nil {
		return view{}, err
	}
	saved := k.known()
	v, err := look(ctx, k.DB, saved.Seq, known.seq)
	if err != nil {
		return view{}, err
	}
	if err := k.compare(v, saved); err != nil {
		return view{}, err
	}
	if err := k.read(ctx, v); err != nil {
		return view{}, err
	}
	if hash, ok := v.hashes[known.seq]; known.seq > 0 && (!ok || hash != known.hash) {
		return view{}, fmt.Errorf("%w: the database ends at record %d and lacks record %d as this process knows it", ErrRolledBack, v.head.seq, known.seq)
	}
	return v, nil
}

// compare says what in the view contradicts the checkpoint in the file, or itself.
func (k *Keeper) compare(v view, saved Checkpoint) error {
	if saved.Seq > 0 {
		if err := v.holds(saved, k.File); err != nil {
			return err
		}
		if c := v.asserted[saved.Seq]; c.Hash != saved.Hash || c.Previous != saved.Previous {
			return fmt.Errorf("%w: the checkpoint of record %d is missing in the database", ErrTampered, saved.Seq)
		}
	}
	if v.newest.Seq > 0 {
		if !v.newest.Verify(k.Chain.Public()) {
			return fmt.Errorf("%w: the checkpoint of record %d is not signed with this service's key", ErrTampered, v.newest.Seq)
		}
		if hash, ok := v.hashes[v.newest.Seq]; !ok || hash != v.newest.Hash || v.head.seq < v.newest.Seq {
			return fmt.Errorf("%w: the database ends at record %d and lacks record %d as its checkpoint of %s says", ErrTampered, v.head.seq, v.newest.Seq, v.newest.At.Format(time.RFC3339))
		}
	}
	if v.end > v.head.seq {
		return fmt.Errorf("%w: record %d was added behind the end of the chain", ErrTampered, v.head.seq+1)
	}
	return nil
}

// read goes along the records behind the newest checkpoint and says which is the first bad one.
func (k *Keeper) read(ctx context.Context, v view) error {
	f := follow(k.Chain, position{v.newest.Seq, v.newest.Hash}, v.newest.Seq > 0)
	bad, first := int64(math.MaxInt64), ""
	for n := pageSize; n == pageSize && first == ""; {
		var err error
		n, err = page(ctx, k.DB, f.seq, v.head.seq, func(r *row) {
			f.next(r, func(seq int64, what string) {
				if seq < bad {
					bad, first = seq, what
				}
			})
		})
		if err != nil {
			return err
		}
	}
	switch {
	case first != "":
		return fmt.Errorf("%w: %s", ErrTampered, first)
	case f.seq < v.head.seq:
		return fmt.Errorf("%w: %s", ErrTampered, lacking(f.seq+1, v.head.seq))
	case f.hash != v.head.hash:
		return fmt.Errorf("%w: the end of the chain has another hash than record %d", ErrTampered, f.seq)
	}
	return nil
}

// sign makes the checkpoint of the head. When another process was faster it does nothing:
// the next round finds that one.
func (k *Keeper) sign(ctx context.Context, v view) error {
	c := Checkpoint{
		Seq: v.head.seq, Previous: v.newest.Seq, Hash: v.head.hash, At: k.Now().UTC().Truncate(time.Microsecond),
	}.sign(k.Chain.signingKey)
	var first bool
	err := k.DB.Write(ctx, func(ctx context.Context, tx Transaction) (err error) {
		first, err = c.insert(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	if !first {
		k.Chain.Committed(Entry{Seq: c.Seq, Hash: c.Hash})
		return nil
	}
	if _, err := k.Stream.enqueue(checkpointLine{&c}); err != nil {
		k.Log.LogAttrs(ctx, slog.LevelError, "audit stream", slog.Int64("checkpoint", c.Seq), slog.Any("error", err))
	}
	return k.save(c)
}

// save puts c, which is in the database, into the file.
func (k *Keeper) save(c Checkpoint) error {
	k.Chain.Committed(Entry{Seq: c.Seq, Hash: c.Hash})
	k.Chain.covered(c.Seq)
	if err := c.save(k.File); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saved = c
	return nil
}
