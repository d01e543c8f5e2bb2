// Package authn turns a credential into an identity and the proof of it.
//
// serve calls it once for each attempt; it picks the back end by the label and asks token.
// What it returns is ready to stand in an assertion; attest puts it there.
package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// Basic says what HTTP Basic may hold under a label.
type Basic string

// BasicToken is an enrolment token, and nothing that does not have the form of one.
const BasicToken Basic = "token"

const (
	tokenBackend   = "token"
	tokenIndicator = "token"
	// keepSpent is how long after a token's end its count is kept: an assertion made just
	// before may still be on its way, and clocks differ.
	keepSpent = 24 * time.Hour
)

// Attempt is one attempt of one client.
type Attempt struct {
	// Label is the EST label.
	Label string
	// Token68 is what stood behind the scheme Basic. It is wiped when the attempt ends.
	Token68 secret.Bytes
	// SPKISHA256 is the hash over the public key of the certificate request.
	SPKISHA256 [sha256.Size]byte
	// ClientAddress is the client's address, without port.
	ClientAddress string
}

// Proof is what an accepted credential proved, as it stands in an assertion.
type Proof struct {
	// Identity is who it is.
	Identity *assertionv1.Identity
	// Authentication is how it was proved.
	Authentication *assertionv1.Authentication
	// Token is what the enrolment token allows.
	Token *assertionv1.EnrolmentToken
	// Spend is what it uses up.
	Spend *assertionv1.Spend
}

// Outcome is what became of an attempt.
type Outcome struct {
	// Refused is why not, for the audit alone; empty when the credential was accepted.
	// It holds nothing of what the client sent.
	Refused string
	// Alarm is what shows that somebody changed the database; empty when nothing does. It
	// does not depend on whether the credential was accepted.
	Alarm string
	// Proof is set when the credential was accepted.
	Proof Proof
	// Repeated tells that the credential was accepted with this public key before.
	Repeated bool
	// Acceptance is to be stored with the record that the credential was accepted; nil when
	// there is none to store.
	Acceptance *state.Acceptance
	// TokenID is the id of the token that was found, refused or not; empty when there was none.
	TokenID string
	// Identity is principal@REALM of that token.
	Identity string
}

// Config is what an Authenticator needs.
type Config struct {
	// Labels says for each label what HTTP Basic may hold; another label allows nothing.
	Labels map[string]Basic
	// Realm is the realm of identities that only a token proves; needed with Tokens.
	Realm string
	// Tokens checks enrolment tokens; nil when they are switched off.
	Tokens *token.Checker
	// Now tells the time.
	Now func() time.Time
}

// Authenticator checks credentials. It is safe for concurrent use.
type Authenticator struct{ c Config }

// New returns an Authenticator.
func New(c Config) (*Authenticator, error) {
	if c.Now == nil || len(c.Labels) == 0 {
		return nil, errors.New("an authenticator needs labels and a clock")
	}
	if c.Tokens != nil && c.Realm == "" {
		return nil, errors.New("an authenticator of tokens needs a realm")
	}
	for label, basic := range c.Labels {
		if basic != BasicToken {
			return nil, fmt.Errorf("label %s: unknown rule for Basic %q", label, string(basic))
		}
	}
	return &Authenticator{c: c}, nil
}

// Screen refuses what Basic would refuse by its form and label alone: it costs no work on
// the rest of the attempt. An Outcome that refuses nothing says nothing else.
func (a *Authenticator) Screen(label string, token68 secret.Bytes) (Outcome, error) {
	up, reason, err := a.open(label, token68)
	up.password.Wipe()
	return Outcome{Refused: reason}, err
}

// Basic says who offers this credential by HTTP Basic. A refused credential is an Outcome.
// Errors are *fault.Error: Forbidden where the label, or the whole validator, does not
// take such a credential; Busy and Unavailable where nothing is known of it.
func (a *Authenticator) Basic(ctx context.Context, at Attempt) (Outcome, error) {
	defer at.Token68.Wipe()
	up, reason, err := a.open(at.Label, at.Token68)
	if err != nil || reason != "" {
		return Outcome{Refused: reason}, err
	}
	defer up.password.Wipe()
	v, err := a.c.Tokens.Check(ctx, token.Attempt{User: up.user, Password: up.password, SPKISHA256: at.SPKISHA256})
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{
		Refused: string(v.Refused), Alarm: string(v.Alarm), TokenID: v.Token.ID,
		Repeated: v.Repeated, Acceptance: v.Acceptance,
	}
	if v.Token.ID != "" {
		out.Identity = v.Token.ClientID + "@" + a.c.Realm
	}
	if out.Refused == "" {
		out.Proof = a.prove(v, at)
	}
	return out, nil
}

// open returns what a credential holds that may be a token, or why it is refused. The
// caller wipes the password.
func (a *Authenticator) open(label string, token68 secret.Bytes) (up userPass, reason string, err error) {
	const op = "authn.open"
	if _, ok := a.c.Labels[label]; !ok {
		return userPass{}, "", fault.New(fault.Forbidden, op, "the label does not accept this kind of credential",
			fmt.Errorf("label %q is not configured", label))
	}
	if a.c.Tokens == nil {
		return userPass{}, "", fault.New(fault.Forbidden, op, "enrolment tokens are not accepted", nil)
	}
	up, reason = parseBasic(token68)
	if reason == "" && !token.HasForm(up.password.Reveal()) {
		up.password.Wipe()
		return userPass{}, string(token.ReasonForm), nil
	}
	return up, reason, nil
}

func (a *Authenticator) prove(v token.Verdict, at Attempt) Proof {
	t := v.Token
	return Proof{
		Identity: &assertionv1.Identity{
			Kind:      assertionv1.IdentityKind_IDENTITY_KIND_DEVICE,
			Realm:     a.c.Realm,
			Principal: t.ClientID,
		},
		Authentication: &assertionv1.Authentication{
			Method:         assertionv1.Method_METHOD_TOKEN,
			Indicators:     []string{tokenIndicator},
			VerifiedAt:     timestamppb.New(a.c.Now()),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE,
			ClientAddress:  at.ClientAddress,
			Backend:        tokenBackend,
		},
		Token: &assertionv1.EnrolmentToken{
			Id:                 t.ID,
			AllowedNames:       t.AllowedNames,
			RequiredSpkiSha256: t.RequiredSPKI,
		},
		Spend: &assertionv1.Spend{
			Ids:       [][]byte{[]byte("token:" + t.ID)},
			Limit:     t.MaxUses,
			KeepUntil: timestamppb.New(t.ExpiresAt.Add(keepSpent)),
		},
	}
}
