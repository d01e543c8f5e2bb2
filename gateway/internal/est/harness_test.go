package est_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	"github.com/estuary-pki/estuary/gateway/internal/est"
	"github.com/estuary-pki/estuary/gateway/internal/facts"
	"github.com/estuary-pki/estuary/gateway/internal/problem"
	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

// goodBasic is the only credential that the fake validator accepts: dev:token.
const goodBasic = "ZGV2OnRva2Vu"

// goodTicket is the only ticket.
const goodTicket = "YIIGood="

// backend plays validator and signer. Its callbacks, where set, decide instead.
type backend struct {
	key   *ecdsa.PrivateKey
	chain [][]byte // issuing, root
	ca    *x509.Certificate

	authentications, issues atomic.Int32
	mu                      sync.Mutex // guards last
	last                    *validatorv1.AuthenticateRequest

	authenticate func(*validatorv1.AuthenticateRequest) error
	// ticket answers a good credential of Negotiate, beside the assertion; challenge one that
	// is not good.
	ticket    []byte
	challenge []byte
	issue     func(*signerv1.IssueRequest) error
	profiles  []*signerv1.ProfileFacts
	crl       []byte // DER of the revocation list
	mode      accept.Mode
	revoked   map[string]int // reasons, by serial number
}

func newBackend(t testing.TB) *backend {
	t.Helper()
	rootKey, key := ecKey(t), ecKey(t)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER := sign(t, root, root, rootKey.Public(), rootKey)
	issuing := *root
	issuing.SerialNumber, issuing.Subject = big.NewInt(2), pkix.Name{CommonName: "Issuing"}
	issuingDER := sign(t, &issuing, root, key.Public(), rootKey)
	ca, err := x509.ParseCertificate(issuingDER)
	if err != nil {
		t.Fatal(err)
	}
	return &backend{mode: accept.ModeOptional, key: key, ca: ca, chain: [][]byte{issuingDER, rootDER}, profiles: []*signerv1.ProfileFacts{
		{Label: "device", KeyTypes: []string{"p256", "rsa"}, RsaMinBits: 2048, RsaMaxBits: 4096, ChallengePassword: signerv1.ChallengePassword_CHALLENGE_PASSWORD_VERIFY},
		{Label: "bound", KeyTypes: []string{"p256"}, ChallengePassword: signerv1.ChallengePassword_CHALLENGE_PASSWORD_REQUIRE},
		{Label: "loose", KeyTypes: []string{"p256", "rsa"}, RsaMinBits: 3072, RsaMaxBits: 4096, ChallengePassword: signerv1.ChallengePassword_CHALLENGE_PASSWORD_IGNORE, CsrAttributes: []string{"1.2.840.113549.1.9.14"}},
	}}
}

func (b *backend) Authenticate(_ context.Context, r *validatorv1.AuthenticateRequest, _ ...grpc.CallOption) (*validatorv1.AuthenticateResponse, error) {
	b.authentications.Add(1)
	b.mu.Lock()
	b.last = proto.CloneOf(r)
	b.mu.Unlock()
	basic, ticket := r.GetCredential().GetBasic(), r.GetCredential().GetNegotiate()
	switch {
	case b.authenticate != nil:
		if err := b.authenticate(r); err != nil {
			return nil, err
		}
	case len(r.GetChannel().GetClientCertificates()) > 0 && r.GetChannel().GetRevocation() == 0,
		string(basic.GetToken68()) == goodBasic, string(ticket.GetToken68()) == goodTicket:
	case ticket != nil && b.challenge != nil:
		return &validatorv1.AuthenticateResponse{Outcome: &validatorv1.AuthenticateResponse_Challenge{
			Challenge: &validatorv1.Challenge{NegotiateToken: b.challenge},
		}}, nil
	default:
		return nil, fault.New(fault.Unauthenticated, "test", "the token has expired", nil)
	}
	answer := &validatorv1.AuthenticateResponse{Outcome: &validatorv1.AuthenticateResponse_Assertion{
		Assertion: &assertionv1.SealedAssertion{Payload: []byte("payload"), Signature: []byte("signature"), KeyId: "k"},
	}}
	if ticket != nil {
		answer.NegotiateToken = b.ticket
	}
	return answer, nil
}

func (b *backend) Issue(_ context.Context, r *signerv1.IssueRequest, _ ...grpc.CallOption) (*signerv1.IssueResponse, error) {
	b.issues.Add(1)
	if b.issue != nil {
		if err := b.issue(r); err != nil {
			return nil, err
		}
	}
	request, err := x509.ParseCertificateRequest(r.GetCsrDer())
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "dev"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, b.ca, request.PublicKey, b.key)
	return &signerv1.IssueResponse{CertificateDer: der}, err
}

func (b *backend) GetChain(context.Context, *signerv1.GetChainRequest, ...grpc.CallOption) (*signerv1.GetChainResponse, error) {
	return &signerv1.GetChainResponse{Certificates: b.chain}, nil
}

func (b *backend) ListProfiles(context.Context, *signerv1.ListProfilesRequest, ...grpc.CallOption) (*signerv1.ListProfilesResponse, error) {
	return &signerv1.ListProfilesResponse{Profiles: b.profiles}, nil
}

func (b *backend) received() *validatorv1.AuthenticateRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// newHandler returns the real handler before a backend.
func newHandler(t testing.TB, b *backend, floor time.Duration, log io.Writer) *est.Handler {
	t.Helper()
	logger := slog.New(slog.NewJSONHandler(log, nil))
	cache, err := facts.New(facts.Config{Authority: b, Log: logger, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	enroller, err := enroll.New(enroll.Config{Validator: b, Signer: b})
	if err != nil {
		t.Fatal(err)
	}
	refusals, err := problem.NewRefusals(floor, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h, err := est.New(est.Config{
		CRLs: func(context.Context) ([][]byte, error) {
			if b.crl == nil {
				return nil, fault.New(fault.Unavailable, "test", "there is no revocation list yet", nil)
			}
			return [][]byte{b.crl}, nil
		},
		ClientAuth: b.mode,
		Revoked: func(c *x509.Certificate) (int, bool) {
			reason, ok := b.revoked[c.SerialNumber.String()]
			return reason, ok
		},
		Labels: []est.Label{
			{Name: "device", Layout: est.LayoutAuto},
			{Name: "bound", Layout: est.LayoutAuto},
			{Name: "loose", Layout: est.LayoutLines},
			{Name: "one", Layout: est.LayoutOneline},
		},
		DefaultLabel: "device", Facts: cache, Enroller: enroller, Refusals: refusals,
		Timeout: 10 * time.Second, Log: logger, Metrics: metrics.NewSet(), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// gateway is a real listener with the real handler behind it.
type gateway struct {
	*backend
	addr   string // 127.0.0.1:port
	server *x509.Certificate
	pem    string // file of the server's certificate
	log    *buffer
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start serves with more time for a request to arrive than a busy machine needs.
func start(t testing.TB, b *backend, floor time.Duration) *gateway {
	t.Helper()
	return startReading(t, b, floor, 15*time.Second)
}

func startReading(t testing.TB, b *backend, floor, read time.Duration) *gateway {
	t.Helper()
	key := ecKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der := sign(t, template, template, key.Public(), key)
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	g := &gateway{backend: b, server: leaf, pem: filepath.Join(dir, "tls.crt"), log: &buffer{}}
	writePEM(t, g.pem, "CERTIFICATE", der)
	writePEM(t, filepath.Join(dir, "tls.key"), "PRIVATE KEY", keyDER)
	anchors, err := accept.NewAnchors(accept.AnchorsConfig{
		Authority: func() []*x509.Certificate { return []*x509.Certificate{b.ca} }, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := accept.New(accept.Config{
		ClientAuth:  accept.ClientAuth{Mode: b.mode, Anchors: anchors},
		Certificate: g.pem, Key: filepath.Join(dir, "tls.key"),
		Limits:  accept.Limits{Connections: 200, PerAddress: 200, Read: read, Request: 10 * time.Second, Idle: 10 * time.Second},
		Handler: newHandler(t, b, floor, g.log), Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return g
}

// dial connects; change may be nil.
func (g *gateway) dial(t testing.TB, change func(*tls.Config)) *tls.Conn {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(g.server)
	c := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	if change != nil {
		change(c)
	}
	conn, err := tls.Dial("tcp", g.addr, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends octets and reads one response.
func exchange(t testing.TB, conn net.Conn, request string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatalf("writing the request: %v", err)
	}
	return readResponse(t, bufio.NewReader(conn), strings.HasPrefix(request, "HEAD "))
}

func readResponse(t testing.TB, r *bufio.Reader, head bool) (*http.Response, string) {
	t.Helper()
	about := &http.Request{Method: http.MethodGet}
	if head {
		about.Method = http.MethodHead
	}
	response, err := http.ReadResponse(r, about)
	if err != nil {
		t.Fatalf("reading the response: %v", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	return response, string(body)
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// request returns the DER of a PKCS#10 request; a challenge of "" is none.
func request(t testing.TB, key crypto.Signer, challenge string) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	if challenge == "" {
		return plain
	}
	parsed, err := x509.ParseCertificateRequest(plain)
	if err != nil {
		t.Fatal(err)
	}
	var info cryptobyte.Builder
	info.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(parsed.RawSubject)
		b.AddBytes(spki)
		b.AddASN1(casn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier([]int{1, 2, 840, 113549, 1, 9, 7})
				b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(challenge)) })
				})
			})
		})
	})
	digest := sha256.Sum256(info.BytesOrPanic())
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var whole cryptobyte.Builder
	whole.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info.BytesOrPanic())
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier([]int{1, 2, 840, 10045, 4, 3, 2})
		})
		b.AddASN1BitString(signature)
	})
	return whole.BytesOrPanic()
}

func b64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }
