package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/store"
)

// purgeLimit is how many counts one transaction of Purge deletes, so that it holds nobody up.
const purgeLimit = 1000

// Purge deletes counts that nobody needs any more at the time now: of credentials whose
// keep_until has passed, at most 1000 of them, and of hours that no budget looks at. It
// returns how many of the former there were. Entries and audit records are kept for ever.
func (l *Ledger) Purge(ctx context.Context, now time.Time) (deleted int64, err error) {
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		var err error
		deleted, err = tx.Exec(ctx, `DELETE FROM spend WHERE id IN
 (SELECT id FROM spend WHERE keep_until < $1 ORDER BY keep_until LIMIT $2)`, store.Micros(now), purgeLimit)
		if err != nil {
			return fmt.Errorf("deleting counts of uses: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM budget WHERE hour < $1`, now.Unix()/3600-1); err != nil {
			return fmt.Errorf("deleting counts of budgets: %w", err)
		}
		return nil
	})
	return deleted, err
}
