package state

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
)

// Claim is a password with a one-time code that is about to be taken to a back end. Stored
// first, it keeps every other validator from taking the same one there.
type Claim struct {
	// IDs are the keyed digests of the credential, one for each accepted key, 32 octets each.
	IDs [][]byte
	// Binding is what the credential came with: the SHA-256 of the public key.
	Binding [sha256.Size]byte
	// At is now.
	At time.Time
	// LeaseUntil is when the back end has answered at the latest.
	LeaseUntil time.Time
	// KeepUntil is until when the credential is remembered.
	KeepUntil time.Time

	attempt []byte // set by Begin
}

// Standing is what is known of a credential before it goes to a back end.
type Standing int

// The standings.
const (
	// Fresh: never seen, and now claimed.
	Fresh Standing = iota
	// Accepted: it was accepted with this binding.
	Accepted
	// Working: it is being checked with this binding at this moment, or was until just now.
	Working
	// Taken: it was claimed with another binding.
	Taken
	// Lost: it went to a back end whose answer is not known, so that it may be used up.
	Lost
	// Throttled: too many have failed for this account; nothing was claimed.
	Throttled
)

// Proved is how a one-time credential was accepted.
type Proved struct {
	// Method is the number of the assertion's method.
	Method int32
	// Backend is the name of the server that accepted it.
	Backend string
	// Indicators are the authentication indicators.
	Indicators []string
	// At is when it was verified.
	At time.Time
}

// The phases of a row.
const (
	phasePending  = 1
	phaseAccepted = 2
	phaseUnknown  = 3
)

const attemptOctets = 16

// errSeen rolls back a transaction that met a row of the credential.
var errSeen = errors.New("the credential was seen before")

// errThrottled rolls back a transaction that found no room for another attempt.
var errThrottled = errors.New("too many attempts have failed")

// Begin claims the credential, if c has IDs, and room for one more failure of the account,
// in one transaction. With Accepted the Proved says how. What it claimed has to be ended by
// Settle, whatever happens. Error: ErrForged when a row does not carry its MAC.
func (s *Store) Begin(ctx context.Context, c *Claim, account Subject) (Standing, Proved, error) {
	c.attempt = make([]byte, attemptOctets)
	_, _ = rand.Read(c.attempt) // never fails: it ends the process instead
	slices.SortFunc(c.IDs, bytes.Compare)
	err := s.db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
		for _, id := range c.IDs {
			if err := s.claim(ctx, tx, id, c); err != nil {
				return err
			}
		}
		return reserve(ctx, tx, account, c)
	})
	switch {
	case errors.Is(err, errThrottled):
		return Throttled, Proved{}, nil
	case errors.Is(err, errSeen):
		return s.standing(ctx, c)
	case err != nil:
		return Fresh, Proved{}, fmt.Errorf("claiming a credential: %w", err)
	}
	return Fresh, Proved{}, nil
}

// A row that is not kept any more counts for nothing, purged or not.
const insertClaim = `INSERT INTO one_time (` + oneTimeColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
	ON CONFLICT (credential) DO UPDATE SET attempt = excluded.attempt, binding = excluded.binding,
		phase = excluded.phase, at = excluded.at, lease_until = excluded.lease_until, keep_until = excluded.keep_until,
		method = excluded.method, backend = excluded.backend, indicators = excluded.indicators, mac = excluded.mac
	WHERE one_time.keep_until < excluded.at`

func (s *Store) claim(ctx context.Context, tx store.Tx, id []byte, c *Claim) error {
	r := oneTimeRow{
		credential: id, attempt: c.attempt, binding: c.Binding[:], phase: phasePending,
		at: store.Micros(c.At), leaseUntil: store.Micros(c.LeaseUntil), keepUntil: store.Micros(c.KeepUntil), indicators: "[]",
	}
	n, err := s.insertOneTime(ctx, tx, r)
	switch {
	case err != nil:
		return fmt.Errorf("storing a claim: %w", err)
	case n == 0:
		return errSeen
	}
	return nil
}

// insertOneTime stores a row with its MAC; it stores none where the credential has one.
func (s *Store) insertOneTime(ctx context.Context, tx store.Tx, r oneTimeRow) (n int64, err error) {
	return tx.Exec(ctx, insertClaim, r.credential, r.attempt, r.binding, r.phase, r.at, r.leaseUntil, r.keepUntil,
		r.method, r.backend, r.indicators, s.oneTimeMAC(r))
}

// standing tells what the row says that kept the credential from being claimed.
func (s *Store) standing(ctx context.Context, c *Claim) (Standing, Proved, error) {
	for _, id := range c.IDs {
		row, found, err := s.oneTime(ctx, id)
		switch {
		case err != nil:
			return Lost, Proved{}, err
		case !found:
			continue
		case !bytes.Equal(row.binding, c.Binding[:]):
			return Taken, Proved{}, nil
		case row.phase == phaseAccepted:
			proved, err := row.proved()
			return Accepted, proved, err
		case row.phase == phasePending && store.Micros(c.At) < row.leaseUntil:
			return Working, Proved{}, nil
		}
		return Lost, Proved{}, nil
	}
	// It was refused in between: whoever asks again asks afresh.
	return Working, Proved{}, nil
}

// End is what became of a claim.
type End int

// The ends.
const (
	// Released: the credential was refused, or never left this process.
	Released End = iota
	// Proven: it was accepted.
	Proven
	// Unresolved: nobody knows.
	Unresolved
)

// Settlement ends a claim: all of it is stored in one transaction with the audit record.
type Settlement struct {
	// Claim is what Begin claimed; nil when nothing was.
	Claim *Claim
	// End is what became of it.
	End End
	// Proved is how it was accepted, with Proven.
	Proved Proved
	// Account is whose room Begin took; nil when it took none.
	Account *Subject
	// Failed tells that the attempt counts as a failure of the account.
	Failed bool
	// Others are the subjects beside the account for whom a failure is counted.
	Others []Subject
	// At is now.
	At time.Time
}

// Settle stores a settlement with its record, if there is one. When it returns an error none
// of it is stored, and the credential must not be accepted.
func (s *Store) Settle(ctx context.Context, t Settlement, r *audit.Record) error {
	err := s.write(ctx, func(ctx context.Context, tx store.Tx) (*audit.Record, error) {
		if t.Claim != nil {
			for _, id := range t.Claim.IDs {
				if err := s.endClaim(ctx, tx, id, &t); err != nil {
					return nil, err
				}
			}
		}
		return r, settleFailures(ctx, tx, &t)
	})
	if err != nil {
		return fmt.Errorf("settling a credential: %w", err)
	}
	return nil
}

const (
	deleteClaim = `DELETE FROM one_time WHERE credential = $1 AND attempt = $2 AND phase = 1`
	updateClaim = `UPDATE one_time SET phase = $3, at = $4, method = $5, backend = $6, indicators = $7, mac = $8
		WHERE credential = $1 AND attempt = $2 AND phase = 1`
)

func (s *Store) endClaim(ctx context.Context, tx store.Tx, id []byte, t *Settlement) error {
	c := t.Claim
	if t.End == Released {
		_, err := tx.Exec(ctx, deleteClaim, id, c.attempt)
		return err
	}
	r := oneTimeRow{
		credential: id, attempt: c.attempt, binding: c.Binding[:], phase: phaseUnknown, at: store.Micros(c.At),
		leaseUntil: store.Micros(c.LeaseUntil), keepUntil: store.Micros(c.KeepUntil), indicators: "[]",
	}
	if t.End == Proven {
		text, err := json.Marshal(t.Proved.Indicators)
		if err != nil {
			return fmt.Errorf("encoding indicators: %w", err)
		}
		r.phase, r.at, r.indicators = phaseAccepted, store.Micros(t.Proved.At), string(text)
		r.method, r.backend = int64(t.Proved.Method), t.Proved.Backend
	}
	n, err := tx.Exec(ctx, updateClaim, id, c.attempt, r.phase, r.at, r.method, r.backend, r.indicators, s.oneTimeMAC(r))
	if err == nil && n == 0 {
		return errors.New("the claim is gone")
	}
	return err
}

// oneTimeRow is a row as it is stored and as its MAC covers it.
type oneTimeRow struct {
	credential, attempt, binding, mac        []byte
	phase, at, leaseUntil, keepUntil, method int64
	backend, indicators                      string
}

const oneTimeColumns = `credential, attempt, binding, phase, at, lease_until, keep_until, method, backend, indicators, mac`

const oneTimeByID = `SELECT ` + oneTimeColumns + ` FROM one_time WHERE credential = $1`

func (s *Store) oneTime(ctx context.Context, id []byte) (r oneTimeRow, found bool, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, oneTimeByID, id).Scan(&r.credential, &r.attempt, &r.binding, &r.phase, &r.at,
			&r.leaseUntil, &r.keepUntil, &r.method, &r.backend, &r.indicators, &r.mac)
	})
	if found, err = present(err); err != nil || !found {
		return r, found, wrap("looking for a claim", err)
	}
	if !hmac.Equal(r.mac, s.oneTimeMAC(r)) {
		return r, true, ErrForged
	}
	return r, true, nil
}

func (s *Store) oneTimeMAC(r oneTimeRow) []byte {
	return s.rowMAC(oneTimeRowDomain, r.credential, r.attempt, r.binding, number(r.phase), number(r.at),
		number(r.leaseUntil), number(r.keepUntil), number(r.method), []byte(r.backend), []byte(r.indicators))
}

func (r oneTimeRow) proved() (Proved, error) {
	p := Proved{Method: int32(r.method), Backend: r.backend, At: store.Time(r.at)}
	if err := json.Unmarshal([]byte(r.indicators), &p.Indicators); err != nil {
		return Proved{}, fmt.Errorf("decoding indicators: %w", err)
	}
	return p, nil
}
