package authn

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

const (
	// MaxNegotiate bounds the text behind the scheme Negotiate, in octets.
	MaxNegotiate = 64 << 10
	// repeatFor is for how long a ticket presented again with the same public key is
	// recognised.
	repeatFor = 5 * time.Minute
	// keepAuthenticator is for how long an authenticator is remembered beyond twice the clock
	// skew, in which it could be good.
	keepAuthenticator = 10 * time.Minute

	methodNegotiate = "negotiate"
	spendNegotiate  = "negotiate:"
)

// The reasons for which a ticket is refused that was not used for the first time, or whose
// client the directory does not know.
const (
	reasonReplayed = "replayed: the authenticator was used with another key"
	reasonOld      = "replayed: the authenticator was used more than 5 minutes ago"
	reasonSpoiled  = "replayed: the authenticator was refused before"
	reasonForeign  = "client's realm is not the directory's, which the label wants it to be in"
	reasonSpelling = "directory spells the account's name in another way"
	alarmForged    = "the record of a used authenticator was changed"
)

// ScreenNegotiate refuses what Negotiate would refuse by its form and label alone. An
// Outcome that refuses nothing says nothing else. Errors are those of Basic.
func (a *Authenticator) ScreenNegotiate(ctx context.Context, at Attempt) (Outcome, error) {
	_, _, out, err := a.read(ctx, at)
	if err == nil && out.Refused != "" {
		err = a.c.Throttle.Admit(ctx, a.c.Throttle.Place(at.ClientAddress), a.c.Now())
	}
	return out, err
}

// Negotiate says who offers this credential by HTTP Negotiate (RFC 4559). A refused one is an
// Outcome, and so is one that asks the client for another token. Errors are those of Basic.
// The caller wipes Token68.
func (a *Authenticator) Negotiate(ctx context.Context, at Attempt) (Outcome, error) {
	request, rule, out, err := a.read(ctx, at)
	if err != nil || out.Refused != "" {
		return out, err
	}
	if err := a.c.Throttle.Admit(ctx, a.c.Throttle.Place(at.ClientAddress), a.c.Now()); err != nil {
		return Outcome{}, err
	}
	address, err := netip.ParseAddr(at.ClientAddress)
	if err != nil {
		return Outcome{}, fault.New(fault.Malformed, "authn.Negotiate", "the client's address cannot be read", err)
	}
	// Looked up before anything is judged by the time: what was used stays used, whatever the
	// clock says.
	now := a.c.Now().Truncate(time.Microsecond) // as it is stored
	standing, first, err := a.c.State.Used(ctx, request.ID(), at.SPKISHA256, now)
	if errors.Is(err, state.ErrForged) {
		return a.refuseNegotiate(at, Outcome{Refused: alarmForged, Alarm: alarmForged}), nil
	}
	if err != nil {
		return Outcome{}, err
	}
	if reason := replayed(standing, first, now); reason != "" {
		return a.refuseNegotiate(at, Outcome{Refused: reason}), nil
	}
	when := now
	if standing == state.Accepted {
		when = first // the same attempt made again is judged by the time of the first
	}
	client, reason := a.c.Kerberos.Accept(ctx, request, when, kerberos.Channel{ServerEndPoint: at.ServerEndPoint, Address: address})
	if reason != "" {
		return a.refuseNegotiate(at, a.spoil(request, client, at, reason)), nil
	}
	return a.prove(ctx, rule, accepted{client: client, id: request.ID(), when: when, repeated: standing == state.Accepted}, at)
}

// replayed says why an authenticator that was seen before is not accepted.
func replayed(standing state.Standing, first, now time.Time) string {
	switch {
	case standing == state.Taken:
		return reasonReplayed
	case standing == state.Lost:
		return reasonSpoiled
	case standing == state.Accepted && now.Sub(first) > repeatFor:
		return reasonOld
	}
	return ""
}

// read returns what stands in a credential, where that may be good under the label.
func (a *Authenticator) read(ctx context.Context, at Attempt) (r *kerberos.Request, rule Rule, out Outcome, err error) {
	const op = "authn.read"
	rule, ok := a.c.Labels[at.Label]
	switch {
	case !ok || !rule.Negotiate:
		return nil, rule, out, fault.New(fault.Forbidden, op, "the label does not accept this kind of credential",
			fmt.Errorf("label %q does not accept Kerberos tickets", at.Label))
	case a.c.Kerberos == nil:
		return nil, rule, out, fault.New(fault.Forbidden, op, "Kerberos tickets are not accepted", nil)
	}
	token, reason := decodeNegotiate(at.Token68)
	if reason == "" {
		r, out.Challenge, reason = a.c.Kerberos.Read(ctx, token)
	}
	if reason != "" {
		out = a.refuseNegotiate(at, Outcome{Refused: reason, Challenge: out.Challenge})
	}
	return r, rule, out, nil
}

// decodeNegotiate returns the GSS-API token behind the scheme (RFC 4559 section 4.2).
func decodeNegotiate(token68 secret.Bytes) (token []byte, reason string) {
	text := token68.Reveal()
	switch {
	case len(text) == 0:
		return nil, reasonNone
	case len(text) > MaxNegotiate:
		return nil, "credential is longer than 65536 octets"
	case bytes.ContainsAny(text, "\r\n"): // the decoder would skip them
		return nil, reasonBase64
	}
	token, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return nil, reasonBase64
	}
	return token, ""
}

// refuseNegotiate completes a refusal, and counts it for where it came from.
func (a *Authenticator) refuseNegotiate(at Attempt, out Outcome) Outcome {
	out.Method = methodNegotiate
	out.Settlement = state.Settlement{At: a.c.Now(), Others: a.c.Throttle.Place(at.ClientAddress).Subjects}
	return out
}

// spoil returns the outcome for a token that was refused. One that was made in time to come
// is remembered, or whoever saw it could use it once its time has come.
func (a *Authenticator) spoil(r *kerberos.Request, c kerberos.Client, at Attempt, reason string) Outcome {
	out := Outcome{Refused: reason}
	now := a.c.Now()
	if c.Made.IsZero() { // not the time alone
		return out
	}
	out.Identity = strings.Join(c.Components, "/") + "@" + c.Realm
	if c.Made.Before(now) {
		return out
	}
	end := c.Made
	if c.Ends.Before(end) {
		end = c.Ends
	}
	out.Use = &state.Use{
		ID: r.ID(), Binding: at.SPKISHA256, Method: int32(assertionv1.Method_METHOD_NEGOTIATE), At: now,
		KeepUntil: end.Add(a.c.Skew + keepAuthenticator), Spoiled: true,
	}
	return out
}

// accepted is a ticket that was found good.
type accepted struct {
	client   kerberos.Client
	id       [32]byte
	when     time.Time
	repeated bool
}

// prove returns the outcome for a good ticket, unless the directory knows better.
func (a *Authenticator) prove(ctx context.Context, rule Rule, t accepted, at Attempt) (Outcome, error) {
	principal := strings.Join(t.client.Components, "/")
	out := Outcome{Method: methodNegotiate, Repeated: t.repeated, Identity: principal + "@" + t.client.Realm}
	id := &assertionv1.Identity{Kind: kindOf(t.client.Components), Realm: t.client.Realm, Principal: principal}
	if rule.Check != CheckNone {
		known, reason, err := a.account(ctx, rule, principal, t.client.Realm)
		if err != nil {
			return Outcome{}, err
		}
		if reason != "" {
			out.Refused = reason
			return a.refuseNegotiate(at, out), nil
		}
		if known != nil {
			id = known
			out.Identity = id.GetPrincipal() + "@" + id.GetRealm()
		}
	}
	keep := t.when.Add(2*a.c.Skew + keepAuthenticator)
	if !t.repeated {
		out.Use = &state.Use{
			ID: t.id, Binding: at.SPKISHA256, Method: int32(assertionv1.Method_METHOD_NEGOTIATE), At: t.when, KeepUntil: keep,
		}
	}
	out.Settlement.At = a.c.Now()
	out.Reply = t.client.Reply
	out.Proof = Proof{
		Identity: id,
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_NEGOTIATE, Indicators: t.client.Indicators,
			VerifiedAt: timestamppb.New(t.when), LoginTime: timestamppb.New(t.client.LoginTime),
			ChannelBinding: binding(t.client.Bound), ClientAddress: at.ClientAddress, Backend: t.client.Service,
		},
		Spend: &assertionv1.Spend{
			Ids: [][]byte{append([]byte(spendNegotiate), t.id[:]...)}, Limit: 1, KeepUntil: timestamppb.New(keep),
		},
	}
	return out, nil
}

// account returns who the directory says that the principal is; nil where it was not reached
// and need not be.
func (a *Authenticator) account(ctx context.Context, rule Rule, principal, realm string) (*assertionv1.Identity, string, error) {
	if realm != a.c.Login.Realm() {
		return nil, reasonForeign, nil
	}
	account, reason, err := a.lookUp(ctx, rule, principal)
	switch {
	case err != nil || account == nil:
		return nil, reason, err
	// To Kerberos the same name in other letters is another name. An alias is none of that.
	case account.Principal != principal && strings.EqualFold(account.Principal, principal):
		return nil, reasonSpelling, nil
	}
	return identityOf(*account), "", nil
}

// kindOf tells what a principal is by its form: a user's has one component, a host's and a
// service's have the name of a host as the second.
func kindOf(components []string) assertionv1.IdentityKind {
	switch {
	case len(components) != 2 || !strings.Contains(components[1], "."):
		return assertionv1.IdentityKind_IDENTITY_KIND_USER
	case components[0] == "host":
		return assertionv1.IdentityKind_IDENTITY_KIND_HOST
	}
	return assertionv1.IdentityKind_IDENTITY_KIND_SERVICE
}

func binding(bound bool) assertionv1.ChannelBinding {
	if bound {
		return assertionv1.ChannelBinding_CHANNEL_BINDING_MATCH
	}
	return assertionv1.ChannelBinding_CHANNEL_BINDING_ABSENT
}
