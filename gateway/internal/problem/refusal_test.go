package problem_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/problem"
)

// Whatever the back end took, refusals leave on ticks of the clock, and not before the floor.
func TestHoldLeavesOnATick(t *testing.T) {
	cases := []struct {
		name          string
		offset, spent time.Duration // request start behind a tick; time that the checks took
		want          time.Duration // from request start to reply
	}{
		{"at once, on a tick", 0, 0, 1500 * time.Millisecond},
		{"at once, between ticks", 200 * time.Millisecond, 0, 1800 * time.Millisecond},
		{"a little slower, same tick", 200 * time.Millisecond, 900 * time.Millisecond, 1800 * time.Millisecond},
		{"slow back end, past the floor", 0, 1700 * time.Millisecond, 2 * time.Second},
		{"just past a tick", time.Millisecond, 3 * time.Second, 3499 * time.Millisecond},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, err := problem.NewRefusals(1500*time.Millisecond, time.Now)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.offset)
				start := time.Now()
				time.Sleep(c.spent)
				f.Hold(t.Context(), start)
				if got := time.Since(start); got != c.want {
					t.Errorf("left after %s, not %s", got, c.want)
				}
				if end := time.Now(); !end.Equal(end.Truncate(problem.Tick)) {
					t.Errorf("left at %s, between ticks", end)
				}
			})
		})
	}
}

func TestHoldEndsWithTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := problem.NewRefusals(problem.MaxFloor, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		f.Hold(ctx, start)
		if got := time.Since(start); got != 300*time.Millisecond {
			t.Errorf("held for %s after the client had gone", got-300*time.Millisecond)
		}
	})
}

func TestNewRefusalsChecks(t *testing.T) {
	for _, floor := range []time.Duration{-1, problem.MaxFloor + 1} {
		if _, err := problem.NewRefusals(floor, time.Now); err == nil {
			t.Errorf("a floor of %s was accepted", floor)
		}
	}
	if _, err := problem.NewRefusals(0, nil); err == nil {
		t.Error("no clock was accepted")
	}
}
