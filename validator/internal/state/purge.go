package state

import (
	"context"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/store"
)

// purgeRows bounds one statement of Purge: on SQLite every other write waits for it.
const purgeRows = 1000

// The outer conditions are for PostgreSQL: a row may have been replaced since it was chosen.
var purges = []string{
	`DELETE FROM credential_check WHERE keep_until < $1 AND (credential, spki) IN
		(SELECT credential, spki FROM credential_check WHERE keep_until < $1 ORDER BY keep_until LIMIT $2)`,
	`DELETE FROM one_time WHERE keep_until < $1 AND credential IN
		(SELECT credential FROM one_time WHERE keep_until < $1 ORDER BY keep_until LIMIT $2)`,
	`DELETE FROM login_failure WHERE keep_until < $1 AND subject IN
		(SELECT subject FROM login_failure WHERE keep_until < $1 ORDER BY keep_until LIMIT $2)`,
}

// Purge deletes what counted for nothing before that time, at most 1000 rows of a table, and
// returns the most that it deleted from one. Fewer than 1000 means that there are no more.
func (s *Store) Purge(ctx context.Context, before time.Time) (most int64, err error) {
	for _, purge := range purges {
		err := s.db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
			n, err := tx.Exec(ctx, purge, store.Micros(before), int64(purgeRows))
			most = max(most, n)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("purging what is over: %w", err)
		}
	}
	return most, nil
}
