package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// Revocation is what somebody wants to become of a certificate.
type Revocation struct {
	// Serial is its serial number, lower-case hexadecimal.
	Serial string
	// Reason is the CRLReason (RFC 5280 section 5.3.1); removeFromCRL ends a hold.
	Reason signerv1.RevocationReason
	// By is who asked for it.
	By string
	// Peer asked on that one's behalf, in the request with this id.
	Peer, RequestID string
}

const (
	hold   = signerv1.RevocationReason_REVOCATION_REASON_CERTIFICATE_HOLD
	remove = signerv1.RevocationReason_REVOCATION_REASON_REMOVE_FROM_CRL
)

// counterRevocation is the name of the counter that grows with every change of what is
// revoked.
const counterRevocation = "revocation"

// Revoke ends a certificate, holds it, or ends a hold, and returns the entry as it is then.
// What is revoked stays so, and keeps its time; only a hold can be taken back, or become
// final. Revoking again for the same reason changes nothing.
//
// Errors: NotFound, Conflict, Internal (the row was altered).
func (l *Ledger) Revoke(ctx context.Context, v Revocation) (*signerv1.Entry, error) {
	var entry *signerv1.Entry
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		r, err := l.bySerial(ctx, tx, v.Serial)
		if errors.Is(err, errNoRow) {
			return fault.New(fault.NotFound, "ledger.Revoke", "no certificate has this serial number", nil)
		}
		if err != nil {
			return err
		}
		changed, err := l.revoke(r, v.Reason)
		if err != nil {
			return err
		}
		if changed {
			if err := l.storeRevocation(ctx, tx, r); err != nil {
				return err
			}
			if err := tx.record(ctx, l.revocationRecord(r, v)); err != nil {
				return err
			}
		}
		entry = r.entry()
		return nil
	})
	if altered := (alteredError{}); errors.As(err, &altered) {
		return nil, fault.New(fault.Internal, "ledger.Revoke", "", l.alarm(ctx, altered))
	}
	return entry, err
}

// revoke changes r, and tells whether it did.
func (l *Ledger) revoke(r *row, reason signerv1.RevocationReason) (bool, error) {
	conflict := func(text string) (bool, error) {
		return false, fault.New(fault.Conflict, "ledger.Revoke", text, nil)
	}
	was := signerv1.RevocationReason(r.reason.Int64)
	switch {
	case r.state == signerv1.EntryState_ENTRY_STATE_INTENT:
		return conflict("the certificate is being issued at this moment: try again")
	case r.state != signerv1.EntryState_ENTRY_STATE_ISSUED && !r.revokedAt.Valid:
		return conflict("nothing was signed under this serial number")
	case reason == remove && (!r.revokedAt.Valid || was != hold):
		return conflict("the certificate is not on hold")
	case reason == remove:
		r.revokedAt, r.reason = sql.NullInt64{}, sql.NullInt64{}
		return true, nil
	case r.revokedAt.Valid && was == reason:
		return false, nil
	case r.revokedAt.Valid && was != hold:
		return conflict("the certificate is revoked already, for another reason")
	case !r.revokedAt.Valid:
		r.revokedAt = sql.NullInt64{Int64: store.Micros(l.now()), Valid: true}
	}
	r.reason = sql.NullInt64{Int64: int64(reason), Valid: true}
	return true, nil
}

// storeRevocation stores that part of a row, and tells everybody that something has changed.
func (l *Ledger) storeRevocation(ctx context.Context, tx *txn, r *row) error {
	before := r.mac
	r.mac = l.seal(r)
	n, err := tx.Exec(ctx, `UPDATE entry SET revoked_at = $1, revocation_reason = $2, mac = $3 WHERE serial = $4 AND mac = $5`,
		r.revokedAt, r.reason, r.mac, r.serial, before)
	switch {
	case err != nil:
		return fmt.Errorf("storing a revocation: %w", err)
	case n != 1: // somebody else changed the row since it was read
		return fault.New(fault.Conflict, "ledger.Revoke", "the certificate is being changed at this moment: try again", nil)
	}
	_, err = tx.count(ctx, counterRevocation)
	return err
}

func (l *Ledger) revocationRecord(r *row, v Revocation) audit.Record {
	event := "certificate.revoked"
	switch v.Reason {
	case hold:
		event = "certificate.held"
	case remove:
		event = "certificate.released"
	}
	return audit.Record{
		Time: l.now(), Event: event, Outcome: audit.Success, Serial: r.serial, Label: r.label,
		Identity: r.principal + "@" + r.realm, Actor: v.Peer, RequestID: v.RequestID,
		Detail: map[string]string{"by": v.By, "reason": strconv.Itoa(int(v.Reason))},
	}
}

// Revocations returns how often what is revoked has changed, for those who keep a list of it.
func (l *Ledger) Revocations(ctx context.Context) (n int64, err error) {
	err = l.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		err := tx.QueryRow(ctx, `SELECT value FROM counter WHERE name = $1`, counterRevocation).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			n = 0
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("reading the count of revocations: %w", err)
	}
	return n, nil
}
