package token

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// Match says what the user name of HTTP Basic has to do with a token's client_id.
type Match string

// The ways to match, as in [otp] match_username.
const (
	// MatchIfPresent: a user name that is given has to be the client_id; none is needed
	// (RFC 7030 section 3.2.3: a password need not be tied to a name).
	MatchIfPresent Match = "if-present"
	// MatchRequired: the user name has to be the client_id.
	MatchRequired Match = "required"
	// MatchIgnored: the user name is not looked at.
	MatchIgnored Match = "ignored"
)

// Matches is every Match, the default first.
var Matches = []Match{MatchIfPresent, MatchRequired, MatchIgnored}

// Reason is why an attempt was refused: for the audit, never for the client.
type Reason string

// The reasons to refuse, in the order in which they are looked for.
const (
	ReasonForm    Reason = "does not have the form of a token"
	ReasonUnknown Reason = "unknown token"
	ReasonForged  Reason = "token row does not carry its MAC"
	ReasonHash    Reason = "token does not match its hash"
	ReasonUser    Reason = "user name is not the token's client_id"
	ReasonRevoked Reason = "token is revoked"
	ReasonExpired Reason = "token has expired"
	ReasonKey     Reason = "token is bound to another key"
)

// ReasonAcceptance is a reason for an alarm alone: the attempt is checked as if it were the
// first.
const ReasonAcceptance Reason = "row of an earlier acceptance does not carry its MAC"

// Attempt is a password that may be a token, and what came with it.
type Attempt struct {
	// User is the user name, empty when the client gave none.
	User string
	// Password is what may be a token.
	Password secret.Bytes
	// SPKISHA256 is the hash over the public key of the certificate request.
	SPKISHA256 [sha256.Size]byte
}

// Verdict is what became of an attempt.
type Verdict struct {
	// Refused is why not; empty when the token is good for this attempt.
	Refused Reason
	// Alarm is what shows that somebody changed the database; empty when nothing does. The
	// token may be good all the same.
	Alarm Reason
	// Token is what is stored; zero when no genuine row was found.
	Token state.Token
	// Repeated tells that the token was accepted with this public key before.
	Repeated bool
	// Acceptance is to be recorded with the acceptance, so that a repeat is recognised; nil
	// when the token is refused, was recognised, or costs nothing to check again.
	Acceptance *state.Acceptance
}

// CheckerConfig is what a Checker needs; every field is required.
type CheckerConfig struct {
	// State is where tokens are found.
	State *state.Store
	// Hasher finds and verifies them.
	Hasher *Hasher
	// Match is the rule for user names.
	Match Match
	// Now tells the time.
	Now func() time.Time
}

// Checker checks tokens. It counts nothing: the signer does.
type Checker struct{ c CheckerConfig }

// NewChecker returns a Checker.
func NewChecker(c CheckerConfig) (*Checker, error) {
	if c.State == nil || c.Hasher == nil || c.Now == nil {
		return nil, errors.New("a token checker needs state, hasher and clock")
	}
	if c.Match != MatchIfPresent && c.Match != MatchRequired && c.Match != MatchIgnored {
		return nil, fmt.Errorf("unknown rule for user names %q", string(c.Match))
	}
	return &Checker{c: c}, nil
}

// Check tells whether the attempt's password is a token that is good for it. A refusal is
// a Verdict; an error means that nothing is known: the database or a slot for a slow hash
// could not be had. The slow hash is computed only for a token that is there and that was
// not accepted with this public key before; everything else is judged each time.
func (c *Checker) Check(ctx context.Context, a Attempt) (Verdict, error) {
	if !HasForm(a.Password.Reveal()) {
		return Verdict{Refused: ReasonForm}, nil
	}
	t, err := c.c.State.TokenByIndex(ctx, c.c.Hasher.Index(a.Password))
	switch {
	case errors.Is(err, state.ErrNotFound):
		return Verdict{Refused: ReasonUnknown}, nil
	case errors.Is(err, state.ErrForged):
		return Verdict{Refused: ReasonForged, Alarm: ReasonForged}, nil
	case err != nil:
		return Verdict{}, fmt.Errorf("looking for a token: %w", err)
	}
	v := Verdict{Token: t}
	if err := c.verify(ctx, a, &v); err != nil {
		return Verdict{}, fmt.Errorf("verifying token %s: %w", t.ID, err)
	}
	if v.Refused == "" {
		v.Refused = c.judge(t, a)
	}
	if v.Refused != "" {
		v.Acceptance = nil
	}
	return v, nil
}

// judge returns why a known token is not good for the attempt, or nothing.
func (c *Checker) judge(t state.Token, a Attempt) Reason {
	switch {
	case !c.userMatches(a.User, t.ClientID):
		return ReasonUser
	case !t.RevokedAt.IsZero():
		return ReasonRevoked
	case !c.c.Now().Before(t.ExpiresAt):
		return ReasonExpired
	case len(t.RequiredSPKI) != 0 && subtle.ConstantTimeCompare(t.RequiredSPKI, a.SPKISHA256[:]) != 1:
		return ReasonKey
	}
	return ""
}

func (c *Checker) userMatches(user, clientID string) bool {
	switch c.c.Match {
	case MatchIgnored:
		return true
	case MatchIfPresent:
		if user == "" {
			return true
		}
	}
	return subtle.ConstantTimeCompare([]byte(user), []byte(clientID)) == 1
}
