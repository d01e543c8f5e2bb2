package clock_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/estuary-pki/estuary/services/clock"
)

// What is too old is deleted every minute, in as many goes as it takes, by the clock's own
// time, and not while the clock may be wrong.
func TestPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		shift := time.Duration(0)     // guarded by mu; by how much somebody has set the machine's clock
		calls, left := 0, int64(2500) // guarded by mu
		var failure error             // guarded by mu
		c, err := clock.New(t.Context(), clock.Config{
			Mark: func(context.Context) (time.Time, error) { return time.Time{}, nil }, Log: slog.New(slog.DiscardHandler),
			Now: func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Add(shift)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- c.Purge(ctx, func(_ context.Context, now time.Time) (int64, error) {
				if !now.Equal(c.Now()) {
					t.Errorf("asked to purge up to %v, it is %v", now, c.Now())
				}
				mu.Lock()
				defer mu.Unlock()
				calls++
				n := min(left, 1000)
				left -= n
				return n, failure
			})
		}()
		set := func(change func()) {
			mu.Lock()
			defer mu.Unlock()
			change()
		}
		pass := func(d time.Duration, want int) {
			t.Helper()
			set(func() { calls = 0 })
			time.Sleep(d)
			synctest.Wait()
			set(func() {
				if calls != want {
					t.Errorf("%d calls within %v, not %d", calls, d, want)
				}
			})
		}
		pass(59*time.Second, 0)
		pass(2*time.Second, 4) // 1000, 1000, 500, and none
		pass(time.Minute, 1)
		set(func() { shift = time.Hour })
		pass(9*time.Minute, 0)
		pass(2*time.Minute, 1)
		set(func() { failure, left = errors.New("no database"), 10 })
		pass(time.Minute, 1)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
