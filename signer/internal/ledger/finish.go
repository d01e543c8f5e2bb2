package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// Issued ends an intent with its certificate and returns the certificate that is stored
// now: another signer may have taken the intent over and been faster, and then that one's
// is the certificate, and der has to be thrown away.
//
// Errors: Unavailable (it could not be recorded: der must not leave the process; or, with
// RetryAfter, another signer has taken the intent over, and is not ready or has given it up),
// Internal (the row was altered).
func (l *Ledger) Issued(ctx context.Context, v Reservation, der []byte) ([]byte, error) {
	record := v.record
	record.Time, record.Event, record.Outcome, record.Serial = l.now(), "certificate.issued", audit.Success, v.serial
	var stored []byte
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		won, r, err := l.finish(ctx, tx, v, func(r *row) {
			r.state, r.certificate = signerv1.EntryState_ENTRY_STATE_ISSUED, der
		})
		switch {
		case err != nil:
			return err
		case !won && r.state == signerv1.EntryState_ENTRY_STATE_INTENT:
			return underWay("ledger.Issued")
		case !won && r.state != signerv1.EntryState_ENTRY_STATE_ISSUED:
			return &fault.Error{
				Kind: fault.Unavailable, Op: "ledger.Issued", RetryAfter: retryAfter, Err: errors.New("the intent was given up meanwhile"),
			}
		}
		stored = r.certificate
		if !won {
			return nil
		}
		return tx.record(ctx, record)
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// Failed gives an intent up for which the authority's key was not used, and gives a token's
// use back; the assertion's id stays used. An intent that another signer has taken over is
// left alone.
func (l *Ledger) Failed(ctx context.Context, v Reservation, cause error) error {
	return l.fail(ctx, v, cause, func(r *row) { r.state = signerv1.EntryState_ENTRY_STATE_FAILED })
}

// Abandon is Failed for an intent for which the authority's key may have been used, with
// nobody knowing what became of the signature: its serial number goes onto the revocation
// list (RFC 5280 section 5.3.1: no reason is given).
func (l *Ledger) Abandon(ctx context.Context, v Reservation, cause error) error {
	return l.fail(ctx, v, cause, func(r *row) {
		r.state = signerv1.EntryState_ENTRY_STATE_FAILED
		r.revokedAt = sql.NullInt64{Int64: store.Micros(l.now()), Valid: true}
		r.reason = sql.NullInt64{Valid: true}
	})
}

// fail ends an intent without a certificate and gives back what it took. A count that was
// altered is left as it is, and raises the alarm: it must not keep the intent open.
func (l *Ledger) fail(ctx context.Context, v Reservation, cause error, change func(*row)) error {
	record := v.record
	record.Time, record.Event, record.Outcome, record.Serial = l.now(), "certificate.failed", audit.Failed, v.serial
	record.Reason = cause.Error()
	var altered alteredError
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		altered = alteredError{}
		won, r, err := l.finish(ctx, tx, v, change)
		if err != nil || !won {
			return err
		}
		if err := l.giveBack(ctx, tx, r); err != nil && !errors.As(err, &altered) {
			return err
		}
		if err := giveBudgetsBack(ctx, tx, r); err != nil {
			return err
		}
		if r.revokedAt.Valid {
			if _, err := tx.count(ctx, counterRevocation); err != nil {
				return err
			}
		}
		return tx.record(ctx, record)
	})
	if err == nil && altered.what != "" {
		return fault.New(fault.Internal, "ledger.fail", "", l.alarm(ctx, altered))
	}
	return err
}

// finish applies change to the row of v where it is still an intent of v's owner, and
// returns the row as it is then. It did not win when somebody else was there before.
func (l *Ledger) finish(ctx context.Context, tx *txn, v Reservation, change func(*row)) (won bool, r *row, err error) {
	if r, err = l.bySerial(ctx, tx, v.serial); err != nil {
		return false, nil, err
	}
	if r.state != signerv1.EntryState_ENTRY_STATE_INTENT {
		return false, r, nil
	}
	// The UPDATE decides whose intent it is, not what was read before it.
	change(r)
	r.mac = l.seal(r)
	n, err := tx.Exec(ctx, `UPDATE entry SET state = $1, certificate = $2, revoked_at = $3, revocation_reason = $4, mac = $5
 WHERE serial = $6 AND state = $7 AND owner = $8`, int64(r.state), r.certificate, r.revokedAt, r.reason, r.mac,
		r.serial, int64(signerv1.EntryState_ENTRY_STATE_INTENT), v.owner)
	if err != nil {
		return false, nil, fmt.Errorf("ending an intent: %w", err)
	}
	if n == 1 {
		return true, r, nil
	}
	r, err = l.bySerial(ctx, tx, v.serial)
	return false, r, err
}

func (l *Ledger) bySerial(ctx context.Context, tx store.Tx, serial string) (*row, error) {
	return l.load(ctx, tx, "serial = $1", serial)
}
