package issue_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/issue"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

const gateway = "gateway.test"

// spy is the authority's key; it counts how often it is used.
type spy struct {
	key.Signer
	used atomic.Int64
	// sign replaces Sign where it is set.
	sign func(ctx context.Context, tbs []byte) ([]byte, error)
}

func (s *spy) Sign(ctx context.Context, tbs []byte) ([]byte, error) {
	s.used.Add(1)
	if s.sign != nil {
		return s.sign(ctx, tbs)
	}
	return s.Signer.Sign(ctx, tbs)
}

// lab is a signer, and the validator that it believes.
type lab struct {
	t       testing.TB
	now     time.Time
	key     *spy
	caFile  string
	ca      *ca.Authority
	private ed25519.PrivateKey
	public  assertion.PublicKey
	opener  *assertion.Opener
	db      *store.DB
	ledger  *ledger.Ledger
	issuer  *issue.Issuer
	audit   *audit.Stream

	mu     sync.Mutex // guards stream
	stream bytes.Buffer
}

// Write takes the audit stream.
func (l *lab) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream.Write(p)
}

// told counts an event on the audit stream.
func (l *lab) told(event string) int {
	if err := audittest.Flush(l.audit); err != nil {
		l.t.Error(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.stream.String(), `"event":"`+event+`"`)
}

func newLab(t testing.TB, kind key.Type, concurrency int) *lab {
	t.Helper()
	l := &lab{t: t, now: time.Now().UTC().Truncate(time.Second)}
	l.makeCA(kind)
	l.makeValidator()
	l.db = storetest.Open(t, storetest.SQLite(t))
	log := slog.New(slog.DiscardHandler)
	clock := func() time.Time { return l.now }
	l.audit = audit.NewStream(l)
	var err error
	l.ledger, err = ledger.New(t.Context(), ledger.Config{
		Store: l.db, MACKey: secret.New(make([]byte, ledger.MACKeySize)), Audit: l.audit, Log: log, Instance: "signer-1", Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.issuer, err = issue.New(issue.Config{
		Authority: l.ca, Profiles: profiles(t, l.ca.Certificate), Opener: l.opener, Ledger: l.ledger, Log: log, Metrics: metrics.NewSet(),
		Concurrency: concurrency, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) makeCA(kind key.Type) {
	l.t.Helper()
	dir := l.t.TempDir()
	l.caFile = filepath.Join(dir, "ca.crt")
	files := ca.Config{Name: "ca", Certificate: config.Path(l.caFile), Key: config.Path(filepath.Join(dir, "ca.key"))}
	if _, err := ca.Init(l.t.Context(), ca.Options{Files: files, KeyType: kind, Subject: "CN=Test CA,O=Test", Now: l.now.Add(-time.Hour)}); err != nil {
		l.t.Fatal(err)
	}
	loaded, err := ca.Load(l.t.Context(), files, l.now, slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	l.key = &spy{Signer: loaded.Signer}
	if l.ca, err = ca.New("ca", loaded.Chain, l.key, l.now); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) makeValidator() {
	l.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	l.private = private
	l.public = assertion.PublicKey{
		ID: "v1", Issuer: "validator.test", Key: private.Public().(ed25519.PublicKey), NotAfter: l.now.Add(1000 * 24 * time.Hour),
		Methods: []assertionv1.Method{assertionv1.Method_METHOD_TOKEN, assertionv1.Method_METHOD_CERTIFICATE}, Realms: []string{"DEVICES"},
	}
	l.opener, err = assertion.NewOpener(assertion.OpenerConfig{
		Audience: "ca", Keys: []assertion.PublicKey{l.public}, Now: func() time.Time { return l.now },
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// renew replaces the issuer by one that has this profile alone.
func (l *lab) renew(p profile.Profile) {
	l.t.Helper()
	set, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{p}, Authority: l.ca.Certificate})
	if err != nil {
		l.t.Fatal(err)
	}
	l.issuer, err = issue.New(issue.Config{
		Authority: l.ca, Profiles: set, Opener: l.opener, Ledger: l.ledger, Log: slog.New(slog.DiscardHandler),
		Metrics: metrics.NewSet(), Now: func() time.Time { return l.now },
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func deviceProfile() profile.Profile {
	p := profile.Profile{}
	p.SetDefaults()
	p.Label, p.IdentityKinds, p.Methods, p.Realms = "device", []string{"device"}, []string{"token", "certificate"}, []string{"DEVICES"}
	p.MaxChainAge = "300d"
	return p
}

// profiles are "device" for devices, "wide" for devices whose names come from anywhere, and
// "staff" for users.
func profiles(t testing.TB, authority *x509.Certificate) *profile.Set {
	t.Helper()
	var list []profile.Profile
	for label, kind := range map[string]string{"device": "device", "ec": "device", "staff": "user"} {
		p := deviceProfile()
		p.Label, p.IdentityKinds = label, []string{kind}
		if label == "ec" {
			p.KeyTypes = []string{"p256"}
		}
		list = append(list, p)
	}
	set, err := profile.NewSet(profile.Config{
		Profiles: list, Authority: authority,
		Protected: profile.Protected{Principals: []string{"admin"}, Names: []string{"dns:ipa.test"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(t testing.TB, k crypto.Signer, names ...string) []byte {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-7"}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, n)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// assertion is what an honest validator says of a request.
func (l *lab) assertion(der []byte) *assertionv1.Assertion {
	l.t.Helper()
	r, err := csr.Parse(der)
	if err != nil {
		l.t.Fatal(err)
	}
	csrHash, spkiHash := r.SHA256(), r.SPKISHA256()
	id, token := make([]byte, 16), rand.Text()
	_, _ = rand.Read(id)
	return &assertionv1.Assertion{
		Version: 1, AssertionId: id, Issuer: "validator.test", Audience: "ca", Gateway: gateway,
		IssuedAt: timestamppb.New(l.now), NotAfter: timestamppb.New(l.now.Add(time.Minute)),
		Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "device",
		CsrSha256: csrHash[:], SpkiSha256: spkiHash[:],
		Identity: &assertionv1.Identity{Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "DEVICES", Principal: "pump-7"},
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_TOKEN, Indicators: []string{"token"}, VerifiedAt: timestamppb.New(l.now),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE, ClientAddress: "192.0.2.7", Backend: "token",
		},
		Token: &assertionv1.EnrolmentToken{Id: token, AllowedNames: []string{"dns:pump-7.test", "ip:192.0.2.7"}},
		Spend: &assertionv1.Spend{Ids: [][]byte{[]byte("token:" + token)}, Limit: 1, KeepUntil: timestamppb.New(l.now.Add(time.Hour))},
	}
}

// seal signs whatever it is given: a taken validator does not ask whether it is sensible.
func (l *lab) seal(payload []byte) *assertionv1.SealedAssertion {
	signed := append([]byte("estuary/identity-assertion/v1\x00"), payload...)
	return &assertionv1.SealedAssertion{Payload: payload, Signature: ed25519.Sign(l.private, signed), KeyId: "v1"}
}

func (l *lab) sealed(a *assertionv1.Assertion) *assertionv1.SealedAssertion {
	l.t.Helper()
	payload, err := proto.Marshal(a)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.seal(payload)
}

// ask returns a good request for a new key.
func (l *lab) ask(names ...string) *signerv1.IssueRequest {
	l.t.Helper()
	der := request(l.t, newKey(l.t), names...)
	return &signerv1.IssueRequest{Assertion: l.sealed(l.assertion(der)), CsrDer: der}
}

// issue does what serve does.
func (l *lab) issue(ctx context.Context, peer string, r *signerv1.IssueRequest) (issue.Certificate, error) {
	p, err := l.issuer.Prepare(ctx, peer, r)
	if err != nil {
		return issue.Certificate{}, err
	}
	return l.issuer.Issue(ctx, p)
}

func (l *lab) entries(state int) (n int) {
	l.t.Helper()
	err := l.db.Read(l.t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM entry WHERE state = $1 OR $1 = 0", state).Scan(&n)
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}
