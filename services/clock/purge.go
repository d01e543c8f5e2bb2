package clock

import (
	"context"
	"log/slog"
	"time"

	"github.com/estuary-pki/estuary/services/run"
)

// purgeTime is the time between two purges.
const purgeTime = time.Minute

// Purge calls purge every minute until ctx ends, and at once again while something was
// deleted, but only while the clock is Steady. What could not be deleted is logged, and
// tried again.
func (c *Clock) Purge(ctx context.Context, purge func(ctx context.Context, now time.Time) (deleted int64, err error)) error {
	run.Every(ctx, purgeTime, func(ctx context.Context) {
		for deleted := int64(1); deleted > 0 && c.Steady() && ctx.Err() == nil; {
			var err error
			if deleted, err = purge(ctx, c.Now()); err != nil {
				c.config.Log.LogAttrs(ctx, slog.LevelWarn, "what is too old could not be deleted", slog.Any("error", err))
				return
			}
		}
	})
	return nil
}
