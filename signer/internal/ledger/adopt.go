package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
)

const (
	// adoptPage is how many intents are looked for at once.
	adoptPage = 64
	// adoptAtOnce is how many are taken over at once: as many as can be signed within a lease,
	// by a key that takes half a second.
	adoptAtOnce = 16
	// maxSkew is how far the clocks of signers may be apart; the newest record, which none
	// goes behind, keeps them together.
	maxSkew = 2 * time.Minute
	// maxTold is for how many altered rows the alarm is raised only once.
	maxTold = 10_000
)

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

// Adopt takes over intents whose lease has passed and, with own, those that an earlier
// process of this instance left behind: that one is known to be dead. At most a few at once,
// so that they are ended within their new lease; none are left when there are none. Those
// that this process has let go of come first. Each is taken by a compare-and-set under an owner of its own: of several signers one gets it, and
// whoever had it before, this process included, cannot end it any more. A row that was
// altered raises the alarm once, and is left alone.
func (l *Ledger) Adopt(ctx context.Context, own bool) ([]Adopted, error) {
	all, err := l.adoptReleased(ctx)
	if err != nil {
		return all, err
	}
	for after := int64(0); len(all) < adoptAtOnce; {
		found, err := l.open(ctx, after, own)
		if err != nil {
			return all, fmt.Errorf("looking for open intents: %w", err)
		}
		if len(found) == 0 {
			break
		}
		for _, f := range found {
			after = f.seq
			if l.wasTold(f.serial) || len(all) == adoptAtOnce {
				continue
			}
			a, err := l.adopt(ctx, f.serial, own)
			switch {
			case err == nil && a != nil:
				all = append(all, *a)
			case err != nil && !l.wasTold(f.serial):
				return all, fmt.Errorf("taking over the intent of serial %s: %w", f.serial, err)
			}
		}
	}
	return all, nil
}

// Release lets go of an intent that this process could not end, or does not know to have
// recorded, because the ledger did not answer: it need not wait for its lease to pass. serial
// is that of the intent.
func (l *Ledger) Release(serial string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.released) < maxTold { // the others wait
		l.released[serial] = true
	}
}

// adoptReleased takes over what this process has let go of.
func (l *Ledger) adoptReleased(ctx context.Context) (all []Adopted, err error) {
	l.mu.Lock()
	serials := slices.Collect(maps.Keys(l.released))
	l.mu.Unlock()
	for _, serial := range serials {
		if len(all) == adoptAtOnce {
			break
		}
		a, err := l.adopt(ctx, serial, false)
		if err != nil && !errors.Is(err, errNoRow) && !l.wasTold(serial) {
			return all, fmt.Errorf("taking over the intent of serial %s: %w", serial, err)
		}
		if a != nil {
			all = append(all, *a)
		}
		l.mu.Lock()
		delete(l.released, serial)
		l.mu.Unlock()
	}
	return all, nil
}

func (l *Ledger) wasReleased(serial string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.released[serial]
}

// left is an intent that may be adopted.
type left struct {
	seq    int64
	serial string
}

// open returns the next intents behind number after that may be adopted. A lease that ends
// later than any could is of a clock that was wrong, and counts as passed.
func (l *Ledger) open(ctx context.Context, after int64, own bool) (found []left, err error) {
	prefix := ""
	if own {
		prefix = l.instance + "/"
	}
	err = l.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		found = nil
		rows, err := tx.Query(ctx, `SELECT seq, serial FROM entry WHERE state = 1 AND seq > $1
 AND (lease_until < $2 OR lease_until > $3 OR ($4 > 0 AND substr(owner, 1, $4) = $5)) ORDER BY seq LIMIT $6`,
			after, store.Micros(l.now()), store.Micros(l.now().Add(Lease+maxSkew)), len(prefix), prefix, adoptPage)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var f left
			if err := rows.Scan(&f.seq, &f.serial); err != nil {
				return err
			}
			found = append(found, f)
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
		r.owner, r.leaseUntil = l.owner+"/"+rand.Text(), store.Micros(l.now().Add(Lease))
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
	lease := store.Time(r.leaseUntil)
	passed := lease.Before(l.now()) || lease.After(l.now().Add(Lease+maxSkew))
	ours := strings.HasPrefix(r.owner, l.owner) && l.wasReleased(r.serial)
	return passed || ours || own && strings.HasPrefix(r.owner, l.instance+"/") && !strings.HasPrefix(r.owner, l.owner)
}

// wasTold tells whether the alarm has been raised for the row of a serial number.
func (l *Ledger) wasTold(serial string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told[serial]
}

func (l *Ledger) remember(serial string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.told) == maxTold { // told again, rather than without end in memory
		clear(l.told)
	}
	l.told[serial] = true
}

// alarm tells of something that was altered, and remembers a row.
func (l *Ledger) alarm(ctx context.Context, a alteredError) error {
	if a.serial != "" {
		l.remember(a.serial)
	}
	l.log.LogAttrs(ctx, slog.LevelError, "the ledger was altered", slog.String("what", a.what), slog.String("serial", a.serial))
	told := l.RecordRefusal(ctx, audit.Record{
		Event: "ledger.altered", Outcome: audit.Failed, Serial: a.serial, Reason: a.Error(),
	})
	return errors.Join(a, told)
}
