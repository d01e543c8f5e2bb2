package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// shown are the columns of an Entry, behind seq.
const shown = `seq, serial, state, label, realm, principal, subject, created_at, not_before, not_after`

func scanShown(scan func(...any) error, more ...any) (seq int64, e *signerv1.Entry, err error) {
	e = &signerv1.Entry{}
	var created, from, to int64
	err = scan(append([]any{
		&seq, &e.Serial, &e.State, &e.Label, &e.Realm, &e.Principal, &e.Subject, &created, &from, &to,
	}, more...)...)
	e.CreatedAt = timestamppb.New(store.Time(created))
	e.NotBefore, e.NotAfter = timestamppb.New(store.Time(from)), timestamppb.New(store.Time(to))
	return seq, e, err
}

// pageOctets ends a page before limit does: a message of the mesh holds 256 KiB.
const pageOctets = 128 << 10

// List returns at most limit entries behind position after (0 for the first), oldest first,
// and the position of the last of them where more follow, else 0. Long entries make a
// shorter page. It shows what the rows say and authorises nothing: their MACs are not
// checked.
func (l *Ledger) List(ctx context.Context, after int64, limit int) (entries []*signerv1.Entry, next int64, err error) {
	err = l.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		entries, next = nil, 0
		rows, err := tx.Query(ctx, "SELECT "+shown+" FROM entry WHERE seq > $1 ORDER BY seq LIMIT $2", after, limit+1)
		if err != nil {
			return fmt.Errorf("listing the ledger: %w", err)
		}
		defer func() { _ = rows.Close() }()
		var last int64
		size := 0
		for rows.Next() {
			seq, e, err := scanShown(rows.Scan)
			if err != nil {
				return fmt.Errorf("listing the ledger: %w", err)
			}
			if size += proto.Size(e); len(entries) > 0 && (len(entries) == limit || size > pageOctets) {
				next = last
				break
			}
			entries, last = append(entries, e), seq
		}
		return rows.Err()
	})
	return entries, next, err
}

// Get returns the entry of a serial number (lower-case hexadecimal) and its certificate,
// which is empty unless it was issued. Like List it shows what the row says.
// Errors: NotFound.
func (l *Ledger) Get(ctx context.Context, serial string) (entry *signerv1.Entry, certificate []byte, err error) {
	err = l.db.Read(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		_, entry, err = scanShown(tx.QueryRow(ctx, "SELECT "+shown+", certificate FROM entry WHERE serial = $1", serial).Scan, &certificate)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "ledger.Get", "no certificate has this serial number", nil)
		}
		return err
	})
	return entry, certificate, err
}

// CountUses tells how often each id has been used, in the order asked.
func (l *Ledger) CountUses(ctx context.Context, ids [][]byte) (used []uint32, err error) {
	err = l.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		used = make([]uint32, len(ids))
		for i, id := range ids {
			err := tx.QueryRow(ctx, `SELECT used FROM spend WHERE id = $1`, id).Scan(&used[i])
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("counting uses: %w", err)
			}
		}
		return nil
	})
	return used, err
}
