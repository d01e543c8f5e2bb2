package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// acceptedEvent is the event of the record with which a chain goes on.
const acceptedEvent = "audit.accepted"

// AcceptConfig says which chain to accept, and why.
type AcceptConfig struct {
	// DB is the store of the chain, which no other process may use meanwhile.
	DB Database
	// Chain has the MAC key.
	Chain *Chain
	// File is the service's checkpoint file. It need not exist.
	File string
	// Reason is the operator's, for the audit.
	Reason string
	// Now is the clock; time.Now where nil.
	Now func() time.Time
}

// Accepted is what Accept found and did.
type Accepted struct {
	// Report is what was wrong, by the checkpoint in the file, too.
	Report Report
	// Cause is why the service would not have gone on with the chain, and wraps ErrRolledBack
	// or ErrTampered. It is nil where there was nothing to accept.
	Cause error
	// Ended is the last record that was there, and Seq the one with which the chain goes on.
	Ended, Seq int64
}

// Accept has a chain go on that the service refuses: because it was altered behind its last
// checkpoint, because it was set back, or because it is the one of a restore. It adds a
// record behind the last that is there and signs it, so that the service goes on from there.
// Verify still finds what was altered, and what others know to have been cut off.
//
// Where the service would go on by itself nothing is changed, even if an older record was
// altered. Next to an error Accepted holds what was found before it. When only the file could
// not be written the chain is changed nevertheless: accept it again.
func Accept(ctx context.Context, c AcceptConfig) (a Accepted, err error) {
	if c.DB == nil || c.Chain == nil || c.File == "" || c.Reason == "" {
		return Accepted{}, errors.New("accepting an audit chain takes its database, its MAC key, its checkpoint file and a reason")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	lock, err := lockFile(c.File)
	if err != nil {
		return Accepted{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	n := &acceptance{AcceptConfig: c, now: c.Now()}
	n.Chain = &Chain{recordKey: c.Chain.recordKey, signingKey: c.Chain.signingKey, wake: make(chan struct{}, 1)} // which knows nothing
	if err := n.find(ctx); err != nil || n.Cause == nil {
		return n.Accepted, err
	}
	var signed Checkpoint
	err = c.DB.Write(ctx, func(ctx context.Context, tx Transaction) (err error) {
		signed, err = n.write(ctx, tx)
		return err
	})
	if err != nil {
		return n.Accepted, fmt.Errorf("accepting the audit chain: %w", err)
	}
	n.Seq = signed.Seq
	return n.Accepted, signed.save(c.File)
}

// acceptance is an Accept under way.
type acceptance struct {
	AcceptConfig
	Accepted
	saved Checkpoint
	now   time.Time
}

// find verifies the chain, and asks what a service that starts with it would say.
func (a *acceptance) find(ctx context.Context) error {
	saved, exists, err := ReadCheckpoint(a.File, a.Chain.Public())
	if err != nil {
		return err
	}
	a.saved = saved
	verified := VerifyConfig{DB: a.DB, Chain: a.Chain}
	if exists {
		verified.Known = []Checkpoint{saved}
	}
	v, err := verify(ctx, verified)
	if err != nil {
		return err
	}
	a.Report, a.Ended = v.Report, max(v.view.end, 0)
	k := &Keeper{KeeperConfig: KeeperConfig{DB: a.DB, Chain: a.Chain, File: a.File}, saved: saved}
	_, err = k.inspect(ctx)
	newest, late := a.Chain.NewestTime(ctx, a.DB)
	if newest.After(a.now) {
		a.now = newest // time does not go back
	}
	for _, err := range []error{err, late} {
		switch {
		case errors.Is(err, ErrTampered) || errors.Is(err, ErrRolledBack):
			a.Cause = errors.Join(a.Cause, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// write sets the chain's head to the last record that is there, and goes on from it.
func (a *acceptance) write(ctx context.Context, tx Transaction) (Checkpoint, error) {
	if err := a.setHead(ctx, tx); err != nil {
		return Checkpoint{}, err
	}
	// Nothing that was signed behind the end may stand in the way of what comes, nor rows that
	// no service makes.
	if _, err := tx.Exec(ctx, `DELETE FROM audit_checkpoint WHERE seq < 1 OR seq > $1 OR previous >= seq`, a.Ended); err != nil {
		return Checkpoint{}, fmt.Errorf("deleting the checkpoints behind the end: %w", err)
	}
	left, err := readCheckpoints(ctx, tx, `SELECT `+checkpointColumns+` FROM audit_checkpoint ORDER BY seq DESC LIMIT 1`)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("reading the audit checkpoints: %w", err)
	}
	e, err := a.Chain.Append(ctx, tx, a.record())
	if err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Seq: e.Seq, Hash: e.Hash, At: a.now.UTC().Truncate(time.Microsecond)}
	for _, newest := range left {
		c.Previous = newest.Seq
	}
	c = c.sign(a.Chain.signingKey)
	first, err := c.insert(ctx, tx)
	if err == nil && !first {
		err = errMeanwhile
	}
	return c, err
}

var errMeanwhile = errors.New("the chain has changed since it was looked at: stop every process of this database")

// setHead sets the head, which locks the chain, and makes sure that nothing came meanwhile.
func (a *acceptance) setHead(ctx context.Context, tx Transaction) error {
	var hash []byte
	if _, err := tx.Exec(ctx, `INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, $1) ON CONFLICT (id) DO NOTHING`, make([]byte, sha256.Size)); err != nil {
		return fmt.Errorf("making the head of the audit chain: %w", err)
	}
	if _, err := tx.Exec(ctx, `UPDATE audit_head SET seq = $1 WHERE id = 1`, a.Ended); err != nil {
		return fmt.Errorf("locking the audit chain: %w", err)
	}
	var end int64
	if _, err := one(tx.QueryRow(ctx, `SELECT seq, hash FROM audit_record WHERE seq > 0 ORDER BY seq DESC LIMIT 1`), &end, &hash); err != nil {
		return fmt.Errorf("reading the last audit record: %w", err)
	}
	if end != a.Ended {
		return errMeanwhile
	}
	return move(ctx, tx, Entry{Hash: fixed(hash)})
}

// record tells of the acceptance.
func (a *acceptance) record() Record {
	said, first := "none", a.Cause.Error()
	if a.saved.Seq > 0 {
		said = strconv.FormatInt(a.saved.Seq, 10)
	}
	if len(a.Report.Problems) > 0 {
		first = a.Report.Problems[0].What
	}
	return Record{
		Time: a.now, Event: acceptedEvent, Outcome: Success, Actor: "operator", Reason: a.Reason,
		Detail: map[string]string{
			"problems": strconv.FormatInt(a.Report.Found, 10), "first": first,
			"ended": strconv.FormatInt(a.Ended, 10), "file": said,
		},
	}
}
