package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
)

type validator func(*validatorv1.AuthenticateRequest) (*validatorv1.AuthenticateResponse, error)

func (v validator) Authenticate(_ context.Context, r *validatorv1.AuthenticateRequest, _ ...grpc.CallOption) (*validatorv1.AuthenticateResponse, error) {
	return v(r)
}

type signer func(*signerv1.IssueRequest) (*signerv1.IssueResponse, error)

func (s signer) Issue(_ context.Context, r *signerv1.IssueRequest, _ ...grpc.CallOption) (*signerv1.IssueResponse, error) {
	return s(r)
}

// material is a request and a certificate for its key.
func material(t *testing.T) (request *csr.Request, certificate []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err = csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return request, certificate
}

func challenged(token string) *validatorv1.AuthenticateResponse {
	return &validatorv1.AuthenticateResponse{Outcome: &validatorv1.AuthenticateResponse_Challenge{
		Challenge: &validatorv1.Challenge{NegotiateToken: []byte(token)},
	}}
}

func TestEnroll(t *testing.T) {
	request, certificate := material(t)
	_, foreign := material(t)
	sealed := &assertionv1.SealedAssertion{Payload: []byte("p"), Signature: []byte("s"), KeyId: "k"}
	asserted := &validatorv1.AuthenticateResponse{Outcome: &validatorv1.AuthenticateResponse_Assertion{Assertion: sealed}}
	known := &validatorv1.AuthenticateResponse{Outcome: asserted.GetOutcome(), NegotiateToken: []byte("known")}
	refused := fault.New(fault.Unauthenticated, "x", "", nil)
	cases := []struct {
		name     string
		answer   *validatorv1.AuthenticateResponse
		err      error
		issued   []byte
		issueErr error
		want     fault.Kind // 0 for success
		asked    bool       // the signer was

		challenge bool
	}{
		{name: "issued", answer: asserted, issued: certificate, asked: true},
		{name: "issued, with a token for the client", answer: known, issued: certificate, asked: true},
		{name: "profile refuses, with a token for the client", answer: known, issueErr: fault.New(fault.Forbidden, "x", "", nil), want: fault.Forbidden, asked: true},
		{name: "token too long", answer: &validatorv1.AuthenticateResponse{Outcome: asserted.GetOutcome(), NegotiateToken: make([]byte, 3000)}, want: fault.Internal},
		{name: "challenge", answer: challenged("more"), challenge: true, want: fault.Internal},
		{name: "challenge of nothing", answer: challenged(""), want: fault.Internal},
		{name: "challenge too long", answer: challenged(strings.Repeat("x", 3000)), want: fault.Internal},
		{name: "refused", err: refused, want: fault.Unauthenticated},
		{name: "no outcome", answer: &validatorv1.AuthenticateResponse{}, want: fault.Internal},
		{name: "used up", answer: asserted, issueErr: refused, want: fault.Unauthenticated, asked: true},
		{name: "profile refuses", answer: asserted, issueErr: fault.New(fault.Forbidden, "x", "", nil), want: fault.Forbidden, asked: true},
		{name: "no certificate", answer: asserted, want: fault.Internal, asked: true},
		{name: "certificate for another key", answer: asserted, issued: foreign, want: fault.Internal, asked: true},
		{name: "signer timed out", answer: asserted, issueErr: context.DeadlineExceeded, want: fault.Unavailable, asked: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			channel := &validatorv1.Channel{ClientAddress: "192.0.2.1"}
			credential := &validatorv1.Credential{Kind: &validatorv1.Credential_Basic{Basic: &validatorv1.BasicCredential{Token68: []byte("Og==")}}}
			var got *validatorv1.AuthenticateRequest
			asked := false
			e, err := enroll.New(enroll.Config{
				Validator: validator(func(r *validatorv1.AuthenticateRequest) (*validatorv1.AuthenticateResponse, error) {
					got = r
					return c.answer, c.err
				}),
				Signer: signer(func(r *signerv1.IssueRequest) (*signerv1.IssueResponse, error) {
					asked = true
					want := &signerv1.IssueRequest{Assertion: sealed, CsrDer: request.DER()}
					if diff := cmp.Diff(want, r, protocmp.Transform()); diff != "" {
						t.Error(diff)
					}
					return &signerv1.IssueResponse{CertificateDer: c.issued}, c.issueErr
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			granted, err := e.Enroll(t.Context(), enroll.Request{
				Channel: channel, Credential: credential, CSR: request, Label: "device",
				Operation: assertionv1.Operation_OPERATION_ENROLL,
			})
			if !c.challenge && fault.KindOf(err) != c.want || asked != c.asked {
				t.Errorf("error %v, signer asked %v", err, asked)
			}
			der := granted.Certificate
			if (c.want == 0) != (len(der) > 0) || (c.want == 0 && string(der) != string(certificate)) {
				t.Errorf("got %x", der)
			}
			if want := string(c.answer.GetNegotiateToken()); c.asked && string(granted.Negotiate) != want || !c.asked && granted.Negotiate != nil {
				t.Errorf("token %q for the client, not %q", granted.Negotiate, want)
			}
			if challenge := (*enroll.Challenge)(nil); errors.As(err, &challenge) != c.challenge || c.challenge && string(challenge.Negotiate) != "more" {
				t.Errorf("challenge %v", err)
			}
			want := &validatorv1.AuthenticateRequest{
				Channel: channel, Credential: credential, CsrDer: request.DER(), Label: "device",
				Operation: assertionv1.Operation_OPERATION_ENROLL,
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The largest request with the largest ticket is a message that the mesh takes.
func TestLargestFits(t *testing.T) {
	size := proto.Size(&validatorv1.AuthenticateRequest{
		Channel: &validatorv1.Channel{ClientAddress: strings.Repeat("f", 45), ServerEndPoint: make([]byte, 64), TlsVersion: 0x304},
		Credential: &validatorv1.Credential{Kind: &validatorv1.Credential_Negotiate{
			Negotiate: &validatorv1.NegotiateCredential{Token68: make([]byte, enroll.MaxNegotiate)},
		}},
		CsrDer: make([]byte, csr.MaxDER), Operation: assertionv1.Operation_OPERATION_ENROLL, Label: strings.Repeat("l", 255),
	})
	if size > mesh.MaxMessage {
		t.Errorf("%d octets, above %d", size, mesh.MaxMessage)
	}
}

func TestNewChecks(t *testing.T) {
	_, err := enroll.New(enroll.Config{})
	if err == nil || errors.Is(err, fault.Internal) {
		t.Errorf("an empty configuration: %v", err)
	}
}
