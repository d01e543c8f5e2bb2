package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
)

// adoptPage is how many intents are looked for at once.
const adoptPage = 64

// Adopted is an intent that was left open and belongs to this signer now, for a Lease.
type Adopted struct {
	// Serial is the serial number, 40 hexadecimal digits.
	Serial string
	// Sealed is the assertion that authorised it.
	Sealed *assertionv1.SealedAssertion
	// CSR is the DER of the certificate request.
	CSR []byte
	// TBS is the DER TBSCertificate that was to be signed.
	TBS []byte
	// CreatedAt is the At of the intent.
	CreatedAt time.Time

	owner string
}

// Reservation returns the right to end the intent. record is what the audit will say of it,
// like Intent.Record.
func (a Adopted) Reservation(record audit.Record) Reservation {
	return Reservation{serial: a.Serial, owner: a.owner, record: record}
}

// Adopt takes over the intents whose lease has passed and, with own, those that an earlier
// process of this instance left behind: that one is known to be dead. Each is taken by a
// compare-and-set, so of several signers one gets it, and whoever had it before cannot end
// it any more. A row that was altered raises the alarm once, and is left alone.
func (l *Ledger) Adopt(ctx context.Context, own bool) ([]Adopted, error) {
	var all []Adopted
	for after := int64(0); ; {
		found, err := l.open(ctx, after, own)
		if err != nil {
			return all, fmt.Errorf("looking for open intents: %w", err)
		}
		for _, f := range found {
			after = f.seq
			a, err := l.adopt(ctx, f.serial, own)
			switch {
			case err == nil && a != nil:
				all = append(all, *a)
			case err != nil && !l.wasAltered(f.serial):
				return all, fmt.Errorf("taking over the intent of serial %s: %w", f.serial, err)
			}
		}
		if len(found) < adoptPage {
			return all, nil
		}
	}
}

// left is an intent that may be adopted.
type left struct {
	seq    int64
	serial string
}

func (l *Ledger) open(ctx context.Context, after int64, own bool) (found []left, err error) {
	prefix := ""
	if own {
		prefix = l.instance + "/"
	}
	err = l.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		found = nil
		rows, err := tx.Query(ctx, `SELECT seq, serial FROM entry WHERE state = 1 AND seq > $1
 AND (lease_until < $2 OR ($3 > 0 AND substr(owner, 1, $3) = $4)) ORDER BY seq LIMIT $5`,
			after, store.Micros(l.now()), len(prefix), prefix, adoptPage)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var f left
			if err := rows.Scan(&f.seq, &f.serial); err != nil {
				return err
			}
			if !l.wasAltered(f.serial) {
				found = append(found, f)
			}
		}
		return rows.Err()
	})
	return found, err
}

// adopt takes one intent over, or returns nil when somebody else was faster.
func (l *Ledger) adopt(ctx context.Context, serial string, own bool) (*Adopted, error) {
	var adopted *Adopted
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		adopted = nil
		r, err := l.bySerial(ctx, tx, serial)
		if err != nil || r.state != signerv1.EntryState_ENTRY_STATE_INTENT || !l.mayAdopt(r, own) {
			return err
		}
		sealed := &assertionv1.SealedAssertion{}
		if err := proto.Unmarshal(r.sealed, sealed); err != nil {
			return fmt.Errorf("decoding a stored assertion: %w", err)
		}
		owner, lease := r.owner, r.leaseUntil
		r.owner, r.leaseUntil = l.owner, store.Micros(l.now().Add(Lease))
		n, err := tx.Exec(ctx, `UPDATE entry SET owner = $1, lease_until = $2, mac = $3
 WHERE serial = $4 AND state = 1 AND owner = $5 AND lease_until = $6`,
			r.owner, r.leaseUntil, l.seal(r), serial, owner, lease)
		if err != nil || n == 0 {
			return err
		}
		adopted = &Adopted{
			Serial: r.serial, Sealed: sealed, CSR: r.csr, TBS: r.tbs, CreatedAt: store.Time(r.createdAt), owner: r.owner,
		}
		return nil
	})
	return adopted, err
}

func (l *Ledger) mayAdopt(r *row, own bool) bool {
	return r.leaseUntil < store.Micros(l.now()) || own && strings.HasPrefix(r.owner, l.instance+"/") && r.owner != l.owner
}

// wasAltered tells whether the alarm has been raised for the row of that serial number.
func (l *Ledger) wasAltered(serial string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.altered[serial]
}

// alarm tells of a row that was altered, and remembers an entry's.
func (l *Ledger) alarm(ctx context.Context, a alteredError) error {
	if a.serial != "" {
		l.mu.Lock()
		l.altered[a.serial] = true
		l.mu.Unlock()
	}
	l.log.LogAttrs(ctx, slog.LevelError, "the ledger was altered", slog.String("what", a.what), slog.String("serial", a.serial))
	told := l.RecordRefusal(ctx, audit.Record{
		Event: "ledger.altered", Outcome: audit.Failed, Serial: a.serial, Reason: a.Error(),
	})
	return errors.Join(a, told)
}
