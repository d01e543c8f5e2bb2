package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
)

// Refused is the public text for a credential that is used up: the same as for one that was
// never good.
const Refused = "the credential was refused"

// retryAfter is when a repeat whose original is still being signed may come again.
const retryAfter = time.Second

// underWay is for who asks for what another request is getting already, of the same client
// or taken over by another signer. What is decided will be known soon.
func underWay(op string) error {
	return &fault.Error{Kind: fault.Unavailable, Op: op, Public: "the same request is being worked on", RetryAfter: retryAfter}
}

// Reservation is a recorded intent: the right to sign the bytes recorded, until a Lease
// after Begin was called. Issued or Failed ends it.
type Reservation struct {
	serial string
	owner  string
	record audit.Record
}

// Serial returns the serial number of the intent.
func (v Reservation) Serial() string { return v.serial }

// Begun is how Begin ended: with a reservation, or with the certificate of a repeat.
type Begun struct {
	// Reservation is the new intent; of no use for a repeat.
	Reservation Reservation
	// Repeat is the DER of the certificate issued before; nil for a new intent.
	Repeat []byte
}

// Begin decides on an intent in one transaction. A request already served gets its
// certificate again; for a new one the assertion's id and a use of its credential are taken
// and the intent is recorded, before anything is signed.
//
// Errors: Unauthenticated (credential used up), Busy (a budget is used up: ErrBudget),
// Unavailable (it could not be recorded; or, with RetryAfter, the same request is being
// signed), Internal (assertion used before, which only our
// own processes can do; or a row was altered).
func (l *Ledger) Begin(ctx context.Context, in Intent) (Begun, error) {
	r, err := l.row(in)
	if err != nil {
		return Begun{}, fault.New(fault.Internal, "ledger.Begin", "", err)
	}
	record := in.Record
	record.Time = l.now()
	var begun Begun
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		begun = Begun{}
		if err := lock(ctx, tx, r.requestKey); err != nil {
			return err
		}
		prior, err := l.prior(ctx, tx, r)
		switch {
		case errors.Is(err, errNoRow):
			begun.Reservation = Reservation{serial: r.serial, owner: r.owner, record: in.Record}
			return l.insert(ctx, tx, r, in, record)
		case err != nil:
			return err
		}
		begun.Repeat = prior.certificate
		return repeat(ctx, tx, prior, record)
	})
	if err != nil {
		return Begun{}, err
	}
	return begun, nil
}

// lock keeps other transactions from deciding on the same request until this one ends.
// Without it two of them could both find no earlier entry.
func lock(ctx context.Context, tx *txn, requestKey []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO stripe (id, taken) VALUES ($1, 1)
 ON CONFLICT (id) DO UPDATE SET taken = stripe.taken + 1`, int64(binary.BigEndian.Uint16(requestKey)))
	if err != nil {
		return fmt.Errorf("locking the request: %w", err)
	}
	return nil
}

// prior returns the newest entry that r repeats: the same request within RepeatWindow, or
// with the same credential for as long as its count is kept and more than a third of the
// certificate's life is left: from then on a device that keeps its key and has a token of
// many uses gets a new certificate in time. An expired or revoked one is no answer to
// anybody, nor is one that a clock far ahead has dated.
func (l *Ledger) prior(ctx context.Context, tx *txn, r *row) (*row, error) {
	return l.load(ctx, tx, `request_key = $1 AND state <> $2 AND not_after > $3 AND revoked_at IS NULL
 AND created_at < $6 AND (created_at > $4 OR (spend_key = $5 AND keep_until > $3 AND not_after - $3 > (not_after - not_before) / 3))
 ORDER BY seq DESC LIMIT 1`,
		r.requestKey, int64(signerv1.EntryState_ENTRY_STATE_FAILED), r.createdAt,
		r.createdAt-RepeatWindow.Microseconds(), r.spendKey, r.createdAt+maxSkew.Microseconds())
}

// repeat answers a request with the entry that it repeats.
func repeat(ctx context.Context, tx *txn, prior *row, record audit.Record) error {
	if prior.state != signerv1.EntryState_ENTRY_STATE_ISSUED {
		return underWay("ledger.Begin")
	}
	record.Event, record.Outcome, record.Serial = "certificate.repeated", audit.Success, prior.serial
	return tx.record(ctx, record)
}

// insert takes the credential's use and the assertion's id, and records the intent.
func (l *Ledger) insert(ctx context.Context, tx *txn, r *row, in Intent, record audit.Record) error {
	if err := l.stillGood(ctx, tx, in.Line.Predecessor); err != nil {
		return err
	}
	s := in.Verified.Message().GetSpend()
	for _, id := range spendIDs(s) {
		if err := l.take(ctx, tx, r, use{id: id, limit: r.useLimit.Int64, keepUntil: r.keepUntil}); err != nil {
			return err
		}
	}
	for _, b := range in.Budgets {
		if err := b.take(ctx, tx, in.At); err != nil {
			return err
		}
	}
	var err error
	if r.seq, err = tx.count(ctx, "entry"); err != nil {
		return err
	}
	r.mac = l.seal(r)
	n, err := tx.Exec(ctx, insertRow, append(r.values(), r.mac)...)
	if err != nil {
		return fmt.Errorf("recording an intent: %w", err)
	}
	if n == 0 {
		return l.usedBefore(ctx, tx, r)
	}
	record.Event, record.Outcome, record.Serial = "certificate.intent", audit.Intent, r.serial
	return tx.record(ctx, record)
}

// usedBefore says what is wrong with an assertion that has been used. For the same request
// whose intent was given up it is nobody's fault: the client comes again, with another one.
func (l *Ledger) usedBefore(ctx context.Context, tx *txn, r *row) error {
	before, err := l.load(ctx, tx, "assertion_id = $1", r.assertionID)
	if err != nil {
		return err
	}
	if before.state == signerv1.EntryState_ENTRY_STATE_FAILED && bytes.Equal(before.requestKey, r.requestKey) {
		return &fault.Error{
			Kind: fault.Unavailable, Op: "ledger.Begin", RetryAfter: retryAfter, Err: errors.New("the intent of this assertion was given up"),
		}
	}
	return fault.New(fault.Internal, "ledger.Begin", "", errors.New("the assertion was used before"))
}
