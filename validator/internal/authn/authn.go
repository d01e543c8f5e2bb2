// Package authn turns a credential into an identity and the proof of it.
//
// serve calls it for each attempt; it picks the back end by the label and asks clientcert, token,
// login or kerberos.
// What it returns is ready to stand in an assertion; attest puts it there.
package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// Basic says what HTTP Basic may hold under a label.
type Basic string

// What HTTP Basic may hold. What has the form of an enrolment token never goes to a directory.
const (
	// BasicToken is an enrolment token, and nothing that does not have the form of one.
	BasicToken Basic = "token"
	// BasicDirectory is a directory account's password with a one-time code.
	BasicDirectory Basic = "directory"
	// BasicTokenThenDirectory is a token where it has the form of one, and otherwise a
	// directory account's password with a one-time code.
	BasicTokenThenDirectory Basic = "token-then-directory"
	// BasicNone is nothing: the label takes other kinds of credentials alone.
	BasicNone Basic = "none"
)

// Basics is every Basic.
var Basics = []Basic{BasicToken, BasicDirectory, BasicTokenThenDirectory, BasicNone}

// Directory tells whether it may be a directory account's password.
func (b Basic) Directory() bool { return b == BasicDirectory || b == BasicTokenThenDirectory }

// DirectoryCheck says whether who has an enrolment token, a Kerberos ticket or a certificate has to be an
// account of the directory too, so that one that has left gets no certificate any more.
type DirectoryCheck string

// The checks.
const (
	// CheckNone: the directory is not asked.
	CheckNone DirectoryCheck = "none"
	// CheckIfReachable: while the directory does not answer it is not asked.
	CheckIfReachable DirectoryCheck = "if-reachable"
	// CheckRequired: while the directory does not answer nobody enrols.
	CheckRequired DirectoryCheck = "required"
)

// Checks is every DirectoryCheck, the default first.
var Checks = []DirectoryCheck{CheckNone, CheckIfReachable, CheckRequired}

// Rule is what proves an identity under a label.
type Rule struct {
	// Basic is what HTTP Basic may hold.
	Basic Basic
	// AcceptPassword accepts a directory account's password alone, where the account's
	// settings ask for no second factor.
	AcceptPassword bool
	// Negotiate accepts Kerberos tickets.
	Negotiate bool
	// Certificates are those that are accepted.
	Certificates clientcert.Rule
	// Check holds who has a token, a ticket or a certificate against the directory.
	Check DirectoryCheck
}

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
	// Token68 is what stood behind the scheme. It is wiped when the attempt ends.
	Token68 secret.Bytes
	// SPKISHA256 is the hash over the public key of the certificate request.
	SPKISHA256 [sha256.Size]byte
	// ClientAddress is the client's address, without port.
	ClientAddress string
	// ServerEndPoint is the hash over the gateway's certificate (RFC 5929 section 4.1), which
	// channel bindings of Negotiate are held against.
	ServerEndPoint []byte
	// Certificates are what the client presented in TLS, DER, leaf first.
	Certificates [][]byte
	// TooMany tells that they were more than anybody looks at, and none is here.
	TooMany bool
	// Revocation is what the gateway's revocation list says of the first of them.
	Revocation validatorv1.RevocationStatus
}

// Proof is what an accepted credential proved, as it stands in an assertion.
type Proof struct {
	// Identity is who it is.
	Identity *assertionv1.Identity
	// Authentication is how it was proved.
	Authentication *assertionv1.Authentication
	// Token is what the enrolment token allows.
	Token *assertionv1.EnrolmentToken
	// Certificate names the certificate that was presented.
	Certificate *assertionv1.PresentedCertificate
	// Spend is what it uses up.
	Spend *assertionv1.Spend
}

// Outcome is what became of an attempt.
type Outcome struct {
	// Refused is why not, for the audit alone; empty when the credential was accepted.
	// It holds nothing of what the client sent.
	Refused string
	// Absent tells that what was refused is a certificate that does not verify: as if it had not
	// been presented.
	Absent bool
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
	// Use is to be stored with the record: that the credential is used up. When that fails
	// with state.ErrUsed the whole attempt is made again, and finds why.
	Use *state.Use
	// Settlement is to be stored with the record, whether accepted or refused.
	Settlement state.Settlement
	// Reply is for the client, to know us by; nil where there is none.
	Reply []byte
	// Challenge asks the client for another credential instead of a refusal.
	Challenge []byte
	// Method is the kind of credential, for the audit.
	Method string
	// TokenID is the id of the token that was found, refused or not; empty when there was none.
	TokenID string
	// Certificate is the serial number of the certificate that was presented, hexadecimal.
	Certificate string
	// Identity is principal@REALM of that token, account or certificate.
	Identity string
}

// Config is what an Authenticator needs.
type Config struct {
	// Labels says for each label what proves an identity; under another label nothing does.
	Labels map[string]Rule
	// Realm is the realm of identities that only a token proves; needed with Tokens.
	Realm string
	// Tokens checks enrolment tokens; nil when they are switched off.
	Tokens *token.Checker
	// Login checks passwords of directory accounts; nil when there is no directory.
	Login *login.Login
	// Kerberos accepts tickets; nil when they are switched off.
	Kerberos *kerberos.Acceptor
	// Skew is by how much clocks of Kerberos may differ; needed with Kerberos.
	Skew time.Duration
	// State remembers which tickets were used; needed with Kerberos.
	State *state.Store
	// Certificates judges certificates; nil when no label accepts any.
	Certificates *clientcert.Verifier
	// Throttle has the limits on failures.
	Throttle *throttle.Throttle
	// Now tells the time.
	Now func() time.Time
}

// Authenticator checks credentials. It is safe for concurrent use.
type Authenticator struct{ c Config }

// New returns an Authenticator.
func New(c Config) (*Authenticator, error) {
	if c.Now == nil || len(c.Labels) == 0 || c.Throttle == nil {
		return nil, errors.New("an authenticator needs labels, a throttle and a clock")
	}
	if c.Tokens != nil && c.Realm == "" {
		return nil, errors.New("an authenticator of tokens needs a realm")
	}
	if c.Kerberos != nil && (c.State == nil || c.Skew <= 0) {
		return nil, errors.New("an authenticator of tickets needs a record and a clock skew")
	}
	for label, rule := range c.Labels {
		switch {
		case !slices.Contains(Basics, rule.Basic):
			return nil, fmt.Errorf("label %s: unknown rule for Basic %q", label, string(rule.Basic))
		case !slices.Contains(Checks, rule.Check):
			return nil, fmt.Errorf("label %s: unknown check %q", label, string(rule.Check))
		case c.Login == nil && (rule.Basic.Directory() || rule.Check != CheckNone):
			return nil, fmt.Errorf("label %s needs a directory", label)
		}
		if err := c.checkCertificates(label, rule); err != nil {
			return nil, err
		}
	}
	return &Authenticator{c: c}, nil
}

// Screen refuses what Basic would refuse by its form and label alone: it costs no work on
// the rest of the attempt. An Outcome that refuses nothing says nothing else. Errors are
// those of Basic.
func (a *Authenticator) Screen(ctx context.Context, at Attempt) (Outcome, error) {
	up, _, out, err := a.open(at)
	up.password.Wipe()
	if err == nil && out.Refused != "" {
		err = a.c.Throttle.Admit(ctx, a.c.Throttle.Place(at.ClientAddress), a.c.Now())
	}
	return out, err
}

// Basic says who offers this credential by HTTP Basic. A refused credential is an Outcome.
// Errors are *fault.Error: Forbidden where the label, or the whole validator, does not
// take such a credential; Busy and Unavailable where nothing is known of it.
func (a *Authenticator) Basic(ctx context.Context, at Attempt) (Outcome, error) {
	defer at.Token68.Wipe()
	up, rule, out, err := a.open(at)
	if err != nil || out.Refused != "" {
		return out, err
	}
	defer up.password.Wipe()
	if rule.Basic == BasicDirectory || !token.HasForm(up.password.Reveal()) {
		return a.directory(ctx, rule, up, at)
	}
	return a.token(ctx, rule, up, at)
}

// open returns what a credential holds that may be good under the label; where its form
// alone refuses it, the outcome says so. The caller wipes the password.
func (a *Authenticator) open(at Attempt) (up userPass, rule Rule, out Outcome, err error) {
	const op = "authn.open"
	rule, ok := a.c.Labels[at.Label]
	if !ok || rule.Basic == BasicNone {
		return userPass{}, rule, out, fault.New(fault.Forbidden, op, "the label does not accept this kind of credential",
			fmt.Errorf("label %q does not accept Basic", at.Label))
	}
	if a.c.Tokens == nil && rule.Basic == BasicToken {
		return userPass{}, rule, out, fault.New(fault.Forbidden, op, "enrolment tokens are not accepted", nil)
	}
	up, reason := parseBasic(at.Token68)
	hasForm := reason == "" && token.HasForm(up.password.Reveal())
	switch {
	case reason != "":
	case rule.Basic == BasicToken && !hasForm:
		reason = string(token.ReasonForm)
	case rule.Basic == BasicDirectory && hasForm:
		reason = reasonNoToken
	case hasForm && a.c.Tokens == nil:
		reason = reasonOff
	}
	if reason != "" {
		up.password.Wipe()
		out = Outcome{Refused: reason, Method: methodPassword}
		if rule.Basic == BasicToken {
			out.Method = methodToken
		}
		out.Settlement = state.Settlement{At: a.c.Now(), Others: a.c.Throttle.Place(at.ClientAddress).Subjects}
		return userPass{}, rule, out, nil
	}
	return up, rule, out, nil
}
