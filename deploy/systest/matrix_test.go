package systest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
)

// peers are every kind of peer that has a certificate of the mesh. The stranger's is good,
// and nobody has heard of its name.
var peers = []string{"gateway", "admin", "validator", "signer", "stranger"}

// matrix says who may make a call. A method without a row fails the test.
var matrix = map[string][]string{
	"/estuary.validator.v1.Authenticator/Authenticate": {"gateway"},
	"/estuary.validator.v1.TokenAdmin/CreateToken":     {"admin"},
	"/estuary.validator.v1.TokenAdmin/ListTokens":      {"admin"},
	"/estuary.validator.v1.TokenAdmin/RevokeToken":     {"admin"},
	"/estuary.signer.v1.Issuer/Issue":                  {"gateway"},
	"/estuary.signer.v1.Authority/GetChain":            {"gateway", "admin"},
	"/estuary.signer.v1.Authority/ListProfiles":        {"gateway", "admin"},
	"/estuary.signer.v1.Authority/GetCRL":              {"gateway", "admin"},
	"/estuary.signer.v1.Authority/GetOCSP":             {"gateway", "admin"},
	"/estuary.signer.v1.LedgerAdmin/ListCertificates":  {"admin"},
	"/estuary.signer.v1.LedgerAdmin/GetCertificate":    {"admin"},
	"/estuary.signer.v1.LedgerAdmin/CountUses":         {"admin"},
	"/estuary.signer.v1.LedgerAdmin/RevokeCertificate": {"admin"},
	"/grpc.health.v1.Health/Check":                     {"gateway", "admin"},
	"/grpc.health.v1.Health/List":                      {"gateway", "admin"},
	"/grpc.health.v1.Health/Watch":                     {"gateway", "admin"},
}

// TestAuthorisationMatrix calls every method of both servers as every kind of peer.
func TestAuthorisationMatrix(t *testing.T) {
	s := started(t)
	issue := exec.Command(filepath.Join(bin, "signer"), "mesh", "issue", filepath.Join(s.state, "mesh"), "stranger.estuary.internal")
	if out, err := issue.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	methods := methodsOf(t, validatorv1.File_estuary_validator_v1_authenticator_proto.Package(),
		signerv1.File_estuary_signer_v1_issuer_proto.Package(), grpc_health_v1.File_grpc_health_v1_health_proto.Package())
	for _, server := range []string{"validator", "signer"} {
		for _, peer := range peers {
			conn := s.dial(t, peer, server)
			for method, desc := range methods {
				owner := strings.HasPrefix(method, "/estuary."+server+".")
				common := strings.HasPrefix(method, "/grpc.")
				allowed, ok := matrix[method]
				if !ok {
					t.Errorf("%s has no row in the matrix", method)
					continue
				}
				want := (owner || common) && slices.Contains(allowed, peer)
				if got := !barred(t, conn, method, desc); got != want {
					t.Errorf("%s calling %s on the %s: allowed %t, want %t", peer, method, server, got, want)
				}
			}
		}
	}
	for method := range matrix {
		if methods[method] == nil {
			t.Errorf("%s is in the matrix and does not exist", method)
		}
	}
}

// methodsOf returns every method of every service in the packages.
func methodsOf(t *testing.T, packages ...protoreflect.FullName) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	out := map[string]protoreflect.MethodDescriptor{}
	for _, p := range packages {
		protoregistry.GlobalFiles.RangeFilesByPackage(p, func(f protoreflect.FileDescriptor) bool {
			for i := range f.Services().Len() {
				service := f.Services().Get(i)
				for j := range service.Methods().Len() {
					m := service.Methods().Get(j)
					out[fmt.Sprintf("/%s/%s", service.FullName(), m.Name())] = m
				}
			}
			return true
		})
	}
	if len(out) < len(matrix) {
		t.Fatalf("found only %d methods", len(out))
	}
	return out
}

// barred makes the call with an empty message and tells whether the mesh itself refused.
func barred(t *testing.T, conn *grpc.ClientConn, method string, desc protoreflect.MethodDescriptor) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var err error
	reply := new(grpc_health_v1.HealthCheckResponse)
	if desc.IsStreamingServer() {
		err = firstMessage(ctx, conn, method, reply)
	} else {
		// The reply is not looked at: an empty message swallows any.
		err = conn.Invoke(ctx, method, empty{}, empty{}, grpc.ForceCodec(discard{}))
	}
	if status.Code(err) == codes.Unavailable {
		t.Fatalf("%s: %v", method, err)
	}
	return status.Code(err) == codes.PermissionDenied
}

func firstMessage(ctx context.Context, conn *grpc.ClientConn, method string, reply proto.Message) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&grpc_health_v1.HealthCheckRequest{}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(reply)
}

// empty and discard send no octets and forget what comes back.
type (
	empty   struct{}
	discard struct{}
)

func (discard) Marshal(any) ([]byte, error) { return nil, nil }
func (discard) Unmarshal([]byte, any) error { return nil }
func (discard) Name() string                { return "proto" }

// started returns a running stack that ends with the test.
func started(t *testing.T) *stack {
	t.Helper()
	s, err := newStack(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stopAll(); err != nil {
			t.Error(err)
		}
	})
	if err := s.start(t.Context(), services...); err != nil {
		t.Fatal(err)
	}
	return s
}

// dial connects to a server of the mesh with a peer's certificate and nothing else of ours:
// a taken peer has no use for our client.
func (s *stack) dial(t *testing.T, peer, server string) *grpc.ClientConn {
	t.Helper()
	file := func(name string) string { return filepath.Join(s.state, "mesh", name) }
	own := peer + ".estuary.internal"
	pair, err := tls.LoadX509KeyPair(file(own+".crt"), file(own+".key"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", s.ports[strings.ToUpper(server)+"_PORT"]),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: server + ".estuary.internal",
		})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
