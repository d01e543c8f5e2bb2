// Package throttle turns who asks, and from where, into the limits on failed logins that
// apply.
//
// login and token ask it before a credential is looked at, and hand what it returns to
// state, which counts: in the database, so that all validators count together. An account's
// limit is below the directory's own lockout, so that nobody can lock an account through
// Estuary.
package throttle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

const (
	// below is how far an account's limit stays below krbPwdMaxFailure: one for a failure
	// of which we never learn, one for the user's own mistake elsewhere.
	below = 2
	// slack is added to krbPwdFailureCountInterval: clocks differ, and the directory counts
	// from when the answer was made.
	slack = 10 * time.Second
)

// Config is what a Throttle needs.
type Config struct {
	// State counts.
	State *state.Store
	// MaxFailures and Interval are an account's limit where the directory has no policy; with
	// Fixed they hold although it has one.
	MaxFailures int
	// Interval is how long after an account's last failure its failures are forgotten.
	Interval time.Duration
	// Fixed has the directory's policy ignored.
	Fixed bool
	// Network is the limit for failures from one network, of all kinds of credentials.
	Network state.Limit
	// Global is the limit for failures altogether.
	Global state.Limit
	// Token is the limit for failures of enrolment tokens under one user name from one network.
	Token state.Limit
	// IPv4Prefix and IPv6Prefix are how many bits of an address name a network.
	IPv4Prefix int
	// IPv6Prefix is the same for IPv6.
	IPv6Prefix int
}

// Throttle finds limits. It is safe for concurrent use.
type Throttle struct{ c Config }

// New returns a Throttle.
func New(c Config) (*Throttle, error) {
	switch {
	case c.State == nil:
		return nil, errors.New("a throttle needs state")
	case c.MaxFailures < 1 || c.Interval <= 0:
		return nil, errors.New("a throttle needs a limit for accounts")
	case c.IPv4Prefix < 1 || c.IPv4Prefix > 32 || c.IPv6Prefix < 1 || c.IPv6Prefix > 128:
		return nil, fmt.Errorf("a throttle of networks of %d and %d bits", c.IPv4Prefix, c.IPv6Prefix)
	}
	for _, l := range []state.Limit{c.Network, c.Global, c.Token} {
		if l.Max < 1 || l.Window <= 0 || l.Lockout <= 0 || l.Gap {
			return nil, errors.New("a throttle has a limit that limits nothing")
		}
	}
	return &Throttle{c: c}, nil
}

// Place is where an attempt comes from: a failure is counted for each of the subjects.
type Place struct {
	// Subjects are the network and everybody, and the holder of a token where it is one.
	Subjects []state.Subject
}

// Place returns the subjects for an address.
func (t *Throttle) Place(address string) Place {
	return Place{Subjects: []state.Subject{
		{ID: t.c.State.SubjectID("network", t.network(address)), Limit: t.c.Network},
		{ID: t.c.State.SubjectID("global"), Limit: t.c.Global},
	}}
}

// Holder returns the subjects for an enrolment token offered under a user name: never the
// name alone, or a stranger could lock a device out.
func (t *Throttle) Holder(clientID, address string) Place {
	p := t.Place(address)
	p.Subjects = append(p.Subjects, state.Subject{
		ID: t.c.State.SubjectID("holder", clientID, t.network(address)), Limit: t.c.Token,
	})
	return p
}

// Admit lets an attempt from a place pass, or returns a *fault.Error Busy that says when to
// come again. What it refuses depends on the place alone, so that it tells nothing of accounts.
func (t *Throttle) Admit(ctx context.Context, p Place, now time.Time) error {
	which, until, err := t.c.State.Blocked(ctx, now, p.Subjects...)
	if err != nil || which < 0 {
		return err
	}
	e := fault.New(fault.Busy, "throttle.Admit", "too many credentials were refused: try again later",
		fmt.Errorf("too many failures of %s", [...]string{"the network", "everybody together", "this user name from the network"}[which]))
	e.RetryAfter = until.Sub(now)
	return e
}

// Account returns the subject for an account under the directory's policy; for a name that
// is no account, under that which most accounts have.
func (t *Throttle) Account(realm, principal string, policy directory.Lockout) state.Subject {
	limit := state.Limit{Max: int64(t.c.MaxFailures), Window: t.c.Interval, Gap: true}
	if !t.c.Fixed && policy.MaxFailures > 0 {
		limit.Max = int64(max(1, policy.MaxFailures-below))
		if policy.MaxFailures == 1 {
			limit.Max = 0 // not one: it would lock the account
		}
		limit.Window = policy.Interval + slack
		// A directory that never forgets a failure: as long as it keeps an account locked.
		if policy.Interval <= 0 {
			limit.Window = max(t.c.Interval, policy.Duration) + slack
		}
	}
	return state.Subject{ID: t.c.State.SubjectID("account", realm, principal), Limit: limit}
}

// network returns the network of an address: as text, the address itself when it is none.
func (t *Throttle) network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	a = a.Unmap().WithZone("")
	bits := t.c.IPv6Prefix
	if a.Is4() {
		bits = t.c.IPv4Prefix
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return address
	}
	return p.String()
}
