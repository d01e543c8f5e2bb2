// Package kerberos turns the token of HTTP Negotiate into the client that its Kerberos ticket
// names.
//
// authn calls it; it reads SPNEGO (RFC 4178) and the Kerberos mechanism (RFC 4121), opens the
// ticket with a key of the keytab, and asks nobody: there is no round trip to a KDC. It keeps
// nothing: whether a token was seen before is for its caller to know, by Request.ID.
//
// github.com/jcmturner/gokrb5/v8 decodes Kerberos messages and decrypts them, no more: every
// rule of who is accepted is here.
package kerberos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/keytab"
)

// Bindings says what is demanded of the channel binding tls-server-end-point (RFC 5929
// section 4) of a client.
type Bindings string

// The demands.
const (
	// BindingsAbsentOK accepts a client that sends none; a wrong one is refused.
	BindingsAbsentOK Bindings = "absent-ok"
	// BindingsRequired demands the right one.
	BindingsRequired Bindings = "required"
	// BindingsOff looks at none.
	BindingsOff Bindings = "off"
)

// AllBindings is every Bindings, the default first.
var AllBindings = []Bindings{BindingsAbsentOK, BindingsRequired, BindingsOff}

// MaxSkew is the largest clock skew that can be allowed.
const MaxSkew = 5 * time.Minute

// Config is what an Acceptor needs; every field is required.
type Config struct {
	// Keys returns the keys that may open a ticket for the principal, in the order in which
	// they are tried; kvno 0 stands for any version.
	Keys func(ctx context.Context, principal string, kvno uint32, etype int32) []secret.Bytes
	// Principals are the services that tickets may be for, each service/host@REALM.
	Principals []string
	// Realms are the realms of clients that are accepted.
	Realms []string
	// Skew is by how much clocks may differ, at most MaxSkew.
	Skew time.Duration
	// Bindings is what is demanded of channel bindings.
	Bindings Bindings
	// Log hears of a library that panicked.
	Log *slog.Logger
}

// Acceptor accepts tickets. It is safe for concurrent use.
type Acceptor struct{ c Config }

// New returns an Acceptor.
func New(c Config) (*Acceptor, error) {
	switch {
	case c.Keys == nil || c.Log == nil:
		return nil, errors.New("accepting tickets needs keys and a log")
	case len(c.Principals) == 0 || len(c.Realms) == 0:
		return nil, errors.New("accepting tickets needs a service principal and a realm of clients")
	case c.Skew <= 0 || c.Skew > MaxSkew:
		return nil, fmt.Errorf("a clock skew of %v is not between 0 and %v", c.Skew, MaxSkew)
	case !slices.Contains(AllBindings, c.Bindings):
		return nil, fmt.Errorf("unknown demand of channel bindings %q", string(c.Bindings))
	}
	for _, p := range c.Principals {
		if _, _, ok := SplitPrincipal(p); !ok {
			return nil, fmt.Errorf("%q is not service/host@REALM", p)
		}
	}
	return &Acceptor{c: c}, nil
}

// SplitPrincipal parts service/host@REALM into its components and the realm.
func SplitPrincipal(principal string) (components []string, realm string, ok bool) {
	name, realm, found := strings.Cut(principal, "@")
	components = strings.Split(name, "/")
	ok = found && realm != "" && !strings.Contains(realm, "@") && len(components) == 2 &&
		components[0] != "" && components[1] != "" && !strings.Contains(principal, `\`)
	return components, realm, ok
}

// Request is a token that was read, not yet judged.
type Request struct {
	offer offer
	req   messages.APReq
}

// ID is what a token is known by: SHA-256 over the ciphertext of its authenticator. Nobody
// who does not have the session key can make another one of the same content.
func (r *Request) ID() [sha256.Size]byte { return sha256.Sum256(r.req.EncryptedAuthenticator.Cipher) }

// service returns the principal that the ticket is for.
func (r *Request) service() string {
	return strings.Join(r.req.Ticket.SName.NameString, "/") + "@" + r.req.Ticket.Realm
}

// Read reads a token. When it cannot be a good one, reason says why, for the audit alone.
// When it carries no Kerberos ticket, challenge is the token that asks the client for one, or
// tells it that nothing else is taken; reason says then what it was.
func (a *Acceptor) Read(ctx context.Context, token []byte) (r *Request, challenge []byte, reason string) {
	if len(token) > MaxToken {
		return nil, nil, reasonLong
	}
	o, reason := readOffer(token)
	switch {
	case reason != "":
		return nil, nil, reason
	case o.mechanism == nil:
		return nil, reject(), "client offers no Kerberos"
	case o.token == nil:
		return nil, ask(o), "client prefers another mechanism"
	}
	apReq, reason := readMechanism(o.token)
	if reason != "" {
		return nil, nil, reason
	}
	r = &Request{offer: o}
	err := safely(func() error { return r.req.Unmarshal(apReq) })
	switch {
	case err != nil:
		return nil, nil, a.unreadable(ctx, err, reasonAPReq)
	case r.req.PVNO != 5 || r.req.Ticket.TktVNO != 5:
		return nil, nil, reasonVersion
	case r.req.APOptions.At(apUseSessionKey) == 1:
		return nil, nil, reasonUserToUser
	}
	if reason := a.addressed(r); reason != "" {
		return nil, nil, reason
	}
	return r, nil, ""
}

// addressed says why a ticket is not for this service, as far as that can be known before it
// is decrypted.
func (a *Acceptor) addressed(r *Request) string {
	t := r.req.Ticket
	_, accepted := keytab.KeySize(t.EncPart.EType)
	switch {
	case !slices.Contains(a.c.Principals, r.service()) || len(t.SName.NameString) != 2:
		return reasonService
	case !accepted:
		return reasonEType
	case t.EncPart.KVNO < math.MinInt32 || t.EncPart.KVNO > math.MaxUint32:
		return reasonAPReq
	}
	return ""
}

// unreadable returns reason, or that the library panicked, which is logged: it is a defect.
func (a *Acceptor) unreadable(ctx context.Context, err error, reason string) string {
	if !errors.Is(err, errPanic) {
		return reason
	}
	a.c.Log.LogAttrs(ctx, slog.LevelError, "the Kerberos library panicked over a token", slog.String("err", err.Error()))
	return reasonLibrary
}
