package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

const (
	// keepTime is the time between two checkpoints at most.
	keepTime = time.Minute
	// retryTime is the wait after a round that failed.
	retryTime = 10 * time.Second
	// lastTime bounds the checkpoint at the end.
	lastTime = 5 * time.Second
	// overdueTime is how long records may be without a checkpoint before Check complains.
	overdueTime = 5 * time.Minute
)

// KeeperConfig is what a Keeper needs.
type KeeperConfig struct {
	// DB is the store of the chain. Other processes may keep the same one.
	DB Database
	// Chain is the service's chain, the one that its records are appended to.
	Chain *Chain
	// Stream gets every checkpoint that this Keeper makes, on a line of its own.
	Stream *Stream
	// File gets the newest checkpoint. It lies outside of the database and is this process's
	// own, for which it locks FILE.lock: that it is ahead of the database is how a restored
	// one is found.
	File string
	// Log hears of an altered chain and of checkpoints that could not be made.
	Log *slog.Logger
	// Metrics gets estuary_audit_tampered; may be nil.
	Metrics *metrics.Set
	// Now is the clock; time.Now where nil.
	Now func() time.Time
}

// Keeper signs how far the chain has come, after a look at what came since the last time.
type Keeper struct {
	KeeperConfig

	lock *os.File // of File; nil between a Run and the next, which do not overlap

	mu    sync.Mutex
	saved Checkpoint // guarded by mu; the one in File, the zero value when there is none
	good  time.Time  // guarded by mu; when the chain was last found whole
	told  bool       // guarded by mu; the log has been told of a chain that is broken
}

// NewKeeper returns the keeper of a chain, which has looked at all that is newer than the
// last checkpoint and has signed it. The error wraps ErrRolledBack when the database lacks
// the record of the checkpoint in File, or has another one, and ErrTampered when what came
// since is not what was recorded. Another process that uses File is an error too.
func NewKeeper(ctx context.Context, c KeeperConfig) (*Keeper, error) {
	if c.DB == nil || c.Chain == nil || c.Stream == nil || c.File == "" || c.Log == nil {
		return nil, errors.New("a keeper of audit checkpoints needs a database, a chain, a stream, a file and a log")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	k := &Keeper{KeeperConfig: c}
	if err := k.open(); err != nil {
		return nil, err
	}
	if err := k.begin(ctx); err != nil {
		return nil, errors.Join(err, k.close())
	}
	if c.Metrics != nil {
		c.Metrics.NewGauge("estuary_audit_tampered", func() float64 {
			if _, err := c.Chain.known(); err != nil {
				return 1
			}
			return 0
		})
	}
	return k, nil
}

// open takes the lock of the file, unless it has it.
func (k *Keeper) open() (err error) {
	if k.lock == nil {
		k.lock, err = lockFile(k.File)
	}
	return err
}

// close gives it free.
func (k *Keeper) close() error {
	err := k.lock.Close()
	k.lock = nil
	return err
}

// begin makes the first round.
func (k *Keeper) begin(ctx context.Context) error {
	saved, exists, err := ReadCheckpoint(k.File, k.Chain.Public())
	if err != nil {
		return err
	}
	if exists {
		k.Chain.covered(saved.Seq)
	}
	k.saved, k.good = saved, k.Now()
	v, err := k.trust(ctx)
	if err != nil {
		return err
	}
	if err := k.repeat(ctx, v); err != nil {
		return err
	}
	return k.settle(ctx, v)
}

// repeat puts the records behind the newest checkpoint onto the stream, at most a thousand:
// a process that died may have committed them without a line. Who reads the stream tells by
// the number what it has already.
func (k *Keeper) repeat(ctx context.Context, v view) error {
	var emit error
	from := max(v.newest.Seq, v.head.seq-everyRecords) // what follows is less than a page
	_, err := page(ctx, k.DB, from, v.head.seq, func(r *row) {
		emit = errors.Join(emit, k.Stream.Emit(Entry{Seq: r.seq, Hash: fixed(r.hash), JSON: bytes.Clone(r.record)}))
	})
	if emit != nil {
		k.Log.LogAttrs(ctx, slog.LevelError, "audit stream", slog.Any("error", emit))
	}
	return err
}

// holds tells whether the database still has the record of a checkpoint that lay in a file.
func (v view) holds(saved Checkpoint, file string) error {
	const advice = "it was set back, or it is another database. Credentials that were used since then could be used again, also after a restore that you wanted"
	at := saved.At.Format(time.RFC3339)
	switch hash, ok := v.hashes[saved.Seq]; {
	case !ok && v.head.seq < saved.Seq:
		return fmt.Errorf("%w: the database ends at record %d, the checkpoint of %s in %s says %d: %s", ErrRolledBack, v.head.seq, at, file, saved.Seq, advice)
	case !ok:
		return fmt.Errorf("%w: the database lacks record %d, which the checkpoint of %s in %s signs: %s", ErrRolledBack, saved.Seq, at, file, advice)
	case hash != saved.Hash:
		return fmt.Errorf("%w: record %d of the database is not the one that the checkpoint of %s in %s signs: %s", ErrRolledBack, saved.Seq, at, file, advice)
	}
	return nil
}

// Run makes checkpoints until ctx ends, and a last one then, and gives the lock of the file
// free. It looks every minute and whenever a thousand records have come. What cannot be done
// now is logged and tried again; an altered chain is looked at no further. There is one Run
// at a time.
func (k *Keeper) Run(ctx context.Context) (err error) {
	if err := k.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	wake := k.Chain.wake
	for wait := keepTime; ctx.Err() == nil; {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-wake:
		case <-ctx.Done():
			timer.Stop()
			continue
		}
		timer.Stop()
		wait, wake = keepTime, k.Chain.wake
		if err := k.round(ctx); err != nil {
			wait, wake = retryTime, nil // new records would wake it without end
		}
	}
	k.last(ctx)
	return nil
}

// last makes the checkpoint at the end of the process.
func (k *Keeper) last(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
	defer cancel()
	_ = k.round(ctx) // logged; the next start makes it
}

// round keeps the chain once, and tells of it.
func (k *Keeper) round(ctx context.Context) error {
	now := k.Now()
	err := k.keep(ctx)
	_, broken := k.Chain.known()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case broken != nil && !k.told:
		k.told = true
		k.Log.LogAttrs(ctx, slog.LevelError, "the audit chain cannot be trusted: stopped recording", slog.Any("error", broken))
	case err == nil:
		k.good = now
	case broken == nil:
		k.Log.LogAttrs(ctx, slog.LevelWarn, "no audit checkpoint was made, trying again", slog.Any("error", err))
	}
	return err
}

// Check tells that the chain cannot be trusted, or that its newest records have had no
// checkpoint for more than five minutes. It is a readiness check.
func (k *Keeper) Check(context.Context) error {
	newest, err := k.Chain.known()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if late := k.Now().Sub(k.good); newest.seq > k.saved.Seq && late > overdueTime {
		return fmt.Errorf("the audit chain is at record %d, its newest checkpoint at %d, and none was made for %v", newest.seq, k.saved.Seq, late.Round(time.Second))
	}
	return nil
}
