package ledger

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
)

// walkPage is how many rows a walk reads at once.
const walkPage = 500

// Reader reads a ledger from end to end and changes nothing in it, for those who check it.
type Reader struct{ l Ledger }

// NewReader returns a Reader of a database that a Ledger has migrated.
func NewReader(db *store.DB, macKey secret.Bytes) (*Reader, error) {
	if db == nil || macKey.Len() != MACKeySize {
		return nil, fmt.Errorf("reading a ledger takes a store and a MAC key of %d octets", MACKeySize)
	}
	return &Reader{Ledger{db: db, macKey: macKey}}, nil
}

// View is a ledger at one moment.
type View struct {
	l  *Ledger
	tx store.Tx
}

// View calls fn with the ledger as it is at this moment, whatever is written meanwhile.
func (r *Reader) View(ctx context.Context, fn func(context.Context, *View) error) error {
	return r.l.db.Read(ctx, func(ctx context.Context, tx store.Tx) error { return fn(ctx, &View{l: &r.l, tx: tx}) })
}

// Stored is a row of the ledger, as it is.
type Stored struct {
	// Seq counts the rows from 1; there is no gap.
	Seq int64
	// Serial is the serial number, 40 hexadecimal digits.
	Serial string
	// State is INTENT, ISSUED or FAILED.
	State signerv1.EntryState
	// Altered tells that the row does not carry its MAC.
	Altered bool
	// Sealed is the assertion, CSR the request, TBS what was to be signed and Certificate
	// what was; the last is empty unless ISSUED. All but the first are DER.
	Sealed                *assertionv1.SealedAssertion
	CSR, TBS, Certificate []byte
	// Label, Realm, Principal and ValidatorKey are what the row is searched by.
	Label, Realm, Principal, ValidatorKey string
	// CreatedAt is when the intent was recorded.
	CreatedAt time.Time
	// UseLimit is how often what it spends may be used, and KeepUntil until when that is
	// counted; not in rows from before, where the assertion alone says so.
	UseLimit  sql.NullInt64
	KeepUntil time.Time
	// Predecessor is the serial number of the certificate that it renews; "" for a first one.
	Predecessor string
}

// Walk calls fn for every row, in the order of Seq.
func (v *View) Walk(ctx context.Context, fn func(Stored)) error {
	for after := int64(0); ; {
		n := 0
		rows, err := v.tx.Query(ctx, "SELECT "+columns+" FROM entry WHERE seq > $1 ORDER BY seq LIMIT $2", after, walkPage)
		if err != nil {
			return fmt.Errorf("reading the ledger: %w", err)
		}
		for ; rows.Next(); n++ {
			var r row
			if err := r.scan(rows); err != nil {
				return errors.Join(fmt.Errorf("reading the ledger: %w", err), rows.Close())
			}
			after = r.seq
			fn(v.stored(&r))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || n < walkPage {
			return err
		}
	}
}

func (v *View) stored(r *row) Stored {
	s := Stored{
		Seq: r.seq, Serial: r.serial, State: r.state, Sealed: &assertionv1.SealedAssertion{},
		CSR: r.csr, TBS: r.tbs, Certificate: r.certificate,
		Label: r.label, Realm: r.realm, Principal: r.principal, ValidatorKey: r.validatorKey,
		CreatedAt: store.Time(r.createdAt), UseLimit: r.useLimit, KeepUntil: store.Time(r.keepUntil), Predecessor: r.predecessor.String,
	}
	s.Altered = !hmac.Equal(r.mac, v.l.seal(r)) || proto.Unmarshal(r.sealed, s.Sealed) != nil
	return s
}

// Last returns the number that the newest row has, by the ledger's own count.
func (v *View) Last(ctx context.Context) (seq int64, err error) {
	err = v.tx.QueryRow(ctx, `SELECT value FROM counter WHERE name = 'entry'`).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

// Count is how often a credential was used.
type Count struct {
	// ID names the credential.
	ID []byte
	// Used is the count, Altered tells that it does not carry its MAC.
	Used    int64
	Altered bool
}

// String returns the id as it can be shown.
func (c Count) String() string { return hex.EncodeToString(c.ID) }

// Counts calls fn for every count of uses that is kept.
func (v *View) Counts(ctx context.Context, fn func(Count)) error {
	rows, err := v.tx.Query(ctx, `SELECT id, used, mac FROM spend`)
	if err != nil {
		return fmt.Errorf("reading counts of uses: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var c Count
		var mac []byte
		if err := rows.Scan(&c.ID, &c.Used, &mac); err != nil {
			return fmt.Errorf("reading counts of uses: %w", err)
		}
		c.Altered = !hmac.Equal(mac, v.l.spendMAC(c.ID, c.Used))
		fn(c)
	}
	return rows.Err()
}

// Audited calls fn for every record of the audit that tells of a certificate.
func (v *View) Audited(ctx context.Context, fn func(audit.Record)) error {
	rows, err := v.tx.Query(ctx, `SELECT record FROM audit_record ORDER BY seq`)
	if err != nil {
		return fmt.Errorf("reading the audit: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		var record audit.Record
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("reading the audit: %w", err)
		}
		// What cannot be read is for those to find who verify the chain.
		if json.Unmarshal([]byte(text), &record) == nil && record.Serial != "" {
			fn(record)
		}
	}
	return rows.Err()
}
