// Package enroll turns a credential and a certificate request into a certificate.
//
// It is the whole journey in one function: est calls it; it asks the validator who this is
// and hands the answer to the signer. It knows neither passwords nor keys.
package enroll

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

// Validator tells who offers a credential; validatorv1.AuthenticatorClient is one.
type Validator interface {
	// Authenticate returns the outcome, or a *fault.Error.
	Authenticate(context.Context, *validatorv1.AuthenticateRequest, ...grpc.CallOption) (*validatorv1.AuthenticateResponse, error)
}

// Signer issues a certificate for an assertion; signerv1.IssuerClient is one.
type Signer interface {
	// Issue returns the certificate, or a *fault.Error. Asked again with the same request, it
	// returns the same certificate.
	Issue(context.Context, *signerv1.IssueRequest, ...grpc.CallOption) (*signerv1.IssueResponse, error)
}

// Config is what an Enroller is made of. Both are required.
type Config struct {
	// Validator checks credentials.
	Validator Validator
	// Signer issues.
	Signer Signer
}

// Enroller makes the journey.
type Enroller struct {
	validator Validator
	signer    Signer
}

// New returns an Enroller.
func New(c Config) (*Enroller, error) {
	if c.Validator == nil || c.Signer == nil {
		return nil, errors.New("enrolling needs a validator and a signer")
	}
	return &Enroller{validator: c.Validator, signer: c.Signer}, nil
}

// Request is one checked request with its credential.
type Request struct {
	// Channel is what TLS proved.
	Channel *validatorv1.Channel
	// Credential is what the client offered; the message is sent on as it is.
	Credential *validatorv1.Credential
	// CSR is the checked certificate request.
	CSR *csr.Request
	// Operation is what the client asks for.
	Operation assertionv1.Operation
	// Label is the EST label, never empty.
	Label string
}

// Result is what becomes of a request whose credential the validator accepted.
type Result struct {
	// Certificate is the DER certificate that the signer issued; nil with an error.
	Certificate []byte
	// Negotiate is the GSS-API token by which the client knows the validator (RFC 4559
	// section 5); nil where there is none. It comes with an error of the signer's too.
	Negotiate []byte
	// Asserted tells that the validator accepted the credential, whatever the signer said.
	Asserted bool
}

// Challenge is an error that asks the client for another credential of the same scheme.
type Challenge struct {
	// Negotiate is the GSS-API token for the client, never empty.
	Negotiate []byte
}

// Error says so.
func (*Challenge) Error() string { return "the client is asked for another token of Negotiate" }

// maxNegotiate bounds a token for the client, in octets: an AP-REP is of some hundred.
const maxNegotiate = 2 << 10

// Enroll returns the certificate that the signer issues for what the validator asserts. A
// refusal comes back as a *fault.Error of its kind, a challenge as a *Challenge.
func (e *Enroller) Enroll(ctx context.Context, r Request) (Result, error) {
	who, err := e.validator.Authenticate(ctx, &validatorv1.AuthenticateRequest{
		Channel: r.Channel, Credential: r.Credential, CsrDer: r.CSR.DER(),
		Operation: r.Operation, Label: r.Label,
	})
	switch token := who.GetChallenge().GetNegotiateToken(); {
	case err != nil:
		return Result{}, fmt.Errorf("authenticating: %w", err)
	case max(len(token), len(who.GetNegotiateToken())) > maxNegotiate:
		return Result{}, fault.New(fault.Internal, "enroll.Enroll", "", errors.New("the validator answered with a token that no header should hold"))
	case len(token) > 0:
		return Result{}, &Challenge{Negotiate: token}
	case who.GetAssertion() == nil:
		return Result{}, fault.New(fault.Internal, "enroll.Enroll", "", errors.New("the validator answered without an assertion"))
	}
	result := Result{Negotiate: who.GetNegotiateToken(), Asserted: true}
	issued, err := e.issue(ctx, &signerv1.IssueRequest{Assertion: who.GetAssertion(), CsrDer: r.CSR.DER()})
	if err != nil {
		return result, err
	}
	result.Certificate, err = checked(issued.GetCertificateDer(), r.CSR)
	return result, err
}

// checked returns der when it is a certificate for the key of the request: a client could
// do nothing with another one, and would keep it.
func checked(der []byte, r *csr.Request) ([]byte, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.New(fault.Internal, "enroll.Enroll", "", fmt.Errorf("reading the issued certificate: %w", err))
	}
	if !bytes.Equal(c.RawSubjectPublicKeyInfo, r.SPKI()) {
		return nil, fault.New(fault.Internal, "enroll.Enroll", "", errors.New("the issued certificate is for another key"))
	}
	return der, nil
}
