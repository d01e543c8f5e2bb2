package serve_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/attest"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
	"github.com/estuary-pki/estuary/validator/internal/serve"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/internal/throttle/throttletest"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

const realm = "LAB.TEST"

// world is a whole validator behind a real mesh, put together as the command does.
type world struct {
	server  *meshtest.Server
	ca      *certpathtest.Holder // whose certificates the label "renewals" accepts
	stream  *audit.Stream        // to out
	db      *store.DB
	path    string // of the database
	set     *metrics.Set
	public  ed25519.PublicKey
	out     buffer // log at debug level and audit stream
	authn   validatorv1.AuthenticatorClient
	admin   validatorv1.TokenAdminClient
	mu      sync.Mutex
	hangUp  func()        // guarded by mu; called at the third next look at the clock
	looks   int           // guarded by mu; since hangUp was set
	elapsed time.Duration // guarded by mu; how far the validator's clock is ahead
}

type options struct {
	algorithm token.Algorithm
	match     token.Match
	off       bool // tokens switched off
	limits    func(*throttle.Config)
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looks++; w.hangUp != nil && w.looks == 3 {
		w.hangUp()
	}
	return time.Now().Add(w.elapsed)
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.elapsed += d
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	if o.algorithm == "" {
		o.algorithm, o.match = token.SHA256HMAC, token.MatchIfPresent
	}
	url := storetest.SQLite(t)
	w := &world{ca: certpathtest.Issue(t, nil, nil, certpathtest.Authority), db: storetest.Open(t, url), path: strings.TrimPrefix(url, "sqlite:"), set: metrics.NewSet()}
	w.stream = audit.NewStream(&w.out)
	log := slog.New(slog.NewJSONHandler(&w.out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	st := must(state.New(t.Context(), state.Config{
		DB: w.db, MACKey: secret.New(make([]byte, state.MACKeySize)), Stream: w.stream, Log: log,
	}))(t)
	var hasher *token.Hasher
	var checker *token.Checker
	if !o.off {
		hasher = must(token.NewHasher(secret.New(make([]byte, token.KeySize)), o.algorithm))(t)
		checker = must(token.NewChecker(token.CheckerConfig{State: st, Hasher: hasher, Match: o.match, Now: w.now}))(t)
	}
	limits := must(throttletest.New(st, o.limits))(t)
	auth := must(authn.New(authn.Config{
		Labels: map[string]authn.Rule{
			"devices": {Basic: authn.BasicToken, Check: authn.CheckNone},
			"tickets": {Basic: authn.BasicNone, Negotiate: true, Check: authn.CheckNone},
			"renewals": {
				Basic: authn.BasicToken, Check: authn.CheckNone, Certificates: clientcert.Rule{Authorities: []string{clientcert.Own}},
			},
		},
		Certificates: must(clientcert.New(clientcert.Config{Authority: certpathtest.File(t, w.ca), Log: log, Metrics: w.set}))(t),
		Realm:        realm, Tokens: checker, Throttle: limits, Now: w.now,
		Kerberos: acceptor(t), Skew: skew, State: st,
	}))(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.public = public
	maker := must(attest.New(attest.Config{
		Key: must(assertion.NewSigningKey("validator-1", private))(t), Issuer: meshtest.Validator, Audience: "Lab CA", Now: w.now,
	}))(t)
	authenticator := must(serve.NewAuthenticator(serve.AuthenticatorConfig{
		Authn: auth, Attest: maker, State: st, Log: log, Metrics: w.set, Now: w.now,
	}))(t)
	admin := must(serve.NewTokenAdmin(serve.TokenAdminConfig{
		State: st, Hasher: hasher, Octets: 20, MaxUses: 2, Validity: time.Hour, Realm: realm, Log: log, Now: w.now,
	}))(t)
	refusals := must(serve.Refusals(st, log, w.now))(t)
	server := meshtest.New(t).Serve(t, meshtest.ServeConfig{
		Name: meshtest.Validator, Log: log, Metrics: w.set, Audit: refusals,
		Allow: map[string][]string{
			validatorv1.Authenticator_ServiceDesc.ServiceName: {meshtest.Gateway},
			validatorv1.TokenAdmin_ServiceDesc.ServiceName:    {meshtest.Admin},
		},
		Register: func(r grpc.ServiceRegistrar) {
			validatorv1.RegisterAuthenticatorServer(r, hasty{authenticator, w})
			validatorv1.RegisterTokenAdminServer(r, admin)
		},
	})
	w.server = server
	w.authn = validatorv1.NewAuthenticatorClient(server.Dial(t, meshtest.Gateway))
	w.admin = validatorv1.NewTokenAdminClient(server.Dial(t, meshtest.Admin))
	return w
}

// hasty is the service with a caller who hangs up when the request id says so, when the
// validator looks at the clock for the third time: behind the last look into the database.
type hasty struct {
	validatorv1.AuthenticatorServer
	w *world
}

func (h hasty) Authenticate(ctx context.Context, req *validatorv1.AuthenticateRequest) (*validatorv1.AuthenticateResponse, error) {
	if mesh.RequestID(ctx) != hangsUp {
		return h.AuthenticatorServer.Authenticate(ctx, req)
	}
	ctx, cancel := context.WithCancel(ctx)
	h.w.mu.Lock()
	h.w.hangUp, h.w.looks = cancel, 0
	h.w.mu.Unlock()
	resp, err := h.AuthenticatorServer.Authenticate(ctx, req)
	if ctx.Err() == nil {
		return nil, errors.New("nobody looked at the clock often enough")
	}
	return resp, err
}

// hangsUp is the request id of a caller who does.
const hangsUp = "hangs-up"

// told returns the log and the audit stream.
func (w *world) told(t *testing.T) string {
	t.Helper()
	if err := audittest.Flush(w.stream); err != nil {
		t.Error(err)
	}
	return w.out.String()
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// buffer is a bytes.Buffer for many goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
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

func newCSR(t *testing.T) *csr.Request {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return must(csr.Parse(der))(t)
}

// request is an attempt with HTTP Basic under the label "devices".
func request(t *testing.T, content string, r *csr.Request) *validatorv1.AuthenticateRequest {
	t.Helper()
	return &validatorv1.AuthenticateRequest{
		Channel: &validatorv1.Channel{ClientAddress: "192.0.2.7", TlsVersion: 0x0304},
		Credential: &validatorv1.Credential{Kind: &validatorv1.Credential_Basic{Basic: &validatorv1.BasicCredential{
			Token68: []byte(base64.StdEncoding.EncodeToString([]byte(content))),
		}}},
		CsrDer: r.DER(), Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "devices",
	}
}

// create makes a token through the admin call.
func (w *world) create(t *testing.T, req *validatorv1.CreateTokenRequest) *validatorv1.CreateTokenResponse {
	t.Helper()
	if req.GetClientId() == "" {
		req.ClientId = "pump-7"
	}
	return must(w.admin.CreateToken(t.Context(), req))(t)
}

// records returns the audit records of the event, oldest first.
func (w *world) records(t *testing.T, event string) (found []audit.Record) {
	t.Helper()
	err := w.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		rows, err := tx.Query(ctx, `SELECT record FROM audit_record ORDER BY seq`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for found = nil; rows.Next(); {
			var text string
			var r audit.Record
			if err := rows.Scan(&text); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				return err
			}
			if r.Event == event {
				found = append(found, r)
			}
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
