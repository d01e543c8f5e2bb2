package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/issue"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
	"github.com/estuary-pki/estuary/signer/internal/serve"
)

// fickle is a key that can be told to fail; it counts its uses.
type fickle struct {
	key.Signer

	mu   sync.Mutex // guards the rest
	fail error
	used int
}

func (f *fickle) Sign(ctx context.Context, tbs []byte) ([]byte, error) {
	f.mu.Lock()
	f.used++
	err := f.fail
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.Signer.Sign(ctx, tbs)
}

func (f *fickle) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fickle) uses() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// lab is a signer on a mesh.
type lab struct {
	t         *testing.T
	ca        *ca.Authority
	key       *fickle
	validator assertion.SigningKey
	db        *store.DB
	server    *serve.Server
	gateway   *grpc.ClientConn
	admin     *grpc.ClientConn

	mu  sync.Mutex // guards now
	now time.Time
}

func (l *lab) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, now: time.Now().UTC().Truncate(time.Second), db: storetest.Open(t, storetest.SQLite(t))}
	log := slog.New(slog.DiscardHandler)
	l.makeCA(log)
	opener := l.makeValidator()
	p := profile.Profile{}
	p.SetDefaults()
	p.Label, p.IdentityKinds, p.Methods, p.Realms = "device", []string{"device"}, []string{"token"}, []string{"DEVICES"}
	profiles := must[*profile.Set](t)(profile.NewSet(profile.Config{Profiles: []profile.Profile{p}, Authority: l.ca.Certificate}))
	book := must[*ledger.Ledger](t)(ledger.New(t.Context(), ledger.Config{
		Store: l.db, MACKey: secret.New(make([]byte, ledger.MACKeySize)), Audit: audit.NewStream(io.Discard), Log: log, Instance: "signer-1", Now: l.clock,
	}))
	issuer := must[*issue.Issuer](t)(issue.New(issue.Config{
		Authority: l.ca, Profiles: profiles, Opener: opener, Ledger: book, Log: log, Metrics: metrics.NewSet(), Now: l.clock,
	}))
	l.server = must[*serve.Server](t)(serve.New(serve.Config{
		ListLife: 24 * time.Hour, StatusLife: time.Hour,
		Issuer: issuer, Ledger: book, Authorities: []serve.Authority{{Authority: l.ca, PublishedAs: "ca"}}, Profiles: profiles, Log: log, Now: l.clock,
	}))
	running := meshtest.New(t).Serve(t, meshtest.ServeConfig{Name: meshtest.Signer, Register: l.server.Register, Allow: map[string][]string{
		"estuary.signer.v1.Issuer":      {meshtest.Gateway},
		"estuary.signer.v1.Authority":   {meshtest.Gateway, meshtest.Admin},
		"estuary.signer.v1.LedgerAdmin": {meshtest.Admin},
	}})
	l.gateway, l.admin = running.Dial(t, meshtest.Gateway), running.Dial(t, meshtest.Admin)
	return l
}

func (l *lab) makeCA(log *slog.Logger) {
	l.t.Helper()
	dir := l.t.TempDir()
	files := ca.Config{Name: "ca", Certificate: config.Path(filepath.Join(dir, "ca.crt")), Key: config.Path(filepath.Join(dir, "ca.key"))}
	options := ca.Options{Files: files, KeyType: key.P256, Subject: "CN=Test CA,O=Test", Now: l.now.Add(-time.Hour)}
	must[*x509.Certificate](l.t)(ca.Init(l.t.Context(), options))
	loaded := must[*ca.Authority](l.t)(ca.Load(l.t.Context(), files, l.now, log))
	l.key = &fickle{Signer: loaded.Signer}
	l.ca = must[*ca.Authority](l.t)(ca.New("ca", loaded.Chain, l.key, l.now))
}

func (l *lab) makeValidator() *assertion.Opener {
	l.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	l.validator = must[assertion.SigningKey](l.t)(assertion.NewSigningKey("v1", private))
	return must[*assertion.Opener](l.t)(assertion.NewOpener(assertion.OpenerConfig{Audience: "ca", Now: l.clock, Keys: []assertion.PublicKey{{
		ID: "v1", Issuer: meshtest.Validator, Key: l.validator.Public(), NotAfter: l.now.Add(1000 * time.Hour),
		Methods: []assertionv1.Method{assertionv1.Method_METHOD_TOKEN}, Realms: []string{"DEVICES"},
	}}}))
}

// ask returns a good request by the device of that name, with a token of its own.
func (l *lab) ask(principal string) *signerv1.IssueRequest {
	l.t.Helper()
	k := must[*ecdsa.PrivateKey](l.t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := must[[]byte](l.t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: principal}}, k))
	r := must[*csr.Request](l.t)(csr.Parse(der))
	csrHash, spkiHash := r.SHA256(), r.SPKISHA256()
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	now := timestamppb.New(l.clock())
	return &signerv1.IssueRequest{CsrDer: der, Assertion: must[*assertionv1.SealedAssertion](l.t)(assertion.Seal(&assertionv1.Assertion{
		Version: 1, AssertionId: id, Issuer: meshtest.Validator, Audience: "ca", Gateway: meshtest.Gateway,
		IssuedAt: now, NotAfter: timestamppb.New(l.clock().Add(time.Minute)),
		Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "device", CsrSha256: csrHash[:], SpkiSha256: spkiHash[:],
		Identity: &assertionv1.Identity{Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "DEVICES", Principal: principal},
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_TOKEN, VerifiedAt: now, ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE,
		},
		Token: &assertionv1.EnrolmentToken{Id: principal},
		Spend: &assertionv1.Spend{Ids: [][]byte{[]byte("token:" + principal)}, Limit: 1, KeepUntil: timestamppb.New(l.clock().Add(time.Hour))},
	}, l.validator))}
}
