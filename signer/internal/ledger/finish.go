package ledger

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// Issued ends an intent with its certificate and returns the certificate that is stored
// now: another signer may have taken the intent over and been faster, and then that one's
// is the certificate, and der has to be thrown away.
//
// Errors: Busy (another signer has taken the intent over and is not ready), Conflict (it was
// given up), Unavailable (it could not be recorded: der must not leave the process),
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
			return &fault.Error{Kind: fault.Busy, Op: "ledger.Issued", RetryAfter: retryAfter}
		case !won && r.state != signerv1.EntryState_ENTRY_STATE_ISSUED:
			return fault.New(fault.Conflict, "ledger.Issued", "", errors.New("the intent was given up meanwhile"))
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

// Failed gives an intent up and gives a token's use back; the assertion's id stays used. An
// intent that another signer has taken over is left alone.
func (l *Ledger) Failed(ctx context.Context, v Reservation, cause error) error {
	record := v.record
	record.Time, record.Event, record.Outcome, record.Serial = l.now(), "certificate.failed", audit.Failed, v.serial
	record.Reason = cause.Error()
	return l.write(ctx, func(ctx context.Context, tx *txn) error {
		won, r, err := l.finish(ctx, tx, v, func(r *row) { r.state = signerv1.EntryState_ENTRY_STATE_FAILED })
		if err != nil || !won {
			return err
		}
		if err := giveBack(ctx, tx, r); err != nil {
			return err
		}
		return tx.record(ctx, record)
	})
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
	n, err := tx.Exec(ctx, `UPDATE entry SET state = $1, certificate = $2, mac = $3
 WHERE serial = $4 AND state = $5 AND owner = $6`,
		int64(r.state), r.certificate, r.mac, r.serial, int64(signerv1.EntryState_ENTRY_STATE_INTENT), v.owner)
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

// giveBack returns the use that r took: a token's, which can be offered again. A one-time
// password was used up where it was checked, and stays spent.
func giveBack(ctx context.Context, tx store.Tx, r *row) error {
	sealed, a := &assertionv1.SealedAssertion{}, &assertionv1.Assertion{}
	if err := proto.Unmarshal(r.sealed, sealed); err != nil {
		return fmt.Errorf("decoding a stored assertion: %w", err)
	}
	if err := proto.Unmarshal(sealed.GetPayload(), a); err != nil {
		return fmt.Errorf("decoding a stored assertion: %w", err)
	}
	if a.GetAuthentication().GetMethod() != assertionv1.Method_METHOD_TOKEN {
		return nil
	}
	for _, id := range spendIDs(a.GetSpend()) {
		if _, err := tx.Exec(ctx, `UPDATE spend SET used = used - 1 WHERE id = $1 AND used > 0`, id); err != nil {
			return fmt.Errorf("giving a use back: %w", err)
		}
	}
	return nil
}
