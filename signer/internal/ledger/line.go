package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// Line is a certificate and those that renew it, one after the other: it begins with a login,
// and what that login was worth holds for all of them.
type Line struct {
	// Predecessor is the serial number of the certificate that is renewed, "" for the first.
	Predecessor string
	// LoginAt is when the holder logged in for the first.
	LoginAt time.Time
	// Indicators are the authentication indicators of that login (RFC 8129).
	Indicators []string
	// Until is when the line ends; zero for never.
	Until time.Time
}

// into writes the line into a row.
func (n Line) into(r *row) {
	r.predecessor = sql.NullString{String: n.Predecessor, Valid: true}
	r.loginAt = sql.NullInt64{Int64: store.Micros(n.LoginAt), Valid: true}
	r.loginIndicators = sql.NullString{String: strings.Join(n.Indicators, "\n"), Valid: true}
	if !n.Until.IsZero() {
		r.lineUntil = sql.NullInt64{Int64: store.Micros(n.Until), Valid: true}
	}
}

// LineOf returns the line that an assertion begins, without an end.
func LineOf(a *assertionv1.Assertion) Line {
	return Line{LoginAt: assertion.LoginTime(a), Indicators: slices.Clone(a.GetAuthentication().GetIndicators())}
}

// Predecessor is an issued certificate that somebody wants another one for.
type Predecessor struct {
	// Certificate is its DER.
	Certificate []byte
	// CSR is the DER of the request that it was issued for.
	CSR []byte
	// Label is the EST label under which it was issued.
	Label string
	// IssuedAt is when it was.
	IssuedAt time.Time
	// Identity is who it was issued to.
	Identity *assertionv1.Identity
	// Line is the one that it belongs to.
	Line Line
	// Revoked is set where it is revoked, or held.
	Revoked *Revoked
}

// GetPredecessor returns the issued certificate with a serial number, lower-case hexadecimal. Its
// row is believed only with its MAC.
//
// Errors: NotFound (the authority did not issue it), Internal (the row was altered), Unavailable.
func (l *Ledger) GetPredecessor(ctx context.Context, serial string) (Predecessor, error) {
	r, err := l.believed(ctx, "ledger.GetPredecessor", serial, func(r *row) bool { return r.state == signerv1.EntryState_ENTRY_STATE_ISSUED })
	if err != nil {
		return Predecessor{}, err
	}
	p := Predecessor{Certificate: bytes.Clone(r.certificate), CSR: bytes.Clone(r.csr), Label: r.label, IssuedAt: store.Time(r.createdAt), Revoked: r.revoked()}
	a, err := r.assertion()
	if err != nil {
		return Predecessor{}, fault.New(fault.Internal, "ledger.GetPredecessor", "", err)
	}
	p.Identity, p.Line = a.GetIdentity(), LineOf(a)
	if r.loginAt.Valid {
		p.Line = Line{Predecessor: r.predecessor.String, LoginAt: store.Time(r.loginAt.Int64)}
		if r.loginIndicators.String != "" {
			p.Line.Indicators = strings.Split(r.loginIndicators.String, "\n")
		}
	}
	if r.lineUntil.Valid {
		p.Line.Until = store.Time(r.lineUntil.Int64)
	}
	return p, nil
}

// revoked returns since when and why it is, or nil.
func (r *row) revoked() *Revoked {
	if !r.revokedAt.Valid {
		return nil
	}
	return &Revoked{Serial: r.serial, At: store.Time(r.revokedAt.Int64), Reason: int(r.reason.Int64)}
}

// assertion returns what the stored assertion says.
func (r *row) assertion() (*assertionv1.Assertion, error) {
	sealed, a := &assertionv1.SealedAssertion{}, &assertionv1.Assertion{}
	if err := proto.Unmarshal(r.sealed, sealed); err != nil {
		return nil, fmt.Errorf("decoding a stored assertion: %w", err)
	}
	if err := proto.Unmarshal(sealed.GetPayload(), a); err != nil {
		return nil, fmt.Errorf("decoding a stored assertion: %w", err)
	}
	return a, nil
}

// ErrRevoked is why a certificate is not renewed.
var ErrRevoked = errors.New("the presented certificate is revoked")

// ErrHeld is ErrRevoked for one on hold.
var ErrHeld = errors.New("the presented certificate is on hold")

// Why returns ErrRevoked or ErrHeld.
func (v *Revoked) Why() error {
	if signerv1.RevocationReason(v.Reason) == hold {
		return ErrHeld
	}
	return ErrRevoked
}

// stillGood tells, in the transaction that records the intent, that the certificate to be
// renewed has not been revoked since it was looked at; until the transaction ends nobody revokes it.
func (l *Ledger) stillGood(ctx context.Context, tx *txn, serial string) error {
	if serial == "" {
		return nil
	}
	if err := lockRow(ctx, tx, serial); err != nil {
		return err
	}
	r, err := l.bySerial(ctx, tx, serial)
	if err != nil {
		return err
	}
	if v := r.revoked(); v != nil {
		return fault.New(fault.Unauthenticated, "ledger.Begin", Refused, v.Why())
	}
	return nil
}

// lockRow keeps other transactions from changing a row until this one ends.
func lockRow(ctx context.Context, tx *txn, serial string) error {
	if _, err := tx.Exec(ctx, `UPDATE entry SET serial = serial WHERE serial = $1`, serial); err != nil {
		return fmt.Errorf("locking a row: %w", err)
	}
	return nil
}
