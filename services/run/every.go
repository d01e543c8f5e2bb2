package run

import (
	"context"
	"time"
)

// Every calls f every interval, for the first time after one, until ctx ends. A call that
// takes longer has the next one follow at once.
func Every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f(ctx)
	}
}
