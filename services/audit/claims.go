package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// claim is what somebody outside of the database knows about a record.
type claim struct {
	position
	checkpoint *Checkpoint // nil for an exported record
}

// claims compares the database with what was known and what was exported.
func (v *verification) claims(ctx context.Context) error {
	var batch []claim
	add := func(c claim) error {
		if c.checkpoint != nil && !c.checkpoint.Verify(v.Public) {
			v.wrong(c.seq, fmt.Sprintf("a known checkpoint of record %d is not signed with this service's key", c.seq))
			return nil
		}
		batch = append(batch, c)
		if len(batch) < pageSize {
			return nil
		}
		full := batch
		batch = batch[:0]
		return v.compare(ctx, full)
	}
	for _, c := range v.Known {
		if err := add(claim{position{c.Seq, c.Hash}, &c}); err != nil {
			return err
		}
	}
	if v.Lines != nil {
		for l, err := range v.Lines {
			if err != nil {
				return fmt.Errorf("reading the exported records: %w", err)
			}
			if err := add(claim{position{l.Seq, l.Hash}, l.Checkpoint}); err != nil {
				return err
			}
		}
	}
	if err := v.compare(ctx, batch); err != nil {
		return err
	}
	v.lost()
	return nil
}

// compare looks up the records and the checkpoints of some claims.
func (v *verification) compare(ctx context.Context, batch []claim) error {
	slices.SortFunc(batch, func(a, b claim) int { return cmp.Compare(a.seq, b.seq) })
	// A stream has a record twice when its process was started again.
	batch = slices.CompactFunc(batch, func(a, b claim) bool {
		return a.position == b.position && a.checkpoint == nil && b.checkpoint == nil
	})
	for len(batch) > 0 {
		// Claims that lie far apart are looked up apart: what is between them is not read.
		n := 1
		for n < len(batch) && batch[n].seq-batch[0].seq < 2*pageSize {
			n++
		}
		there, err := v.between(ctx, batch[0].seq, batch[n-1].seq)
		if err != nil {
			return err
		}
		for _, c := range batch[:n] {
			v.settle(c, there)
		}
		batch = batch[n:]
	}
	return nil
}

// between reads hashes and checkpoints anew: a line may be younger than the first look.
func (v *verification) between(ctx context.Context, from, to int64) (found view, err error) {
	err = v.DB.Read(ctx, func(ctx context.Context, tx Transaction) error {
		found = view{hashes: map[int64][sha256.Size]byte{}, asserted: map[int64]Checkpoint{}}
		signed, err := readCheckpoints(ctx, tx, `SELECT `+checkpointColumns+` FROM audit_checkpoint WHERE seq >= $1 AND seq <= $2`, from, to)
		if err != nil {
			return err
		}
		for _, c := range signed {
			found.asserted[c.Seq] = c
		}
		rows, err := tx.Query(ctx, `SELECT seq, hash FROM audit_record WHERE seq >= $1 AND seq <= $2`, from, to)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // its error is that of Err
		for rows.Next() {
			var seq int64
			var hash []byte
			if err := rows.Scan(&seq, &hash); err != nil {
				return err
			}
			found.hashes[seq] = fixed(hash)
		}
		return rows.Err()
	})
	if err != nil {
		return view{}, fmt.Errorf("comparing the audit chain: %w", err)
	}
	return found, nil
}

// settle compares one claim with what there is.
func (v *verification) settle(c claim, there view) {
	hash, exists := there.hashes[c.seq]
	if c.checkpoint == nil {
		there := position{hash: hash}
		if exists {
			there.seq = c.seq
		}
		v.settleLine(c.position, there)
		return
	}
	at := c.checkpoint.At.Format(time.RFC3339)
	_, asserted := there.asserted[c.seq]
	switch {
	case !exists && c.seq > v.seq:
		if c.seq > v.ahead.Seq {
			v.ahead = *c.checkpoint
		}
	case !exists:
		v.wrong(c.seq, fmt.Sprintf("record %d is missing, which a known checkpoint of %s signs", c.seq, at))
	case hash != c.hash && v.named(*c.checkpoint):
		v.wrong(c.seq, fmt.Sprintf("record %d is not the one that a known checkpoint of %s signs", c.seq, at))
	case hash != c.hash && v.restart(c.seq) > 0:
		first := max(c.checkpoint.Previous+1, v.restart(c.seq))
		v.wrong(first, fmt.Sprintf("the records %d to %d that a known checkpoint of %s signs were cut off, before 'audit accept' went on with record %d", first, c.seq, at, v.restart(c.seq)))
	case hash != c.hash:
		v.wrong(c.checkpoint.Previous+1, fmt.Sprintf("the records %d to %d are not those that a known checkpoint of %s signs", c.checkpoint.Previous+1, c.seq, at))
	case !asserted:
		v.wrong(c.seq, fmt.Sprintf("the checkpoint of record %d is missing, which is known from elsewhere", c.seq))
	}
}

// settleLine compares one exported record with the one there is. Lines behind the end are
// one problem together.
func (v *verification) settleLine(c, there position) {
	switch {
	case there.seq == 0 && c.seq > v.seq:
		v.exported = max(v.exported, c.seq)
	case there.seq == 0:
		v.wrong(c.seq, fmt.Sprintf("record %d is missing, which was exported", c.seq))
	case there.hash != c.hash && v.restart(c.seq) > 0 && !v.damaged(c.seq):
		v.wrong(c.seq, fmt.Sprintf("record %d was cut off, before 'audit accept' went on with record %d: another one was exported", c.seq, v.restart(c.seq)))
	case there.hash != c.hash:
		v.wrong(c.seq, fmt.Sprintf("record %d was altered: another one was exported", c.seq))
	}
}

// restart returns the last record, up to seq, with which an Accept went on, and 0 where there
// is none. From there on a chain that was cut has other records than before. Without the MAC
// key they could as well have been altered.
func (v *verification) restart(seq int64) int64 {
	for _, accepted := range slices.Backward(v.accepted) {
		if accepted <= seq && v.Chain != nil {
			return accepted
		}
	}
	return 0
}

// damaged tells whether something is wrong with the record itself.
func (v *verification) damaged(seq int64) bool {
	return slices.ContainsFunc(v.inside, func(p Problem) bool { return p.Seq == seq })
}

// lost says that records behind the end are known from elsewhere.
func (v *verification) lost() {
	v.cut(v.ahead)
	if v.exported > 0 {
		v.wrong(v.seq+1, fmt.Sprintf("the chain ends at record %d, but record %d was exported: %s cut off", v.seq, v.exported, were(v.exported-v.seq)))
	}
}
