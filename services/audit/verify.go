package audit

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"
)

// maxProblems is how many problems a report keeps.
const maxProblems = 100

// VerifyConfig says what to verify, and by what.
type VerifyConfig struct {
	// DB is the store of the chain, which may be in use.
	DB Database
	// Chain has the MAC key. Without it no MAC is looked at, and records behind the last
	// checkpoint are held together by their hashes alone, which anybody can compute.
	Chain *Chain
	// Public is the key of the checkpoints; nil is that of Chain.
	Public ed25519.PublicKey
	// Known are checkpoints from outside of the database: without one nobody can tell
	// whether the end of the chain was cut off together with its checkpoints.
	Known []Checkpoint
	// Lines are exported lines, in any order; nil where there are none.
	Lines iter.Seq2[Line, error]
}

// Report is what Verify found.
type Report struct {
	// Records and Checkpoints are how many the database has.
	Records, Checkpoints int64
	// Last is the time of the last record.
	Last time.Time
	// Problems are the first hundred in the order of their records: none in a whole chain.
	Problems []Problem
	// Found is the number of all problems.
	Found int64
}

// Problem is something that is wrong.
type Problem struct {
	// Seq is the record, or the first of several.
	Seq int64
	// What is a sentence without a full stop that names the record.
	What string
}

// verification is a Verify under way.
type verification struct {
	VerifyConfig
	Report
	*follower
	view view
	// behind are the numbers and hashes of the page before, for its checkpoints.
	behind []position

	looked   int64      // the record up to which checkpoints were looked at
	signed   int64      // the record of the last checkpoint whose signature is good
	forged   int64      // the record of the last one whose signature is not
	missing  Checkpoint // the highest one whose record is behind the end
	ahead    Checkpoint // the same of those that are known
	exported int64      // the highest exported record behind the end
	accepted []int64    // the records that tell of an Accept
	inside   []Problem  // those that the database shows by itself
}

// Verify goes along the whole chain and finds what somebody without the MAC key did to it.
// Records that were written before there were MACs are good when a checkpoint covers them.
// What was accepted (see Accept) is found all the same, but not that it was accepted. It is
// an error only where the chain, or Lines, cannot be read.
func Verify(ctx context.Context, c VerifyConfig) (Report, error) {
	v, err := verify(ctx, c)
	if err != nil {
		return Report{}, err
	}
	return v.Report, nil
}

// verify returns what Verify has seen besides.
func verify(ctx context.Context, c VerifyConfig) (*verification, error) {
	if c.Public == nil && c.Chain != nil {
		c.Public = c.Chain.Public()
	}
	if c.DB == nil || len(c.Public) != ed25519.PublicKeySize {
		return nil, errors.New("verifying an audit chain takes its database, and its MAC key or its public key")
	}
	v := &verification{VerifyConfig: c, follower: follow(c.Chain, position{}, false), looked: math.MinInt64}
	var err error
	if v.view, err = look(ctx, c.DB); err != nil {
		return nil, err
	}
	if err := v.records(ctx); err != nil {
		return nil, err
	}
	v.ending()
	if err := v.checkpoints(ctx, math.MaxInt64); err != nil {
		return nil, err
	}
	v.cut(v.missing)
	v.inside = slices.Clone(v.Problems)
	if err := v.claims(ctx); err != nil {
		return nil, err
	}
	v.Last = v.last
	return v, nil
}

// wrong adds a problem.
func (v *verification) wrong(seq int64, what string) {
	v.Found++
	at, _ := slices.BinarySearchFunc(v.Problems, seq, func(p Problem, seq int64) int {
		if p.Seq <= seq {
			return -1 // behind those of the same record
		}
		return 1
	})
	if at == maxProblems {
		return
	}
	v.Problems = slices.Insert(v.Problems, at, Problem{seq, what})
	v.Problems = v.Problems[:min(len(v.Problems), maxProblems)]
}

// named tells whether one of the records that c covers was named already: that it does not
// match is no news then.
func (v *verification) named(c Checkpoint) bool {
	return slices.ContainsFunc(v.Problems, func(p Problem) bool { return p.Seq > c.Previous && p.Seq <= c.Seq })
}

// records goes along the records, and the checkpoints beside them.
func (v *verification) records(ctx context.Context) error {
	after := int64(math.MinInt64)
	for n := pageSize; n == pageSize; {
		v.behind = v.behind[:0]
		var err error
		n, err = page(ctx, v.DB, after, v.view.end, func(r *row) {
			after = r.seq
			v.Records++
			v.bare(r)
			before := v.Found
			v.next(r, v.wrong)
			if v.Found == before && isAcceptance(r.record) {
				v.accepted = append(v.accepted, r.seq)
			}
			v.behind = append(v.behind, position{r.seq, fixed(r.hash)})
		})
		if err != nil {
			return err
		}
		if err := v.checkpoints(ctx, after); err != nil {
			return err
		}
	}
	return nil
}

// bare says that a record without a MAC has no checkpoint either. Those that were written
// before there were MACs are covered by the first checkpoint.
func (v *verification) bare(r *row) {
	if v.Chain != nil && !v.sealed && len(r.mac) == 0 && r.seq > v.view.first {
		v.wrong(r.seq, fmt.Sprintf("record %d has neither a MAC nor a checkpoint", r.seq))
	}
}

// ending compares the last record with the chain's head.
func (v *verification) ending() {
	switch head := v.view.head; {
	case head.seq > v.seq:
		v.wrong(v.seq+1, fmt.Sprintf("the chain ends at record %d, but its head says %d: %s cut off", v.seq, head.seq, were(head.seq-v.seq)))
	case head.seq < v.seq:
		v.wrong(head.seq+1, fmt.Sprintf("the chain's head says that it ends at record %d, but it has records up to %d", head.seq, v.seq))
	case head.seq > 0 && head.hash != v.hash:
		v.wrong(head.seq, fmt.Sprintf("the chain's head has another hash than record %d", head.seq))
	}
}

// were says how many records it were.
func were(n int64) string {
	if n == 1 {
		return "1 record was"
	}
	return fmt.Sprintf("%d records were", n)
}

// cut says that the chain is shorter than a checkpoint says.
func (v *verification) cut(c Checkpoint) {
	if c.Seq > v.seq {
		v.wrong(v.seq+1, fmt.Sprintf("the chain ends at record %d, but a checkpoint of %s says %d: %s cut off",
			v.seq, c.At.Format(time.RFC3339), c.Seq, were(c.Seq-v.seq)))
	}
}

// checkpoints looks at those that no page had before, up to the record end.
func (v *verification) checkpoints(ctx context.Context, end int64) error {
	end = min(end, v.view.newest.Seq)
	for v.looked < end {
		var all []Checkpoint
		err := v.DB.Read(ctx, func(ctx context.Context, tx Transaction) (err error) {
			all, err = readCheckpoints(ctx, tx, `SELECT `+checkpointColumns+
				` FROM audit_checkpoint WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, v.looked, end, pageSize)
			return err
		})
		if err != nil {
			return fmt.Errorf("reading the audit checkpoints: %w", err)
		}
		for _, c := range all {
			v.checkpoint(c)
			v.looked = c.Seq
		}
		if len(all) < pageSize {
			v.looked = end
		}
	}
	return nil
}

// checkpoint looks at one: its signature, its place among the others, and its record.
func (v *verification) checkpoint(c Checkpoint) {
	v.Checkpoints++
	if !c.Verify(v.Public) {
		v.forged = c.Seq
		v.wrong(c.Seq, fmt.Sprintf("the checkpoint of record %d is not signed with this service's key", c.Seq))
		return
	}
	if c.Previous != v.signed && c.Previous != v.forged {
		v.wrong(min(c.Previous, c.Seq), fmt.Sprintf("the checkpoint of record %d is missing, which that of record %d follows", c.Previous, c.Seq))
	}
	v.signed = c.Seq
	at, found := slices.BinarySearchFunc(v.behind, c.Seq, func(p position, seq int64) int { return cmp.Compare(p.seq, seq) })
	switch {
	case c.Seq > v.seq:
		v.missing = c
	case !found: // the gap among the records is a problem already
	case v.behind[at].hash != c.Hash && v.named(c):
		v.wrong(c.Seq, fmt.Sprintf("record %d is not the one that its checkpoint of %s signs", c.Seq, c.At.Format(time.RFC3339)))
	case v.behind[at].hash != c.Hash:
		v.wrong(c.Previous+1, fmt.Sprintf("the records %d to %d are not those that the checkpoint of %s signs", c.Previous+1, c.Seq, c.At.Format(time.RFC3339)))
	}
}
