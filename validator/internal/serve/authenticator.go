// Package serve turns the calls of the mesh into the validator's work: Authenticator for
// gateways, TokenAdmin for the admin.
//
// It is thin: it reads a message, lets authn, attest, token and state do what it asks, and
// sees to it that an audit record is stored before anybody learns the answer.
package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/failpoint"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/attest"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// refused is the one text for every refused credential: which rule it broke would help
// only whoever guesses.
const refused = "credential refused"

const methodToken = "token"

// The schemes of HTTP authentication.
const (
	schemeBasic     = "Basic"
	schemeNegotiate = "Negotiate"
)

// keepTime is how long storing a record may take.
const keepTime = 5 * time.Second

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

// attempt is what is known of a message. What could not be read of it is empty.
type attempt struct {
	scheme  string // "" where there is none that is known
	token68 secret.Bytes
	request attest.Request
	address string
	csrHash string // hexadecimal
}

// Authenticate implements the call. Who gets an assertion, and who is refused, is on record
// before the answer leaves; when it cannot be recorded the answer is Unavailable.
func (s *Authenticator) Authenticate(ctx context.Context, req *validatorv1.AuthenticateRequest) (*validatorv1.AuthenticateResponse, error) {
	resp, err := s.answer(ctx, req)
	failpoint.Here(failpoint.ValidatorReply)
	return resp, err
}

func (s *Authenticator) answer(ctx context.Context, req *validatorv1.AuthenticateRequest) (*validatorv1.AuthenticateResponse, error) {
	at := attempt{request: attest.Request{Gateway: mesh.PeerName(ctx), Operation: req.GetOperation(), Label: req.GetLabel()}}
	at.take(req.GetCredential())
	defer at.token68.Wipe()
	resp, err := s.once(ctx, req, &at)
	if errors.Is(err, state.ErrUsed) {
		// It came twice at the same moment: what became of the other is stored by now.
		resp, err = s.once(ctx, req, &at)
	}
	return resp, err
}

func (s *Authenticator) once(ctx context.Context, req *validatorv1.AuthenticateRequest, at *attempt) (*validatorv1.AuthenticateResponse, error) {
	out, err := s.check(ctx, req, at)
	if out.Alarm != "" {
		s.alarm(ctx, out)
	}
	switch {
	case errors.Is(err, fault.Malformed), errors.Is(err, fault.Forbidden):
		return nil, s.refuse(ctx, *at, authn.Outcome{Refused: fault.Public(err)}, err)
	case err != nil:
		s.count("undecided")
		return nil, fmt.Errorf("authenticating: %w", err)
	case out.Challenge != nil:
		return &validatorv1.AuthenticateResponse{Outcome: &validatorv1.AuthenticateResponse_Challenge{
			Challenge: &validatorv1.Challenge{NegotiateToken: out.Challenge},
		}}, s.refuse(ctx, *at, out, nil)
	case out.Refused != "":
		return nil, s.refuse(ctx, *at, out, fault.New(fault.Unauthenticated, "serve.Authenticate", refused, nil))
	}
	return s.accept(ctx, *at, out)
}

// check reads the message into at and says who offers its credential. What is cheap comes
// first: only what may be good is worth the check of a certificate request.
func (s *Authenticator) check(ctx context.Context, req *validatorv1.AuthenticateRequest, at *attempt) (authn.Outcome, error) {
	if err := at.read(req); err != nil {
		return authn.Outcome{}, err
	}
	offered := authn.Attempt{
		Label: at.request.Label, Token68: at.token68, ClientAddress: at.address, ServerEndPoint: req.GetChannel().GetServerEndPoint(),
	}
	if out, err, done := s.certificate(ctx, req, at, &offered); done {
		return out, err
	}
	screen, judge := s.c.Authn.Screen, s.c.Authn.Basic
	switch at.scheme {
	case "":
		return authn.Outcome{}, malformed("credential", errors.New("it holds none of a kind that is known"))
	case schemeNegotiate:
		screen, judge = s.c.Authn.ScreenNegotiate, s.c.Authn.Negotiate
	}
	if out, err := screen(ctx, offered); err != nil || out.Refused != "" {
		return out, err
	}
	if err := at.readRequest(req.GetCsrDer()); err != nil {
		return authn.Outcome{}, err
	}
	offered.SPKISHA256 = at.request.CSR.SPKISHA256()
	out, err := judge(ctx, offered)
	failpoint.Here(failpoint.ValidatorAnswered)
	return out, err
}

// certificate judges the certificate that the client presented in TLS, where the label wants one
// to be judged; it comes before every other credential. One that counts as absent is on record,
// and then the other credential decides, if there is one and the operation takes it.
func (s *Authenticator) certificate(
	ctx context.Context, req *validatorv1.AuthenticateRequest, at *attempt, offered *authn.Attempt,
) (out authn.Outcome, err error, done bool) {
	channel := req.GetChannel()
	offered.Certificates, offered.Revocation, offered.TooMany = channel.GetClientCertificates(), channel.GetRevocation(), channel.GetTooManyCertificates()
	renewal := at.request.Operation == assertionv1.Operation_OPERATION_REENROLL
	some := len(offered.Certificates) > 0 || offered.TooMany
	presented := some && s.c.Authn.TakesCertificates(at.request.Label)
	if !presented && !renewal && (at.scheme != "" || !some) {
		return authn.Outcome{}, nil, false
	}
	out, err = s.c.Authn.Certificate(ctx, *offered)
	switch {
	case err != nil:
		return out, err, true
	case out.Refused == "":
		return out, at.readRequest(req.GetCsrDer()), true
	case !out.Absent || renewal || at.scheme == "":
		return out, nil, true
	}
	out.Settlement.Others = nil // what counts as absent is no failure
	r := s.record(ctx, "certificate.ignored", audit.Refused, *at, out)
	r.Reason = out.Refused
	if err := s.keep(ctx, r, out); err != nil {
		return authn.Outcome{}, fmt.Errorf("recording a certificate that does not count: %w", err), true
	}
	return authn.Outcome{}, nil, false
}

func (s *Authenticator) accept(ctx context.Context, at attempt, out authn.Outcome) (*validatorv1.AuthenticateResponse, error) {
	sealed, err := s.c.Attest.Seal(at.request, out.Proof)
	if err != nil {
		// A one-time code was accepted all the same.
		return nil, errors.Join(err, s.settle(ctx, out.Settlement, nil))
	}
	outcome := "accepted"
	if out.Repeated {
		outcome = "repeated"
	}
	r := s.record(ctx, "credential."+outcome, audit.Success, at, out)
	r.Detail["assertion"] = hex.EncodeToString(sealed.ID)
	switch err := s.keep(ctx, r, out); {
	case errors.Is(err, state.ErrUsed):
		return nil, err
	case err != nil:
		s.count("undecided")
		return nil, fmt.Errorf("recording an accepted credential: %w", err)
	}
	failpoint.Here(failpoint.ValidatorAccepted)
	s.count(outcome)
	return &validatorv1.AuthenticateResponse{
		Outcome: &validatorv1.AuthenticateResponse_Assertion{Assertion: sealed.Message}, NegotiateToken: out.Reply,
	}, nil
}

// refuse records a refusal and returns answer, or why it could not be recorded.
func (s *Authenticator) refuse(ctx context.Context, at attempt, out authn.Outcome, answer error) error {
	r := s.record(ctx, "credential.refused", audit.Refused, at, out)
	r.Reason = out.Refused
	if err := s.keep(ctx, r, out); err != nil {
		s.count("undecided")
		return fmt.Errorf("recording a refused credential: %w", err)
	}
	s.count("refused")
	if out.Refused == kerberos.ReasonSkew {
		// Many of them are a clock that is wrong, and it may be this machine's.
		s.c.Metrics.GetOrCreateCounter("estuary_validator_clock_skew_refusals_total").Inc()
	}
	return answer
}

// alarm tells at once that somebody changed the database; the record tells it too.
func (s *Authenticator) alarm(ctx context.Context, out authn.Outcome) {
	s.c.Metrics.GetOrCreateCounter("estuary_validator_forged_rows_total").Inc()
	s.c.Log.LogAttrs(ctx, slog.LevelError, "a stored row was changed by somebody else",
		slog.String("reason", out.Alarm), slog.String("token", out.TokenID), slog.String("request_id", mesh.RequestID(ctx)))
}

// keep stores a record with what is to be recognised, ended or counted of the credential,
// also when the caller has hung up: who tries a credential and leaves is on record too.
func (s *Authenticator) keep(ctx context.Context, r audit.Record, out authn.Outcome) error {
	if out.Acceptance == nil && out.Use == nil {
		return s.settle(ctx, out.Settlement, &r)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	if out.Use != nil {
		return s.c.State.Use(ctx, *out.Use, out.Settlement, r)
	}
	return s.c.State.Accept(ctx, *out.Acceptance, r)
}

func (s *Authenticator) settle(ctx context.Context, t state.Settlement, r *audit.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	return s.c.State.Settle(ctx, t, r)
}

func (s *Authenticator) record(ctx context.Context, event, outcome string, at attempt, out authn.Outcome) audit.Record {
	r := audit.Record{
		Time: s.c.Now(), Event: event, Outcome: outcome,
		Actor: mesh.PeerName(ctx), Address: at.address, RequestID: mesh.RequestID(ctx),
		Label: at.request.Label, CSRSHA256: at.csrHash,
		Identity: out.Identity, Method: out.Method, Detail: map[string]string{},
	}
	if backend := out.Proof.Authentication.GetBackend(); backend != "" && out.TokenID == "" {
		r.Detail["backend"] = backend
		r.Detail["indicators"] = strings.Join(out.Proof.Authentication.GetIndicators(), ",")
	}
	if login := out.Proof.Authentication.GetLoginTime(); login != nil {
		r.Detail["login_time"] = login.AsTime().Format(time.RFC3339)
		r.Detail["channel_binding"] = channelBindings[out.Proof.Authentication.GetChannelBinding()]
	}
	if out.TokenID != "" {
		r.Detail["token"] = out.TokenID
	}
	if out.Certificate != "" {
		r.Detail["presented_serial"] = out.Certificate
	}
	if out.Alarm != "" {
		r.Detail["alarm"] = out.Alarm
	}
	return r
}

// channelBindings are the words of the audit.
var channelBindings = map[assertionv1.ChannelBinding]string{
	assertionv1.ChannelBinding_CHANNEL_BINDING_NONE:   "none",
	assertionv1.ChannelBinding_CHANNEL_BINDING_ABSENT: "absent",
	assertionv1.ChannelBinding_CHANNEL_BINDING_MATCH:  "match",
}

func (s *Authenticator) count(outcome string) {
	s.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_credentials_total{outcome=%q}", outcome)).Inc()
}

// take moves the credential out of a message.
func (at *attempt) take(c *validatorv1.Credential) {
	if basic := c.GetBasic(); basic != nil {
		at.scheme, at.token68 = schemeBasic, secret.Take(&basic.Token68)
	}
	if negotiate := c.GetNegotiate(); negotiate != nil {
		at.scheme, at.token68 = schemeNegotiate, secret.Take(&negotiate.Token68)
	}
}

// read takes everything from a message but the credential, and leaves the certificate
// request unread.
func (at *attempt) read(req *validatorv1.AuthenticateRequest) error {
	if der := req.GetCsrDer(); len(der) > 0 {
		sum := sha256.Sum256(der)
		at.csrHash = hex.EncodeToString(sum[:])
	}
	address, err := netip.ParseAddr(req.GetChannel().GetClientAddress())
	if err != nil {
		return malformed("channel.client_address", errors.New("it is not an IP address"))
	}
	at.address = address.Unmap().WithZone("").String()
	switch req.GetOperation() {
	case assertionv1.Operation_OPERATION_ENROLL, assertionv1.Operation_OPERATION_REENROLL:
	default:
		return malformed("operation", fmt.Errorf("%d is unknown", req.GetOperation()))
	}
	if req.GetLabel() == "" {
		return malformed("label", errors.New("it is empty"))
	}
	return nil
}

// readRequest reads the certificate request.
func (at *attempt) readRequest(der []byte) (err error) {
	at.request.CSR, err = csr.Parse(der)
	return err
}

// malformed refuses a field of a message. The peer is shown why: it is a service of ours.
func malformed(field string, why error) error {
	return fault.New(fault.Malformed, "serve.read", fmt.Sprintf("field %s: %v", field, why), nil)
}
