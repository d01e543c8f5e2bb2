package ledger

import (
	"context"
	"strings"

	"github.com/estuary-pki/estuary/services/store"
)

// Columns returns the columns of the table entry that a MAC covers, and mac itself.
func Columns() []string {
	return strings.Fields(strings.ReplaceAll(columns, ",", " "))
}

// Age makes a row one from before renewal.
func (l *Ledger) Age(ctx context.Context, serial string) error {
	return l.db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
		r, err := l.bySerial(ctx, tx, serial)
		if err != nil {
			return err
		}
		n := &row{}
		r.authority, r.predecessor, r.loginAt, r.loginIndicators, r.useLimit, r.lineUntil = n.authority, n.predecessor, n.loginAt, n.loginIndicators, n.useLimit, n.lineUntil
		_, err = tx.Exec(ctx, `UPDATE entry SET authority = NULL, predecessor = NULL, login_at = NULL, login_indicators = NULL, use_limit = NULL, line_until = NULL, mac = $1 WHERE serial = $2`,
			l.seal(r), serial)
		return err
	})
}
