package ledger

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
)

// Revoked is a certificate that must not be trusted any more.
type Revoked struct {
	// Serial is its serial number, lower-case hexadecimal.
	Serial string
	// At is when it was revoked.
	At time.Time
	// Reason is the CRLReason (RFC 5280 section 5.3.1).
	Reason int
}

// Scope is the certificates of one authority.
type Scope struct {
	// Authority is its subject key identifier.
	Authority []byte
	// Unnamed takes those in as well of which the ledger does not say who issued them: they are
	// older than that, and of the oldest authority.
	Unnamed bool
}

func (s Scope) keyID() string { return hex.EncodeToString(s.Authority) }

// has tells whether a row is one of the authority.
func (s Scope) has(r *row) bool {
	return r.authority.Valid && r.authority.String == s.keyID() || !r.authority.Valid && s.Unnamed
}

// BeginCRL takes the next CRL number (RFC 5280 section 5.2.3), greater than every one
// before it on any signer of this ledger and for any authority, and returns with it what is revoked within
// the scope, and not expired
// for longer than keep: an entry has to stand in one list behind the certificate's end (RFC
// 5280 section 3.3). The intent is audited: the CA key is about to be used.
func (l *Ledger) BeginCRL(ctx context.Context, s Scope, keep time.Duration) (number int64, revoked []Revoked, err error) {
	now := l.now()
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		var err error
		if revoked, err = revokedAt(ctx, tx, s, now.Add(-keep)); err != nil {
			return err
		}
		if number, err = tx.count(ctx, "crl"); err != nil {
			return err
		}
		return tx.record(ctx, crlRecord(now, "crl.intent", audit.Intent, number))
	})
	return number, revoked, err
}

// EndCRL records how the signing of a list ended: nil, or why there is none.
func (l *Ledger) EndCRL(ctx context.Context, number int64, cause error) error {
	record := crlRecord(l.now(), "crl.issued", audit.Success, number)
	if cause != nil {
		record.Event, record.Outcome, record.Reason = "crl.failed", audit.Failed, cause.Error()
	}
	return l.write(ctx, func(ctx context.Context, tx *txn) error { return tx.record(ctx, record) })
}

func crlRecord(at time.Time, event, outcome string, number int64) audit.Record {
	return audit.Record{
		Time: at, Event: event, Outcome: outcome,
		Detail: map[string]string{"crl_number": strconv.FormatInt(number, 10)},
	}
}

func revokedAt(ctx context.Context, tx store.Tx, s Scope, endsAfter time.Time) ([]Revoked, error) {
	where := "authority = $2"
	if s.Unnamed {
		where = "(authority = $2 OR authority IS NULL)"
	}
	rows, err := tx.Query(ctx, `SELECT serial, revoked_at, revocation_reason FROM entry
 WHERE revoked_at IS NOT NULL AND not_after > $1 AND `+where+` ORDER BY seq`, store.Micros(endsAfter), s.keyID())
	if err != nil {
		return nil, fmt.Errorf("reading revocations: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var revoked []Revoked
	for rows.Next() {
		var r Revoked
		var at int64
		if err := rows.Scan(&r.Serial, &at, &r.Reason); err != nil {
			return nil, fmt.Errorf("reading revocations: %w", err)
		}
		r.At = store.Time(at)
		revoked = append(revoked, r)
	}
	return revoked, rows.Err()
}
