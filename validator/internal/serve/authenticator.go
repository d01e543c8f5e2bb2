// Package serve turns the calls of the mesh into the validator's work: Authenticator for
// gateways, TokenAdmin for the admin.
//
// It is thin: it reads a message, lets authn, attest, token and state do what it asks, and
// sees to it that an audit record is stored before anybody learns the answer.
package serve

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/VictoriaMetrics/metrics"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/attest"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// refused is the one text for every refused credential: which rule it broke would help
// only whoever guesses.
const refused = "credential refused"

const methodToken = "token"

// AuthenticatorConfig is what an Authenticator needs; every field is required.
type AuthenticatorConfig struct {
	// Authn checks credentials.
	Authn *authn.Authenticator
	// Attest makes assertions.
	Attest *attest.Maker
	// State keeps the audit.
	State *state.Store
	// Log hears of rows that somebody changed.
	Log *slog.Logger
	// Metrics counts outcomes.
	Metrics *metrics.Set
	// Now tells the time.
	Now func() time.Time
}

// Authenticator serves estuary.validator.v1.Authenticator.
type Authenticator struct {
	validatorv1.UnimplementedAuthenticatorServer
	c AuthenticatorConfig
}

// NewAuthenticator returns an Authenticator.
func NewAuthenticator(c AuthenticatorConfig) (*Authenticator, error) {
	if c.Authn == nil || c.Attest == nil || c.State == nil || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("the Authenticator service lacks a part")
	}
	return &Authenticator{c: c}, nil
}

// attempt is a message that could be read.
type attempt struct {
	request attest.Request
	address string
}

// Authenticate implements the call. Who gets an assertion, and who is refused, is on record
// before the answer leaves; when it cannot be recorded the answer is Unavailable.
func (s *Authenticator) Authenticate(ctx context.Context, req *validatorv1.AuthenticateRequest) (*validatorv1.AuthenticateResponse, error) {
	basic := req.GetCredential().GetBasic()
	if basic == nil {
		return nil, malformed("credential", errors.New("it holds none of a kind that is known"))
	}
	token68 := secret.Take(&basic.Token68)
	defer token68.Wipe()
	at, err := read(ctx, req)
	if err != nil {
		return nil, err
	}
	out, err := s.c.Authn.Basic(ctx, authn.Attempt{
		Label: at.request.Label, Token68: token68, SPKISHA256: at.request.CSR.SPKISHA256(), ClientAddress: at.address,
	})
	if errors.Is(err, fault.Forbidden) {
		return nil, s.refuse(ctx, at, authn.Outcome{Refused: fault.Public(err)}, err)
	}
	if err != nil {
		s.count("undecided")
		return nil, fmt.Errorf("authenticating: %w", err)
	}
	if out.Refused != "" {
		return nil, s.refuse(ctx, at, out, fault.New(fault.Unauthenticated, "serve.Authenticate", refused, nil))
	}
	return s.accept(ctx, at, out)
}

func (s *Authenticator) accept(ctx context.Context, at attempt, out authn.Outcome) (*validatorv1.AuthenticateResponse, error) {
	sealed, err := s.c.Attest.Seal(at.request, out.Proof)
	if err != nil {
		return nil, err
	}
	r := s.record(ctx, "credential.accepted", audit.Success, at, out)
	r.Detail["assertion"] = hex.EncodeToString(sealed.ID)
	if err := s.c.State.Record(ctx, r); err != nil {
		s.count("undecided")
		return nil, fmt.Errorf("recording an accepted credential: %w", err)
	}
	s.count("accepted")
	return &validatorv1.AuthenticateResponse{
		Outcome: &validatorv1.AuthenticateResponse_Assertion{Assertion: sealed.Message},
	}, nil
}

// refuse records a refusal and returns answer, or why it could not be recorded.
func (s *Authenticator) refuse(ctx context.Context, at attempt, out authn.Outcome, answer error) error {
	if out.Alarm {
		s.c.Metrics.GetOrCreateCounter("estuary_validator_forged_tokens_total").Inc()
		s.c.Log.LogAttrs(ctx, slog.LevelError, "a stored token was changed by somebody else",
			slog.String("reason", out.Refused), slog.String("token", out.TokenID), slog.String("request_id", mesh.RequestID(ctx)))
	}
	r := s.record(ctx, "credential.refused", audit.Refused, at, out)
	r.Reason = out.Refused
	if err := s.c.State.Record(ctx, r); err != nil {
		s.count("undecided")
		return fmt.Errorf("recording a refused credential: %w", err)
	}
	s.count("refused")
	return answer
}

func (s *Authenticator) record(ctx context.Context, event, outcome string, at attempt, out authn.Outcome) audit.Record {
	csrHash := at.request.CSR.SHA256()
	r := audit.Record{
		Time: s.c.Now(), Event: event, Outcome: outcome,
		Actor: mesh.PeerName(ctx), Address: at.address, RequestID: mesh.RequestID(ctx),
		Label: at.request.Label, CSRSHA256: hex.EncodeToString(csrHash[:]),
		Identity: out.Identity, Method: methodToken, Detail: map[string]string{},
	}
	if out.TokenID != "" {
		r.Detail["token"] = out.TokenID
	}
	return r
}

func (s *Authenticator) count(outcome string) {
	s.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_credentials_total{outcome=%q}", outcome)).Inc()
}

// read checks everything about a message but the credential.
func read(ctx context.Context, req *validatorv1.AuthenticateRequest) (attempt, error) {
	switch req.GetOperation() {
	case assertionv1.Operation_OPERATION_ENROLL, assertionv1.Operation_OPERATION_REENROLL:
	default:
		return attempt{}, malformed("operation", fmt.Errorf("%d is unknown", req.GetOperation()))
	}
	if req.GetLabel() == "" {
		return attempt{}, malformed("label", errors.New("it is empty"))
	}
	address, err := netip.ParseAddr(req.GetChannel().GetClientAddress())
	if err != nil {
		return attempt{}, malformed("channel.client_address", errors.New("it is not an IP address"))
	}
	request, err := csr.Parse(req.GetCsrDer())
	if err != nil {
		return attempt{}, err
	}
	return attempt{
		request: attest.Request{
			Gateway: mesh.PeerName(ctx), Operation: req.GetOperation(), Label: req.GetLabel(), CSR: request,
		},
		address: address.Unmap().WithZone("").String(),
	}, nil
}

// malformed refuses a field of a message. The peer is shown why: it is a service of ours.
func malformed(field string, why error) error {
	return fault.New(fault.Malformed, "serve.read", fmt.Sprintf("field %s: %v", field, why), nil)
}
