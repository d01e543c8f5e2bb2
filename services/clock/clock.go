// Package clock turns the machine's clock into one that never goes back.
//
// What was recorded as past must not become future again: a credential that was spent, or
// has expired, would be good once more. Now is therefore never before a mark that is kept
// with the records and shared by all who write them. The signer and the validator take
// their time from it; whoever deletes what is too old asks Steady first.
package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/run"
)

const (
	tolerance = 60 * time.Second // by how much a clock may be behind, or jump
	unsteady  = 10 * time.Minute // how long a clock that jumped is not steady
	markTime  = 10 * time.Second // the time between two looks at the mark
)

// standing says what it means that the clock is behind, and the way out.
const standing = "time stands still until it is set right. If it is the record that is wrong, stop every process of this database and run 'clock reset'"

// Config is what a Clock needs.
type Config struct {
	// Mark returns the newest time that is on record, the zero time when there is none.
	Mark func(context.Context) (time.Time, error)
	// Log hears of jumps, and of a clock that is behind.
	Log *slog.Logger
	// Metrics gets estuary_clock_behind_seconds and estuary_clock_steps_total; may be nil.
	Metrics *metrics.Set
	// Now is the machine's clock; time.Now where nil.
	Now func() time.Time
	// Elapsed is a clock that nobody sets, from any beginning; the monotonic one where nil.
	Elapsed func() time.Duration
}

// Clock is a clock that never goes back. It is safe for concurrent use.
type Clock struct {
	config Config

	mu      sync.Mutex
	high    time.Time     // guarded by mu; the latest time given out or on record
	wall    time.Time     // guarded by mu; the machine's clock when it was last looked at
	elapsed time.Duration // guarded by mu; Elapsed at that moment
	jumped  time.Duration // guarded by mu; Elapsed at the last jump
	steps   int           // guarded by mu; how many jumps there were
	behind  bool          // guarded by mu; the log has been told that the clock is behind
}

// New returns a clock that starts at the mark, or at the machine's time when that is later.
func New(ctx context.Context, c Config) (*Clock, error) {
	if c.Mark == nil || c.Log == nil {
		return nil, errors.New("a clock needs a mark and a log")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if began := time.Now(); c.Elapsed == nil {
		c.Elapsed = func() time.Duration { return time.Since(began) }
	}
	clock := &Clock{config: c, wall: c.Now().Round(0), elapsed: c.Elapsed()}
	if err := clock.look(ctx); err != nil {
		return nil, err
	}
	if c.Metrics != nil {
		c.Metrics.NewGauge("estuary_clock_behind_seconds", func() float64 { lag, _ := clock.state(); return max(0, lag.Seconds()) })
		c.Metrics.NewGauge("estuary_clock_steps_total", func() float64 { _, steps := clock.state(); return float64(steps) })
	}
	return clock, nil
}

// Now returns the time, which is never before one that it returned earlier, nor before the mark.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wall := c.read(); wall.After(c.high) {
		c.high = wall
	}
	return c.high
}

// Steady tells whether what is old by this clock may be deleted: it is not more than a
// minute behind its mark, and has not jumped within the last ten minutes.
func (c *Clock) Steady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	lag := c.high.Sub(c.read())
	return lag <= tolerance && (c.steps == 0 || c.elapsed-c.jumped >= unsteady)
}

// Check tells that the clock is more than a minute behind its mark. It is a readiness check.
func (c *Clock) Check(context.Context) error {
	if lag, _ := c.state(); lag > tolerance {
		return fmt.Errorf("the clock is %v behind the newest record: "+standing, lag.Round(time.Second))
	}
	return nil
}

// Run looks at the mark and at the machine's clock every ten seconds until ctx ends. A mark
// that cannot be read is logged, and read again.
func (c *Clock) Run(ctx context.Context) error {
	run.Every(ctx, markTime, func(ctx context.Context) {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.config.Log.LogAttrs(ctx, slog.LevelWarn, "clock", slog.Any("error", err))
		}
	})
	return nil
}

// look raises the clock to the mark, and tells the log when it falls behind.
func (c *Clock) look(ctx context.Context) error {
	mark, err := c.config.Mark(ctx)
	if err != nil {
		return fmt.Errorf("reading the time of the newest record: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if mark.After(c.high) {
		c.high = mark.Round(0)
	}
	wall := c.read()
	late := c.high.Sub(wall) > tolerance
	if late && !c.behind {
		c.config.Log.LogAttrs(ctx, slog.LevelWarn, "the clock is behind the newest record: "+standing,
			slog.Time("clock", wall), slog.Time("record", c.high))
	}
	c.behind = late
	return nil
}

// state returns by how much the machine's clock is behind, and how often it has jumped.
func (c *Clock) state() (lag time.Duration, steps int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.high.Sub(c.read()), c.steps
}

// read returns the machine's time and notices a jump. It drops the monotonic part, by which
// times would compare as if nobody had set the clock. The caller holds mu.
func (c *Clock) read() time.Time {
	wall, elapsed := c.config.Now().Round(0), c.config.Elapsed()
	step := wall.Sub(c.wall) - (elapsed - c.elapsed)
	c.wall, c.elapsed = wall, elapsed
	if step.Abs() > tolerance {
		c.steps, c.jumped = c.steps+1, elapsed
		c.config.Log.Error("the clock jumped: nothing is deleted for a while",
			slog.Duration("by", step), slog.Time("clock", wall), slog.Duration("while", unsteady))
	}
	return wall
}
