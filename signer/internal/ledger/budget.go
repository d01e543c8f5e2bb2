package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// ErrBudget is in the error of Begin for a certificate that a budget has no room for.
var ErrBudget = errors.New("the budget is used up")

// budgetRetry is when a client may come again for whom there was no room.
const budgetRetry = time.Minute

// Budget bounds how many certificates are issued in an hour: what a stolen key of a
// validator is worth, or a label that somebody runs wild with.
type Budget struct {
	// PerHour is how many certificates an hour holds.
	PerHour int64

	name string
}

// KeyBudget is the budget of a validator's key.
func KeyBudget(keyID string, perHour int64) Budget {
	return Budget{name: "validator key " + keyID, PerHour: perHour}
}

// LabelBudget is the budget of a label.
func LabelBudget(label string, perHour int64) Budget {
	return Budget{name: "label " + label, PerHour: perHour}
}

// take counts a certificate at the time at. The hour slides: the count of the last full hour
// of the clock weighs as much as of it still lies within the last sixty minutes.
func (b Budget) take(ctx context.Context, tx store.Tx, at time.Time) error {
	hour := at.Unix() / 3600
	var used, before int64
	err := tx.QueryRow(ctx, `INSERT INTO budget (name, hour, used) VALUES ($1, $2, 1)
 ON CONFLICT (name, hour) DO UPDATE SET used = budget.used + 1 RETURNING used`, b.name, hour).Scan(&used)
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT used FROM budget WHERE name = $1 AND hour = $2`, b.name, hour-1).Scan(&before)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("taking from a budget: %w", err)
	}
	left := 3600 - at.Unix()%3600 // seconds of the hour before that count still
	if used+before*left/3600 <= b.PerHour {
		return nil
	}
	return &fault.Error{
		Kind: fault.Busy, Op: "ledger.Begin", Public: "too many certificates in this hour", RetryAfter: budgetRetry,
		Err: fmt.Errorf("%w: %s allows %d certificates an hour", ErrBudget, b.name, b.PerHour),
	}
}

// giveBudgetsBack returns what r took from its budgets, where it took from any: an outage of
// the key must not use them up.
func giveBudgetsBack(ctx context.Context, tx store.Tx, r *row) error {
	hour := store.Time(r.createdAt).Unix() / 3600
	for _, b := range []Budget{KeyBudget(r.validatorKey, 0), LabelBudget(r.label, 0)} {
		if _, err := tx.Exec(ctx, `UPDATE budget SET used = used - 1 WHERE name = $1 AND hour = $2 AND used > 0`, b.name, hour); err != nil {
			return fmt.Errorf("giving back to a budget: %w", err)
		}
	}
	return nil
}
