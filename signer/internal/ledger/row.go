package ledger

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/store"
)

// row is a row of the table entry, all of it: an authorising decision reads nothing less,
// because the MAC covers every column.
type row struct {
	seq          int64
	serial       string
	state        signerv1.EntryState
	assertionID  []byte
	requestKey   []byte
	spendKey     []byte // nil: nothing was spent
	keepUntil    int64  // 0: nothing was spent
	sealed       []byte
	csr          []byte
	tbs          []byte
	certificate  []byte // nil unless ISSUED
	owner        string
	leaseUntil   int64
	label        string
	realm        string
	principal    string
	subject      string
	validatorKey string
	createdAt    int64
	notBefore    int64
	notAfter     int64
	revokedAt    sql.NullInt64
	reason       sql.NullInt64
	// What follows is NULL in rows from before renewal.
	authority       sql.NullString // subject key identifier, hexadecimal
	predecessor     sql.NullString // '' for a first certificate
	loginAt         sql.NullInt64
	loginIndicators sql.NullString // one a line
	useLimit        sql.NullInt64  // 0: nothing was spent
	lineUntil       sql.NullInt64  // NULL for no end
	mac             []byte
}

// columns are those of values, in its order, and mac.
const columns = `seq, serial, state, assertion_id, request_key, spend_key, keep_until, sealed, csr, tbs,
 certificate, owner, lease_until, label, realm, principal, subject, validator_key, created_at, not_before,
 not_after, revoked_at, revocation_reason, authority, predecessor, login_at, login_indicators, use_limit, line_until, mac`

const insertRow = `INSERT INTO entry (` + columns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
 $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30) ON CONFLICT (assertion_id) DO NOTHING`

// values returns all but the MAC, in the order of columns.
func (r *row) values() []any {
	return append(r.former(), r.authority, r.predecessor, r.loginAt, r.loginIndicators, r.useLimit, r.lineUntil)
}

// covered returns what the MAC covers: all, but in rows from before renewal.
func (r *row) covered() []any {
	if !r.authority.Valid && !r.predecessor.Valid && !r.loginAt.Valid && !r.loginIndicators.Valid && !r.useLimit.Valid && !r.lineUntil.Valid {
		return r.former()
	}
	return r.values()
}

// former returns what rows had before renewal.
func (r *row) former() []any {
	return []any{
		r.seq, r.serial, int64(r.state), r.assertionID, r.requestKey, r.spendKey, r.keepUntil, r.sealed, r.csr, r.tbs,
		r.certificate, r.owner, r.leaseUntil, r.label, r.realm, r.principal, r.subject, r.validatorKey, r.createdAt,
		r.notBefore, r.notAfter, r.revokedAt, r.reason,
	}
}

func (r *row) scan(from interface{ Scan(dest ...any) error }) error {
	return from.Scan(
		&r.seq, &r.serial, &r.state, &r.assertionID, &r.requestKey, &r.spendKey, &r.keepUntil, &r.sealed, &r.csr, &r.tbs,
		&r.certificate, &r.owner, &r.leaseUntil, &r.label, &r.realm, &r.principal, &r.subject, &r.validatorKey, &r.createdAt,
		&r.notBefore, &r.notAfter, &r.revokedAt, &r.reason, &r.authority, &r.predecessor, &r.loginAt, &r.loginIndicators, &r.useLimit, &r.lineUntil, &r.mac,
	)
}

// seal returns the MAC over the row: HMAC-SHA256 over a fixed prefix and every column, each
// as one octet (0 for NULL, else 1), the length in 8 octets, and the value.
func (l *Ledger) seal(r *row) []byte {
	h := hmac.New(sha256.New, l.macKey.Reveal())
	h.Write([]byte("estuary/ledger-entry/v1\x00"))
	for _, v := range r.covered() {
		switch v := v.(type) {
		case int64:
			writeField(h, binary.BigEndian.AppendUint64(nil, uint64(v)))
		case string:
			writeField(h, []byte(v))
		case []byte:
			if v == nil {
				h.Write([]byte{0})
				continue
			}
			writeField(h, v)
		case sql.NullInt64:
			if !v.Valid {
				h.Write([]byte{0})
				continue
			}
			writeField(h, binary.BigEndian.AppendUint64(nil, uint64(v.Int64)))
		case sql.NullString:
			if !v.Valid {
				h.Write([]byte{0})
				continue
			}
			writeField(h, []byte(v.String))
		default:
			panic(fmt.Sprintf("ledger: column of type %T has no place in the MAC", v))
		}
	}
	return h.Sum(nil)
}

// alteredError says that a row is not what this ledger wrote.
type alteredError struct {
	what   string
	serial string // of an entry, else empty
}

func (e alteredError) Error() string { return "altered: " + e.what }

// errNoRow says that no row was found.
var errNoRow = errors.New("no such row in the ledger")

// load reads one row and checks its MAC. where is a condition on the table entry.
func (l *Ledger) load(ctx context.Context, tx store.Tx, where string, args ...any) (*row, error) {
	r := &row{}
	err := r.scan(tx.QueryRow(ctx, "SELECT "+columns+" FROM entry WHERE "+where, args...))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, errNoRow
	case err != nil:
		return nil, fmt.Errorf("reading a ledger row: %w", err)
	case !hmac.Equal(r.mac, l.seal(r)):
		return nil, alteredError{what: "the row of serial " + r.serial + " does not carry its MAC", serial: r.serial}
	}
	return r, nil
}
