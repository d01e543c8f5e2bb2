package ledger

import (
	"context"
	"errors"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// Status tells of a certificate issued within the scope whether it is revoked: nil where it is not. Unlike Get
// it believes no row that does not carry its MAC: whoever can write to the database must not
// make a revoked certificate good again.
//
// Errors: NotFound, Internal (the row was altered), Unavailable.
func (l *Ledger) Status(ctx context.Context, s Scope, serial string) (*Revoked, error) {
	r, err := l.believed(ctx, "ledger.Status", serial, s.has)
	switch {
	case err != nil:
		return nil, err
	case r.revokedAt.Valid:
		return r.revoked(), nil
	case r.state != signerv1.EntryState_ENTRY_STATE_ISSUED:
		return nil, fault.New(fault.NotFound, "ledger.Status", "no certificate was issued with this serial number", nil)
	}
	return nil, nil
}

// believed returns the row of a serial number if it carries its MAC and counts. The errors are
// those of Status, in the name of op.
func (l *Ledger) believed(ctx context.Context, op, serial string, counts func(*row) bool) (*row, error) {
	var r *row
	err := l.db.Read(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		r, err = l.bySerial(ctx, tx, serial)
		return err
	})
	altered := alteredError{}
	switch {
	case errors.Is(err, errNoRow), err == nil && !counts(r):
		return nil, fault.New(fault.NotFound, op, "no certificate has this serial number", nil)
	case errors.As(err, &altered):
		return nil, fault.New(fault.Internal, op, "", l.alarm(ctx, altered))
	case err != nil:
		return nil, fault.New(fault.Unavailable, op, "", err)
	}
	return r, nil
}

// ResponderCertificate is the certificate of a delegated OCSP responder. It is in the audit
// alone: it is nobody's whom a validator could assert.
type ResponderCertificate struct {
	// Serial is its serial number, lower-case hexadecimal.
	Serial string
	// NotAfter is its end.
	NotAfter time.Time
}

// BeginResponder audits that the authority's key is about to sign c.
func (l *Ledger) BeginResponder(ctx context.Context, c ResponderCertificate) error {
	return l.recordResponder(ctx, c, audit.Record{Event: "ocsp.responder.intent", Outcome: audit.Intent})
}

// EndResponder records how that ended: nil, or why there is none.
func (l *Ledger) EndResponder(ctx context.Context, c ResponderCertificate, cause error) error {
	record := audit.Record{Event: "ocsp.responder.issued", Outcome: audit.Success}
	if cause != nil {
		record = audit.Record{Event: "ocsp.responder.failed", Outcome: audit.Failed, Reason: cause.Error()}
	}
	return l.recordResponder(ctx, c, record)
}

func (l *Ledger) recordResponder(ctx context.Context, c ResponderCertificate, r audit.Record) error {
	r.Time = l.now()
	// Not in Serial: audit records with one are held against the ledger's entries.
	r.Detail = map[string]string{"responder_serial": c.Serial, "not_after": c.NotAfter.UTC().Format(time.RFC3339)}
	return l.write(ctx, func(ctx context.Context, tx *txn) error { return tx.record(ctx, r) })
}
