package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
)

// Use is a credential that was checked without asking anybody, and that is good once: a
// Kerberos authenticator. Whoever stores it first has it.
type Use struct {
	// ID stands for the credential.
	ID [sha256.Size]byte
	// Binding is what it came with: the SHA-256 of the public key.
	Binding [sha256.Size]byte
	// Method is the number of the assertion's method.
	Method int32
	// At is when it was verified.
	At time.Time
	// KeepUntil is until when it is remembered. It could be good no longer than that.
	KeepUntil time.Time
	// Spoiled tells that it was refused, and is to be refused from now on.
	Spoiled bool
}

// ErrUsed is what Use returns when the credential was stored already.
var ErrUsed = errors.New("the credential was used")

// Used tells what is known of a credential: Fresh, Accepted and when with this binding, Taken
// with another one, Lost when it is spoiled. Error: ErrForged when its row does not carry its
// MAC.
func (s *Store) Used(ctx context.Context, id, binding [sha256.Size]byte, now time.Time) (Standing, time.Time, error) {
	row, found, err := s.oneTime(ctx, id[:])
	switch {
	case err != nil:
		return Lost, time.Time{}, err
	case !found || row.keepUntil < store.Micros(now):
		return Fresh, time.Time{}, nil
	case row.phase != phaseAccepted:
		return Lost, time.Time{}, nil
	case !bytes.Equal(row.binding, binding[:]):
		return Taken, time.Time{}, nil
	}
	return Accepted, store.Time(row.at), nil
}

// Use stores the use of a credential with its record, in one transaction. Error: ErrUsed when
// it was used before, and then the record is not stored either; a spoiled one that was used
// is a record alone.
func (s *Store) Use(ctx context.Context, u Use, t Settlement, r audit.Record) error {
	row := oneTimeRow{
		credential: u.ID[:], attempt: make([]byte, attemptOctets), binding: u.Binding[:], phase: phaseAccepted,
		at: store.Micros(u.At), leaseUntil: store.Micros(u.At), keepUntil: store.Micros(u.KeepUntil),
		method: int64(u.Method), indicators: "[]",
	}
	if u.Spoiled {
		row.phase = phaseUnknown
	}
	err := s.write(ctx, func(ctx context.Context, tx store.Tx) (*audit.Record, error) {
		n, err := s.insertOneTime(ctx, tx, row)
		switch {
		case err != nil:
			return nil, fmt.Errorf("storing a use: %w", err)
		case n == 0 && !u.Spoiled:
			return nil, ErrUsed
		}
		return &r, settleFailures(ctx, tx, &t)
	})
	if err != nil {
		return fmt.Errorf("using a credential: %w", err)
	}
	return nil
}
