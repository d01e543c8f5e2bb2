package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/store"
)

// purgeLimit is how many counts one transaction of Purge deletes, so that it holds nobody up.
const purgeLimit = 1000

// Purge deletes counts that nobody needs any more at the time now: of credentials whose
// keep_until has passed, at most 1000 of them, and of hours that no budget looks at. It
// returns how many of the former there were. Entries and audit records are kept for ever.
//
// A clock that is ahead must not delete what would be missed once it is right: now counts
// only up to the newest entry, whose time was held against a validator's clock.
func (l *Ledger) Purge(ctx context.Context, now time.Time) (deleted int64, err error) {
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		var newest int64
		err := tx.QueryRow(ctx, `SELECT created_at FROM entry ORDER BY seq DESC LIMIT 1`).Scan(&newest)
		if deleted = 0; errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for the newest entry: %w", err)
		}
		before := min(store.Micros(now), newest)
		// The outer condition is for PostgreSQL: a count may have been taken anew since it was
		// chosen.
		deleted, err = tx.Exec(ctx, `DELETE FROM spend WHERE keep_until < $1 AND id IN
 (SELECT id FROM spend WHERE keep_until < $1 ORDER BY keep_until LIMIT $2)`, before, purgeLimit)
		if err != nil {
			return fmt.Errorf("deleting counts of uses: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM budget WHERE hour < $1`, store.Time(before).Unix()/3600-1); err != nil {
			return fmt.Errorf("deleting counts of budgets: %w", err)
		}
		return nil
	})
	return deleted, err
}
