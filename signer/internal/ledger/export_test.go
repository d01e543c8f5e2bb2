package ledger

import (
	"context"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/store"
)

// Columns returns the columns of the table entry that a MAC covers, and mac itself.
func Columns() []string {
	return strings.Fields(strings.ReplaceAll(columns, ",", " "))
}

// TakeOver makes owner the owner of an intent, with a MAC that holds.
func (l *Ledger) TakeOver(ctx context.Context, v Reservation, owner string) (Reservation, error) {
	err := l.db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
		r, err := l.bySerial(ctx, tx, v.serial)
		if err != nil {
			return err
		}
		r.owner = owner
		r.leaseUntil = store.Micros(l.now().Add(time.Minute))
		_, err = tx.Exec(ctx, `UPDATE entry SET owner = $1, lease_until = $2, mac = $3 WHERE serial = $4`,
			r.owner, r.leaseUntil, l.seal(r), r.serial)
		return err
	})
	v.owner = owner
	return v, err
}
