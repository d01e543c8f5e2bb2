package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// shown are the columns of an Entry, behind seq.
const shown = `seq, serial, state, label, realm, principal, subject, created_at, not_before, not_after,
 revoked_at, revocation_reason, predecessor`

func scanShown(scan func(...any) error, more ...any) (seq int64, e *signerv1.Entry, err error) {
	var r row
	err = scan(append([]any{
		&r.seq, &r.serial, &r.state, &r.label, &r.realm, &r.principal, &r.subject, &r.createdAt, &r.notBefore, &r.notAfter,
		&r.revokedAt, &r.reason, &r.predecessor,
	}, more...)...)
	return r.seq, r.entry(), err
}

// entry returns what is shown of a row.
func (r *row) entry() *signerv1.Entry {
	e := &signerv1.Entry{
		Serial: r.serial, State: r.state, Label: r.label, Realm: r.realm, Principal: r.principal, Subject: r.subject,
		CreatedAt:   timestamppb.New(store.Time(r.createdAt)),
		Predecessor: r.predecessor.String,
		NotBefore:   timestamppb.New(store.Time(r.notBefore)), NotAfter: timestamppb.New(store.Time(r.notAfter)),
	}
	if r.revokedAt.Valid {
		e.RevokedAt = timestamppb.New(store.Time(r.revokedAt.Int64))
		e.RevocationReason = signerv1.RevocationReason(r.reason.Int64)
	}
	return e
}

// Filter picks entries. The zero value picks all.
type Filter struct {
	// Status is what has become of them.
	Status signerv1.CertificateStatus
	// Subject stands within theirs, letters of either case alike.
	Subject string
	// Principal is theirs, to the letter.
	Principal string
	// ExpiresBefore is behind their end; zero for any.
	ExpiresBefore time.Time
}

// where returns the condition for SQL, of which $1 is the position and $2 the limit, with its
// arguments from $3 on.
func (f Filter) where(now time.Time) (text string, args []any) {
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)+2), 1)
		}
		text += " AND " + condition
	}
	issued := int64(signerv1.EntryState_ENTRY_STATE_ISSUED)
	switch f.Status {
	case signerv1.CertificateStatus_CERTIFICATE_STATUS_VALID:
		add("state = ? AND revoked_at IS NULL AND not_after > ?", issued, store.Micros(now))
	case signerv1.CertificateStatus_CERTIFICATE_STATUS_EXPIRED:
		add("state = ? AND revoked_at IS NULL AND not_after <= ?", issued, store.Micros(now))
	case signerv1.CertificateStatus_CERTIFICATE_STATUS_REVOKED:
		add("revoked_at IS NOT NULL")
	}
	if f.Subject != "" {
		// LIKE's own characters are escaped; both engines fold ASCII alike by lower().
		pattern := strings.NewReplacer(`!`, `!!`, `%`, `!%`, `_`, `!_`).Replace(strings.ToLower(f.Subject))
		add("lower(subject) LIKE ? ESCAPE '!'", "%"+pattern+"%")
	}
	if f.Principal != "" {
		add("principal = ?", f.Principal)
	}
	if !f.ExpiresBefore.IsZero() {
		add("not_after < ?", store.Micros(f.ExpiresBefore))
	}
	return text, args
}

// pageOctets ends a page before limit does: a message of the mesh holds 256 KiB.
const pageOctets = 128 << 10

// List returns at most limit entries behind position after (0 for the first) that the filter
// picks, oldest first, and the position of the last of them where more follow, else 0. Long
// entries make a shorter page. It shows what the rows say and authorises nothing: their MACs
// are not checked.
func (l *Ledger) List(ctx context.Context, after int64, limit int, f Filter) (entries []*signerv1.Entry, next int64, err error) {
	where, args := f.where(l.now())
	err = l.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		entries, next = nil, 0
		rows, err := tx.Query(ctx, "SELECT "+shown+" FROM entry WHERE seq > $1"+where+" ORDER BY seq LIMIT $2",
			append([]any{after, limit + 1}, args...)...)
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
