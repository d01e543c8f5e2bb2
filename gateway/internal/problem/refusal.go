package problem

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Tick is the grid on which refusals leave.
const Tick = 500 * time.Millisecond

// MaxFloor is the largest floor that Refusals takes: the reply has to leave before the
// connection's write deadline.
const MaxFloor = 10 * time.Second

// Refusals delays refused credentials, so that their time does not tell which check said
// no: neither an unknown user, nor a wrong code, nor a slow back end can be told apart.
type Refusals struct {
	floor time.Duration
	now   func() time.Time
}

// NewRefusals returns a Refusals with this floor, at most MaxFloor. The floor has to be
// above what the slowest back end takes to refuse.
func NewRefusals(floor time.Duration, now func() time.Time) (*Refusals, error) {
	if floor < 0 || floor > MaxFloor {
		return nil, fmt.Errorf("a floor of %s is not between 0 and %s", floor, MaxFloor)
	}
	if now == nil {
		return nil, errors.New("refusals need a clock")
	}
	return &Refusals{floor: floor, now: now}, nil
}

// Hold waits until the first tick of the clock behind start plus the floor, or behind now
// where that is later; at the latest until ctx ends, which is when the client has gone.
func (f *Refusals) Hold(ctx context.Context, start time.Time) {
	now := f.now()
	due := start.Add(f.floor)
	if due.Before(now) {
		due = now
	}
	timer := time.NewTimer(nextTick(due).Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// nextTick returns the first tick at or behind t.
func nextTick(t time.Time) time.Time {
	tick := t.Truncate(Tick)
	if tick.Before(t) {
		tick = tick.Add(Tick)
	}
	return tick
}
