package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/store"
)

// Subject is who or where failed logins are counted for, with the limit for it.
type Subject struct {
	// ID stands for it: Store.SubjectID.
	ID [sha256.Size]byte
	// Limit is how many are too many.
	Limit Limit
}

// Limit says how many failures are too many, and for how long.
type Limit struct {
	// Max is the number of failures behind which every attempt is refused.
	Max int64
	// Window is how long failures are counted together: from the first of them on, or, with
	// Gap, for as long as less than Window passes between one and the next.
	Window time.Duration
	// Lockout is for how long attempts are refused behind the last failure; with Gap it is
	// Window.
	Lockout time.Duration
	// Gap counts failures until Window has passed since the last one, as FreeIPA does
	// (krbPwdFailureCountInterval).
	Gap bool
}

// SubjectID returns the digest for a subject: keyed, so that a copy of the database does not
// tell who was attacked.
func (s *Store) SubjectID(kind string, parts ...string) [sha256.Size]byte {
	fields := [][]byte{[]byte(kind)}
	for _, p := range parts {
		fields = append(fields, []byte(p))
	}
	return [sha256.Size]byte(s.rowMAC(subjectDomain, fields...))
}

// failureRow is a row of login_failure.
type failureRow struct{ failures, since, lastAt int64 }

const failuresOf = `SELECT failures, since, last_at FROM login_failure WHERE subject = $1`

// Blocked tells which of the subjects has failed too often: its place in the list, -1 for
// none, and when it may try again. It counts nothing.
func (s *Store) Blocked(ctx context.Context, now time.Time, subjects ...Subject) (which int, until time.Time, err error) {
	which = -1
	err = s.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		which = -1
		for i, subject := range subjects {
			var r failureRow
			found, err := present(tx.QueryRow(ctx, failuresOf, subject.ID[:]).Scan(&r.failures, &r.since, &r.lastAt))
			if err != nil {
				return err
			}
			end := store.Time(r.lastAt).Add(subject.Limit.lockout())
			if found && r.failures >= subject.Limit.Max && now.Before(end) {
				which, until = i, end
				return nil
			}
		}
		return nil
	})
	return which, until, wrap("looking for failed logins", err)
}

func (l Limit) lockout() time.Duration {
	if l.Gap {
		return l.Window
	}
	return l.Lockout
}

// stale is the condition under which what a row counted is over: $3 is the latest last_at
// and $4 the latest since that are, $5 the limit.
const stale = `(login_failure.last_at <= $3 AND login_failure.failures >= $5
	OR login_failure.since <= $4 AND login_failure.failures < $5)`

// times returns the arguments $2 to $5 of the statements: now, and those of stale. With Gap
// both bounds are on the last failure; since is moved along with it then.
func (l Limit) times(now time.Time) []any {
	return []any{
		store.Micros(now), store.Micros(now.Add(-l.lockout())), store.Micros(now.Add(-l.Window)), l.Max,
	}
}

// keptFor is how long a row is kept behind the end of what it says.
const keptFor = time.Hour

func (l Limit) keepUntil(now time.Time) int64 {
	return store.Micros(now.Add(max(l.Window, l.Lockout) + keptFor))
}

// An attempt that nobody ended within its lease is one whose answer nobody knows: it counts
// no more. One that was sent, and not answered, keeps its room for a window.
const reserveRoom = `INSERT INTO login_failure (subject, failures, since, last_at, pending, pending_until, keep_until)
	VALUES ($1, 0, $2, 0, 1, $6, $7)
	ON CONFLICT (subject) DO UPDATE SET
		failures = CASE WHEN ` + stale + ` THEN 0 ELSE login_failure.failures END,
		pending = CASE WHEN login_failure.pending_until <= $2 THEN 0 ELSE login_failure.pending END + 1,
		pending_until = CASE WHEN login_failure.pending_until > excluded.pending_until THEN login_failure.pending_until ELSE excluded.pending_until END,
		keep_until = excluded.keep_until
	WHERE CASE WHEN ` + stale + ` THEN 0 ELSE login_failure.failures END
		+ CASE WHEN login_failure.pending_until <= $2 THEN 0 ELSE login_failure.pending END < $5`

// reserve takes room for one more failure.
func reserve(ctx context.Context, tx store.Tx, account Subject, c *Claim) error {
	args := append([]any{account.ID[:]}, account.Limit.times(c.At)...)
	n, err := tx.Exec(ctx, reserveRoom, append(args, store.Micros(c.LeaseUntil), account.Limit.keepUntil(c.At))...)
	switch {
	case err != nil:
		return fmt.Errorf("reserving an attempt: %w", err)
	case n == 0:
		return errThrottled
	}
	return nil
}

const (
	giveRoomBack = `UPDATE login_failure SET pending = pending - 1 WHERE subject = $1 AND pending > 0`
	holdRoom     = `UPDATE login_failure SET
		pending_until = CASE WHEN pending_until > $2 THEN pending_until ELSE $2 END,
		keep_until = CASE WHEN keep_until > $3 THEN keep_until ELSE $3 END WHERE subject = $1 AND pending > 0`
	countFailure = `INSERT INTO login_failure (subject, failures, since, last_at, pending, pending_until, keep_until)
		VALUES ($1, 1, $2, $2, 0, 0, $7)
		ON CONFLICT (subject) DO UPDATE SET
			failures = CASE WHEN ` + stale + ` THEN 1 ELSE login_failure.failures + 1 END,
			since = CASE WHEN $6 = 1 OR ` + stale + ` THEN excluded.since ELSE login_failure.since END,
			last_at = excluded.last_at, keep_until = excluded.keep_until`
)

// settleRoom gives the room of an attempt back. One that was sent and not answered is no
// failure, and yet the back end may have counted one: its room stays taken until that is
// forgotten there, so that a slow back end does not let an outsider lock accounts.
func settleRoom(ctx context.Context, tx store.Tx, t *Settlement) error {
	if t.Claim == nil {
		return nil
	}
	text, args := giveRoomBack, []any{t.Account.ID[:]}
	if t.End == Unresolved {
		text = holdRoom
		args = append(args, store.Micros(t.At.Add(t.Account.Limit.Window)), t.Account.Limit.keepUntil(t.At))
	}
	if _, err := tx.Exec(ctx, text, args...); err != nil {
		return fmt.Errorf("giving an attempt back: %w", err)
	}
	return nil
}

// settleFailures gives room back and counts what failed, the account first: every
// transaction takes rows in the same order.
func settleFailures(ctx context.Context, tx store.Tx, t *Settlement) error {
	var failed []Subject
	if t.Account != nil {
		if err := settleRoom(ctx, tx, t); err != nil {
			return err
		}
		if t.Failed {
			failed = append(failed, *t.Account)
		}
	}
	for _, subject := range append(failed, t.Others...) {
		args := append([]any{subject.ID[:]}, subject.Limit.times(t.At)...)
		gap := int64(0)
		if subject.Limit.Gap {
			gap = 1
		}
		if _, err := tx.Exec(ctx, countFailure, append(args, gap, subject.Limit.keepUntil(t.At))...); err != nil {
			return fmt.Errorf("counting a failure: %w", err)
		}
	}
	return nil
}

// present turns the error of a Scan into whether there was a row.
func present(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
