package admin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
	"github.com/estuary-pki/estuary/gateway/internal/config"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

var noon = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

// fakes is the validator and the signer. A nil callback fails the test that reaches it.
type fakes struct {
	validatorv1.UnimplementedTokenAdminServer
	signerv1.UnimplementedLedgerAdminServer
	create func(*validatorv1.CreateTokenRequest) (*validatorv1.CreateTokenResponse, error)
	list   func(*validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error)
	revoke func(*validatorv1.RevokeTokenRequest) (*validatorv1.RevokeTokenResponse, error)
	certs  func(*signerv1.ListCertificatesRequest) (*signerv1.ListCertificatesResponse, error)
	end    func(*signerv1.RevokeCertificateRequest) (*signerv1.RevokeCertificateResponse, error)
	cert   func(*signerv1.GetCertificateRequest) (*signerv1.GetCertificateResponse, error)
	count  func(*signerv1.CountUsesRequest) (*signerv1.CountUsesResponse, error)

	mu         sync.Mutex
	requestIDs []string // guarded by mu; of every call that arrived
}

func reach[A, B any](ctx context.Context, f *fakes, call func(A) (B, error), ask A) (B, error) {
	f.mu.Lock()
	f.requestIDs = append(f.requestIDs, mesh.RequestID(ctx))
	f.mu.Unlock()
	if call == nil {
		var none B
		return none, errors.New("this call was not to be made")
	}
	return call(ask)
}

func (f *fakes) calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requestIDs...)
}

func (f *fakes) CreateToken(ctx context.Context, r *validatorv1.CreateTokenRequest) (*validatorv1.CreateTokenResponse, error) {
	return reach(ctx, f, f.create, r)
}

func (f *fakes) ListTokens(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
	return reach(ctx, f, f.list, r)
}

func (f *fakes) RevokeToken(ctx context.Context, r *validatorv1.RevokeTokenRequest) (*validatorv1.RevokeTokenResponse, error) {
	return reach(ctx, f, f.revoke, r)
}

func (f *fakes) ListCertificates(ctx context.Context, r *signerv1.ListCertificatesRequest) (*signerv1.ListCertificatesResponse, error) {
	return reach(ctx, f, f.certs, r)
}

func (f *fakes) GetCertificate(ctx context.Context, r *signerv1.GetCertificateRequest) (*signerv1.GetCertificateResponse, error) {
	return reach(ctx, f, f.cert, r)
}

func (f *fakes) RevokeCertificate(ctx context.Context, r *signerv1.RevokeCertificateRequest) (*signerv1.RevokeCertificateResponse, error) {
	return reach(ctx, f, f.end, r)
}

func (f *fakes) CountUses(ctx context.Context, r *signerv1.CountUsesRequest) (*signerv1.CountUsesResponse, error) {
	return reach(ctx, f, f.count, r)
}

// auditor keeps records; full makes it fail as a full disk would.
type auditor struct {
	mu      sync.Mutex
	records []audit.Record // guarded by mu
	full    bool           // guarded by mu
}

func (a *auditor) Tell(r audit.Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full {
		return errors.New("no space left on device")
	}
	a.records = append(a.records, r)
	return nil
}

func (a *auditor) setFull(full bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.full = full
}

// take returns the records since the last call.
func (a *auditor) take() []audit.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.records
	a.records = nil
	return taken
}

// rig is a running admin API between a client and the fakes.
type rig struct {
	*fakes
	audit             *auditor
	ca                *meshtest.CA // of the API and of administrators
	url               string
	api               config.AdminAPI
	config            admin.Config
	full, reader      string // bearer tokens: with every scope, and with otp:read alone
	validator, signer *meshtest.Server
	stop              context.CancelFunc
	stopped           chan error
}

// start runs an API that takes bearer tokens and the certificate of alice.test; change
// alters its configuration.
func start(t *testing.T, change func(*config.AdminAPI)) *rig {
	t.Helper()
	r := &rig{fakes: &fakes{}, audit: &auditor{}, ca: meshtest.New(t), stopped: make(chan error, 1)}
	own := r.ca.Cert(t, "localhost")
	r.api = config.AdminAPI{Listen: "localhost:9443", TLS: config.AdminTLS{
		Certificate: own.Certificate, Key: own.Key, ClientCA: own.CA, ClientNames: []string{"alice.test"},
	}}
	r.full = r.addToken(t, "full", config.Scopes()...)
	r.reader = r.addToken(t, "reader", config.ScopeOTPRead)
	if change != nil {
		change(&r.api)
	}
	inner := meshtest.New(t)
	r.validator = inner.Serve(t, meshtest.ServeConfig{
		Name:     meshtest.Validator,
		Allow:    map[string][]string{"estuary.validator.v1.TokenAdmin": {meshtest.Admin}},
		Register: func(s grpc.ServiceRegistrar) { validatorv1.RegisterTokenAdminServer(s, r.fakes) },
	})
	r.signer = inner.Serve(t, meshtest.ServeConfig{
		Name:     meshtest.Signer,
		Allow:    map[string][]string{"estuary.signer.v1.LedgerAdmin": {meshtest.Admin}},
		Register: func(s grpc.ServiceRegistrar) { signerv1.RegisterLedgerAdminServer(s, r.fakes) },
	})
	toValidator, toSigner := r.validator.Dial(t, meshtest.Admin), r.signer.Dial(t, meshtest.Admin)
	r.config = admin.Config{
		API:             r.api,
		Tokens:          validatorv1.NewTokenAdminClient(toValidator),
		Ledger:          signerv1.NewLedgerAdminClient(toSigner),
		ValidatorHealth: healthv1.NewHealthClient(toValidator),
		SignerHealth:    healthv1.NewHealthClient(toSigner),
		Audit:           r.audit,
		Log:             slog.New(slog.DiscardHandler),
		Metrics:         metrics.NewSet(),
		Now:             func() time.Time { return noon },
	}
	server, err := admin.New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	ln := meshtest.Listen(t)
	r.url = "https://" + ln.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.stopped <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-r.stopped; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return r
}

// addToken lets a new bearer token in.
func (r *rig) addToken(t *testing.T, description string, scopes ...config.Scope) string {
	t.Helper()
	token, text := admin.NewBearerToken()
	var hash config.TokenHash
	if err := hash.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	r.api.BearerToken.Tokens = append(r.api.BearerToken.Tokens,
		config.AdminToken{TokenHash: hash, Description: description, Scopes: scopes})
	return token
}

// client returns an HTTP client, with the certificate files of own if there are any.
func (r *rig) client(t *testing.T, own *mesh.Config) *http.Client {
	t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	c.RootCAs.AppendCertsFromPEM(r.ca.PEM())
	if own != nil {
		pair, err := tls.LoadX509KeyPair(string(own.Certificate), string(own.Key))
		if err != nil {
			t.Fatal(err)
		}
		// Presented whatever authorities the server names.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: c}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// object returns the body, which has to be a JSON object.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(a.body), &o); err != nil {
		t.Fatalf("%q: %v", a.body, err)
	}
	return o
}

// ask sends a request, as the holder of bearer unless that is empty.
func (r *rig) ask(t *testing.T, method, path, bearer, body string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	return send(t, r.client(t, nil), request)
}

// answers tells whether the API answers the client at all.
func answers(client *http.Client, url string) bool {
	response, err := client.Get(url + "/admin/health")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return true
}

func send(t *testing.T, client *http.Client, request *http.Request) answer {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}
