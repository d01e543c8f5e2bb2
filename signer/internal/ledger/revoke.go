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

// endsLine are the reasons that are about the holder, or the key of a certificate that can renew
// itself: with it, what followed it ends.
var endsLine = map[signerv1.RevocationReason]bool{
	signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE:         true,
	signerv1.RevocationReason_REVOCATION_REASON_AFFILIATION_CHANGED:    true,
	signerv1.RevocationReason_REVOCATION_REASON_CESSATION_OF_OPERATION: true,
	signerv1.RevocationReason_REVOCATION_REASON_PRIVILEGE_WITHDRAWN:    true,
}

// Revoke ends a certificate, holds it, or ends a hold, and returns the entry as it is then.
// What is revoked stays so, and keeps its time; only a hold can be taken back, or become
// final. Revoking again for the same reason changes nothing. For a reason that is about its holder
// or its key, the certificates that renewed it, one after the other, are revoked with it: also has
// their serial numbers.
//
// Errors: NotFound, Conflict, Internal (the row was altered).
func (l *Ledger) Revoke(ctx context.Context, v Revocation) (entry *signerv1.Entry, also []string, err error) {
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		entry, also = nil, nil
		line, err := l.lockLine(ctx, tx, v)
		if err != nil {
			return err
		}
		for i, r := range line {
			changed, err := l.revoke(r, v.Reason)
			if err != nil && (i == 0 || r.state == signerv1.EntryState_ENTRY_STATE_INTENT) {
				return err
			}
			if err != nil || !changed { // a successor that is revoked, or was never signed
				continue
			}
			if err := l.storeRevocation(ctx, tx, r); err != nil {
				return err
			}
			if i > 0 {
				also = append(also, r.serial)
			}
			if err := tx.record(ctx, l.revocationRecord(r, v)); err != nil {
				return err
			}
		}
		entry = line[0].entry()
		return nil
	})
	return entry, also, err
}

// maxLine bounds how many certificates are revoked at once.
const maxLine = 10_000

// lockLine returns the row of a certificate and, where the reason wants that, those that follow
// it. Until the transaction ends nobody renews one of them.
func (l *Ledger) lockLine(ctx context.Context, tx *txn, v Revocation) (line []*row, err error) {
	for serials := []string{v.Serial}; len(serials) > 0; serials = serials[1:] {
		if err := lockRow(ctx, tx, serials[0]); err != nil {
			return nil, err
		}
		r, err := l.bySerial(ctx, tx, serials[0])
		if errors.Is(err, errNoRow) {
			return nil, fault.New(fault.NotFound, "ledger.Revoke", "no certificate has this serial number", nil)
		}
		if err != nil {
			return nil, err
		}
		if line = append(line, r); len(line) > maxLine {
			return nil, fault.New(fault.Conflict, "ledger.Revoke", "more than 10000 certificates follow this one: revoke it as superseded, and those that are valid one by one", nil)
		}
		if !endsLine[v.Reason] {
			continue
		}
		followers, err := followers(ctx, tx, r.serial)
		if err != nil {
			return nil, err
		}
		serials = append(serials, followers...)
	}
	return line, nil
}

// followers returns the serial numbers of the certificates that renew one.
func followers(ctx context.Context, tx store.Tx, serial string) (serials []string, err error) {
	rows, err := tx.Query(ctx, `SELECT serial FROM entry WHERE predecessor = $1 ORDER BY seq`, serial)
	if err != nil {
		return nil, fmt.Errorf("looking for successors: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, fmt.Errorf("looking for successors: %w", err)
		}
		serials = append(serials, one)
	}
	return serials, rows.Err()
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
