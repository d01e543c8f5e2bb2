package est

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	"github.com/estuary-pki/estuary/gateway/internal/cms"
	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	"github.com/estuary-pki/estuary/gateway/internal/problem"
	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/failpoint"
	"github.com/estuary-pki/estuary/services/fault"
)

// simpleEnroll answers POST /simpleenroll (RFC 7030 section 4.2.1).
func (h *Handler) simpleEnroll(ctx context.Context, c *call) (reply, error) {
	return h.enroll(ctx, c, assertionv1.Operation_OPERATION_ENROLL)
}

// simpleReenroll answers POST /simplereenroll (RFC 7030 section 4.2.2). It is by certificate alone.
func (h *Handler) simpleReenroll(ctx context.Context, c *call) (reply, error) {
	c.renewal = true
	return h.enroll(ctx, c, assertionv1.Operation_OPERATION_REENROLL)
}

// enroll makes the journey: the order of its steps is that in which they cost, and the
// credential comes last.
func (h *Handler) enroll(ctx context.Context, c *call, operation assertionv1.Operation) (reply, error) {
	request, err := h.readRequest(ctx, c)
	if err != nil {
		return reply{}, err
	}
	credential, err := h.credential(ctx, c)
	if err != nil {
		return reply{}, err
	}
	channel := h.channel(ctx, c)
	if credential == nil && len(channel.GetClientCertificates()) == 0 && !channel.GetTooManyCertificates() {
		return reply{}, fault.New(fault.Unauthenticated, "est.enroll", "", errors.New("no credential"))
	}
	c.offered = true
	ask := enroll.Request{Channel: channel, Credential: credential, CSR: request, Operation: operation, Label: c.label}
	got, err := h.enroller.Enroll(ctx, ask)
	if got.Asserted && credential != nil && len(channel.GetClientCertificates()) > 0 && refused(err) {
		// The certificate came first, and is good for nothing: what was offered beside it decides.
		ask.Channel = accept.Channel(c.http)
		ask.Channel.ClientCertificates = nil
		got, err = h.enroller.Enroll(ctx, ask)
	}
	c.proof = got.Negotiate
	if challenge := (*enroll.Challenge)(nil); errors.As(err, &challenge) {
		// Nothing was judged, so that there is nothing to hide by waiting.
		c.offered, c.negotiate = false, challenge.Negotiate
		return reply{}, fault.New(fault.Unauthenticated, "est.enroll", "", err)
	}
	if err != nil {
		return reply{}, err
	}
	// The leaf alone: libest takes the first certificate, others refuse more than one.
	message, err := cms.CertsOnly([][]byte{got.Certificate})
	if err != nil {
		return reply{}, err
	}
	failpoint.Here(failpoint.GatewayReply)
	return c.encoded("application/pkcs7-mime; smime-type=certs-only", "no-store", message), nil
}

// refused tells whether the signer issues nothing for an identity that was asserted.
func refused(err error) bool {
	return errors.Is(err, fault.Forbidden) || errors.Is(err, fault.Unauthenticated)
}

// credential returns what stands in the Authorization header, where the operation and the label
// take such a thing.
func (h *Handler) credential(ctx context.Context, c *call) (*validatorv1.Credential, error) {
	credential, err := enroll.Credential(c.http.Header)
	switch {
	case err != nil:
		return nil, err
	case c.renewal, credential.GetNegotiate() != nil && !h.accepts(ctx, c, assertionv1.Method_METHOD_NEGOTIATE):
		return nil, nil // as a scheme that is not served
	}
	return credential, nil
}

// channel returns what TLS proved, without a certificate where none counts.
func (h *Handler) channel(ctx context.Context, c *call) *validatorv1.Channel {
	channel := accept.Channel(c.http)
	presented := c.http.TLS != nil && len(c.http.TLS.PeerCertificates) > 0
	counts := c.renewal || h.clientAuth != accept.ModeRequiredForReenroll && h.accepts(ctx, c, assertionv1.Method_METHOD_CERTIFICATE)
	if !presented || !counts {
		channel.ClientCertificates, channel.TooManyCertificates = nil, false
		return channel
	}
	if reason, revoked := h.revoked(c.http.TLS.PeerCertificates[0]); revoked {
		channel.Revocation = validatorv1.RevocationStatus_REVOCATION_STATUS_REVOKED
		if reason == certificateHold {
			channel.Revocation = validatorv1.RevocationStatus_REVOCATION_STATUS_HELD
		}
	}
	return channel
}

// certificateHold is a CRLReason (RFC 5280 section 5.3.1).
const certificateHold = 6

// negotiate returns the value of WWW-Authenticate with a token (RFC 4559 section 4.1).
func negotiate(token []byte) string {
	return problem.Negotiate + " " + base64.StdEncoding.EncodeToString(token)
}

// challenges returns what a client that is refused is asked for: what can give the proofs that
// the label accepts. They are the same for every refusal under the label, but where a
// negotiation goes on.
func (h *Handler) challenges(ctx context.Context, c *call) (all []string) {
	if c.renewal {
		return []string{problem.Certificate}
	}
	if h.accepts(ctx, c, basicMethods...) {
		all = append(all, problem.Basic)
	}
	switch {
	case c.negotiate != nil:
		all = append(all, negotiate(c.negotiate))
	case h.accepts(ctx, c, assertionv1.Method_METHOD_NEGOTIATE):
		all = append(all, problem.Negotiate)
	}
	if len(all) == 0 && h.accepts(ctx, c, assertionv1.Method_METHOD_CERTIFICATE) {
		return []string{problem.Certificate}
	}
	return all
}

// accepts tells whether the label accepts one of these kinds of proof. While that is not known
// it accepts what HTTP Basic can give.
func (h *Handler) accepts(ctx context.Context, c *call, methods ...assertionv1.Method) bool {
	p, err := h.facts.Profile(ctx, c.label)
	if err != nil || len(p.GetMethods()) == 0 {
		return slices.Contains(methods, basicMethods[0])
	}
	return slices.ContainsFunc(methods, func(m assertionv1.Method) bool { return slices.Contains(p.GetMethods(), m) })
}

// basicMethods are the kinds of proof that HTTP Basic can give.
var basicMethods = []assertionv1.Method{
	assertionv1.Method_METHOD_TOKEN, assertionv1.Method_METHOD_LDAP_OTP,
	assertionv1.Method_METHOD_LDAP_PASSWORD, assertionv1.Method_METHOD_RADIUS,
}

// readRequest makes every check that needs no credential.
func (h *Handler) readRequest(ctx context.Context, c *call) (*csr.Request, error) {
	body, err := readBody(c.writer, c.http)
	if err != nil {
		return nil, err
	}
	der, err := csr.Decode(body)
	if errors.Is(err, csr.ErrTooLarge) {
		return nil, tooLarge()
	}
	if err != nil {
		return nil, err
	}
	profile, err := h.facts.Profile(ctx, c.label)
	if err != nil {
		return nil, err
	}
	// Verifying signatures is all that anybody can have done here without a credential: it
	// must not take every core from those who ask for something else.
	select {
	case h.verifying <- struct{}{}:
		defer func() { <-h.verifying }()
	case <-ctx.Done():
		return nil, fault.New(fault.Busy, "est.readRequest", "", ctx.Err())
	}
	request, err := csr.ParseFor(der, func(t csr.KeyType, bits int) string { return refuseKey(profile, t, bits) })
	if err != nil {
		return nil, err
	}
	return request, checkChallenge(c, request, profile)
}

// refuseKey says why no identity could have this key certified under the profile, or "".
func refuseKey(p *signerv1.ProfileFacts, t csr.KeyType, bits int) string {
	if !slices.Contains(p.GetKeyTypes(), string(t)) {
		return fmt.Sprintf("a key of type %s: this label accepts %s", t, strings.Join(p.GetKeyTypes(), ", "))
	}
	if n := uint64(bits); t == csr.RSA && (n < uint64(p.GetRsaMinBits()) || n > uint64(p.GetRsaMaxBits())) {
		return fmt.Sprintf("an RSA modulus of %d bits: this label accepts %d to %d", bits, p.GetRsaMinBits(), p.GetRsaMaxBits())
	}
	return ""
}

// checkChallenge compares a challengePassword with the connection: RFC 7030 section 3.5 has
// it hold the base64 of tls-unique, so that proof of possession and identity are linked.
func checkChallenge(c *call, r *csr.Request, p *signerv1.ProfileFacts) error {
	if p.GetChallengePassword() == signerv1.ChallengePassword_CHALLENGE_PASSWORD_IGNORE {
		return nil
	}
	got, there := r.ChallengePassword()
	if !there {
		if p.GetChallengePassword() == signerv1.ChallengePassword_CHALLENGE_PASSWORD_REQUIRE {
			return malformed("linking of identity and proof of possession is required: the request has no challengePassword with the base64 of the TLS channel binding (RFC 7030 section 3.5)")
		}
		return nil
	}
	binding, err := accept.Binding(c.http.TLS)
	if err != nil {
		return malformed("the challengePassword cannot be compared: " + err.Error())
	}
	want := base64.StdEncoding.EncodeToString(binding)
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return malformed("the challengePassword is not the base64 of this connection's tls-unique or, from TLS 1.3 on, tls-exporter (RFC 7030 section 3.5, RFC 9266)")
	}
	return nil
}

func malformed(public string) error {
	return fault.New(fault.Malformed, "est.readRequest", public, nil)
}
