// Package login turns a user name and a password into the account that they prove.
//
// authn calls it for EST clients, and serve for a KDC. For each account it takes the one way
// that FreeIPA's settings ask for, the account's RADIUS server or a bind to the directory,
// and says which second factor that proved. It claims a one-time code in state before a back
// end sees it, so that no two validators take the same one there.
package login

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/radius"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
)

// Config is what a Login needs. Log, Now, Directory, RADIUS, State, Throttle and Keys are
// required.
type Config struct {
	// Directory has the accounts.
	Directory *directory.Client
	// RADIUS asks RADIUS servers.
	RADIUS *radius.Client
	// Proxies are the RADIUS servers of the configuration.
	Proxies []Proxy
	// State keeps claims and counts.
	State *state.Store
	// Throttle has the limits.
	Throttle *throttle.Throttle
	// Keys are the keys, KeySize octets each, under which one-time codes are known to
	// validators and signer: one, or two while it is being changed.
	Keys []secret.Bytes
	// Realm is the realm of the directory.
	Realm string
	// Control tells that binds carry FreeIPA's OTP-required control.
	Control bool
	// Evidence tells that the directory has evidence of its own for a second factor.
	Evidence bool
	// PasswordExpiration refuses accounts whose password has expired.
	PasswordExpiration bool
	// Separator stands in a password before the answer to a RADIUS server's challenge; empty
	// where challenges are not answered.
	Separator string
	// Timeout bounds what the directory may take to look an account up, and then again for
	// a bind.
	Timeout time.Duration
	// Log hears what the audit is not told.
	Log *slog.Logger
	// Now tells the time.
	Now func() time.Time
}

// Login checks passwords. It is safe for concurrent use.
type Login struct{ c Config }

// New returns a Login.
func New(c Config) (*Login, error) {
	if c.Directory == nil || c.RADIUS == nil || c.State == nil || c.Throttle == nil || c.Log == nil || c.Now == nil {
		return nil, errors.New("a login lacks a part")
	}
	if c.Realm == "" || c.Timeout <= 0 {
		return nil, errors.New("a login needs a realm and a timeout")
	}
	if len(c.Keys) < 1 || len(c.Keys) > MaxKeys {
		return nil, fmt.Errorf("a login has %d spend keys: 1 to %d are accepted", len(c.Keys), MaxKeys)
	}
	for _, k := range c.Keys {
		if k.Len() != KeySize {
			return nil, fmt.Errorf("a spend key has %d octets: %d are needed", k.Len(), KeySize)
		}
	}
	if len(c.Keys) == MaxKeys && c.Keys[0].Equal(c.Keys[1]) {
		return nil, errors.New("both spend keys are the same one")
	}
	return &Login{c: c}, nil
}

// Attempt is one attempt to log in.
type Attempt struct {
	// User is the user name: a principal with or without the realm.
	User string
	// Password is password and code. The caller wipes it.
	Password secret.Bytes
	// Binding is what the attempt is for: the hash of a public key. The same password with
	// the same binding is the same attempt made again.
	Binding [sha256.Size]byte
	// AcceptPassword tells that a password alone is enough.
	AcceptPassword bool
	// Address is the client's address; empty where there is none.
	Address string
}

// Outcome is what became of an attempt. Its Settlement is to be stored with its record by
// state.Settle before anybody learns of it, also when the attempt was refused.
type Outcome struct {
	// Refused is why not, for the audit alone; empty when the account was proved.
	Refused string
	// Alarm is what shows that somebody changed the database.
	Alarm string
	// Account is the account; zero where none was found.
	Account directory.Entry
	// Proved is how it was proved.
	Proved state.Proved
	// Spent are the digests of the one-time code; none for a password alone.
	Spent [][]byte
	// KeepUntil is until when Spent has to be remembered.
	KeepUntil time.Time
	// Repeated tells that the same attempt was accepted before: no back end was asked.
	Repeated bool
	// Settlement ends what was begun.
	Settlement state.Settlement
}

// Check says whose password this is. A refusal is an Outcome. Errors are *fault.Error: Busy
// where too many attempts have failed, or this one is being checked at the moment, and
// Unavailable where nothing is known of the password; both leave nothing to settle. Once a
// back end is asked the end of ctx no longer stops it: what it says is to be known when the
// client comes again.
func (l *Login) Check(ctx context.Context, a Attempt) (Outcome, error) {
	place := throttle.Place{} // a KDC is no client: what it is told no to counts for the account alone
	if a.Address != "" {
		place = l.c.Throttle.Place(a.Address)
		if err := l.c.Throttle.Admit(ctx, place, l.c.Now()); err != nil {
			return Outcome{}, err
		}
	}
	if reason := unfit(a); reason != "" {
		return l.refuse(Outcome{}, place, reason), nil
	}
	// The directory is asked several things before the password goes anywhere.
	looking, cancel := context.WithTimeout(ctx, l.c.Timeout)
	defer cancel()
	account, err := l.c.Directory.Find(looking, a.User)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return l.unknown(a, place, reasonUnknown)
	case errors.Is(err, directory.ErrAmbiguous):
		return l.unknown(a, place, reasonAmbiguous)
	case err != nil:
		return Outcome{}, fmt.Errorf("looking for the account: %w", err)
	}
	if reason := l.barred(account); reason != "" {
		return l.refuse(Outcome{Account: account}, place, reason), nil
	}
	plan, reason, err := l.plan(looking, account, a)
	if err != nil {
		return Outcome{}, err
	}
	if reason != "" {
		return l.refuse(Outcome{Account: account}, place, reason), nil
	}
	return l.run(ctx, plan, a, place)
}

// Account returns the account of a principal that something else than its password proves,
// or why it may not have certificates: it is not there, or it has ended. Errors are those of
// Check.
func (l *Login) Account(ctx context.Context, principal string) (account directory.Entry, reason string, err error) {
	account, err = l.c.Directory.Find(ctx, principal)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return directory.Entry{}, reasonUnknown, nil
	case errors.Is(err, directory.ErrAmbiguous):
		return directory.Entry{}, reasonAmbiguous, nil
	case err != nil:
		return directory.Entry{}, "", fmt.Errorf("looking for the account: %w", err)
	}
	return account, l.barred(account), nil
}

// Realm returns the realm of the accounts.
func (l *Login) Realm() string { return l.c.Realm }

// barred says why an account may not log in, or nothing.
func (l *Login) barred(e directory.Entry) string {
	now := l.c.Now()
	switch {
	case e.Locked:
		return reasonLocked
	case !e.PrincipalExpires.IsZero() && !now.Before(e.PrincipalExpires):
		return reasonExpired
	case l.c.PasswordExpiration && !e.PasswordExpires.IsZero() && !now.Before(e.PasswordExpires):
		return reasonPasswordExpired
	}
	return ""
}

// unknown refuses a name that is no account. While a RADIUS server is down it could be one
// of its: those are answered by 503 then, and a refusal would tell them apart.
func (l *Login) unknown(a Attempt, place throttle.Place, reason string) (Outcome, error) {
	if len(l.c.RADIUS.Down()) > 0 {
		return Outcome{}, unanswered(errors.New("the name is no account, and a RADIUS server is down"))
	}
	out := l.refuse(Outcome{}, place, reason)
	account := l.c.Throttle.Account(l.c.Realm, a.User, directory.Lockout{})
	out.Settlement.Account, out.Settlement.Failed = &account, true
	return out, nil
}

// refuse returns an outcome that is refused, and counts for where it came from.
func (l *Login) refuse(out Outcome, place throttle.Place, reason string) Outcome {
	out.Refused = reason
	out.Settlement.At, out.Settlement.Others = l.c.Now(), place.Subjects
	return out
}

// unanswered is the error where nothing is known of a password. Its text fits all cases, so
// that it tells none of them.
func unanswered(cause error) error {
	return fault.New(fault.Unavailable, "login.Check",
		"what checks this credential did not answer: try again, and with the next code if this one is refused then", cause)
}
