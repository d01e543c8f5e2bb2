package attest_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/validator/internal/attest"
	"github.com/estuary-pki/estuary/validator/internal/authn"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 5000, time.UTC)

func newRequest(t *testing.T) *csr.Request {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func proof() authn.Proof {
	return authn.Proof{
		Identity: &assertionv1.Identity{
			Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "LAB.TEST", Principal: "pump-7",
		},
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_TOKEN, VerifiedAt: timestamppb.New(now),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE,
		},
		Token: &assertionv1.EnrolmentToken{Id: "the-id"},
		Spend: &assertionv1.Spend{Ids: [][]byte{[]byte("token:the-id")}, Limit: 1, KeepUntil: timestamppb.New(now)},
	}
}

func newMaker(t *testing.T, clock time.Time) (*attest.Maker, ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := assertion.NewSigningKey("validator-1", private)
	if err != nil {
		t.Fatal(err)
	}
	m, err := attest.New(attest.Config{
		Key: key, Issuer: "validator.estuary.internal", Audience: "Lab CA", Now: func() time.Time { return clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, public
}

// What is sealed here is what the signer's own code believes, field for field.
func TestSeal(t *testing.T) {
	m, public := newMaker(t, now)
	request, p := newRequest(t), proof()
	sealed, err := m.Seal(attest.Request{
		Gateway: "gateway.estuary.internal", Operation: assertionv1.Operation_OPERATION_REENROLL, Label: "devices", CSR: request,
	}, p)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := assertion.NewOpener(assertion.OpenerConfig{
		Audience: "Lab CA", Now: func() time.Time { return now.Add(59 * time.Second) },
		Keys: []assertion.PublicKey{{
			ID: "validator-1", Issuer: "validator.estuary.internal", Key: public, NotAfter: now.Add(time.Hour),
			Methods: []assertionv1.Method{assertionv1.Method_METHOD_TOKEN}, Realms: []string{"LAB.TEST"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	verified, err := opener.Open(sealed.Message, assertion.Expect{
		Gateway: "gateway.estuary.internal", CSRSHA256: request.SHA256(), SPKISHA256: request.SPKISHA256(),
	})
	if err != nil {
		t.Fatal(err)
	}
	csrHash, keyHash := request.SHA256(), request.SPKISHA256()
	want := &assertionv1.Assertion{
		Version: 1, AssertionId: sealed.ID, Issuer: "validator.estuary.internal", Audience: "Lab CA",
		Gateway: "gateway.estuary.internal", IssuedAt: timestamppb.New(now), NotAfter: timestamppb.New(now.Add(time.Minute)),
		Operation: assertionv1.Operation_OPERATION_REENROLL, Label: "devices", CsrSha256: csrHash[:], SpkiSha256: keyHash[:],
		Identity: p.Identity, Authentication: p.Authentication, Token: p.Token, Spend: p.Spend,
	}
	if diff := cmp.Diff(want, verified.Message(), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEveryAssertionHasItsOwnID(t *testing.T) {
	m, _ := newMaker(t, now)
	request := attest.Request{Gateway: "g", Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "l", CSR: newRequest(t)}
	a, errA := m.Seal(request, proof())
	b, errB := m.Seal(request, proof())
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if len(a.ID) != 16 || bytes.Equal(a.ID, b.ID) || bytes.Equal(a.ID, make([]byte, 16)) {
		t.Errorf("ids %x and %x", a.ID, b.ID)
	}
}

// A clock set back between proof and assertion must not make an assertion that no signer
// accepts.
func TestClockSetBack(t *testing.T) {
	m, _ := newMaker(t, now.Add(-time.Second))
	request := attest.Request{Gateway: "g", Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "l", CSR: newRequest(t)}
	if _, err := m.Seal(request, proof()); err != nil {
		t.Error(err)
	}
}

func TestIncomplete(t *testing.T) {
	m, _ := newMaker(t, now)
	good := attest.Request{Gateway: "g", Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "l", CSR: newRequest(t)}
	for name, change := range map[string]func(*attest.Request, *authn.Proof){
		"gateway":   func(r *attest.Request, _ *authn.Proof) { r.Gateway = "" },
		"operation": func(r *attest.Request, _ *authn.Proof) { r.Operation = 0 },
		"label":     func(r *attest.Request, _ *authn.Proof) { r.Label = "" },
		"identity":  func(_ *attest.Request, p *authn.Proof) { p.Identity = nil },
		"spend":     func(_ *attest.Request, p *authn.Proof) { p.Spend = nil },
		"token":     func(_ *attest.Request, p *authn.Proof) { p.Token = nil },
	} {
		r, p := good, proof()
		change(&r, &p)
		if _, err := m.Seal(r, p); err == nil {
			t.Errorf("sealed without %s", name)
		}
	}
	for i, c := range []attest.Config{
		{Issuer: "i", Audience: "a", Now: time.Now},
		{},
	} {
		if _, err := attest.New(c); err == nil {
			t.Errorf("case %d was made", i)
		}
	}
}
