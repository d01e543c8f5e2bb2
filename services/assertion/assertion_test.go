package assertion_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/fault"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type lab struct {
	key    assertion.SigningKey
	public assertion.PublicKey
	opener *assertion.Opener
	want   assertion.Expect
}

func newLab(t testing.TB) *lab {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{want: assertion.Expect{
		Gateway: "gateway.test", CSRSHA256: sha256.Sum256([]byte("csr")), SPKISHA256: sha256.Sum256([]byte("spki")),
	}}
	if l.key, err = assertion.NewSigningKey("v1", private); err != nil {
		t.Fatal(err)
	}
	l.public = assertion.PublicKey{
		ID: "v1", Issuer: "validator.test", Key: l.key.Public(), NotAfter: now.Add(24 * time.Hour),
		Methods: []assertionv1.Method{assertionv1.Method_METHOD_TOKEN}, Realms: []string{"DEVICES"},
	}
	l.opener, err = assertion.NewOpener(assertion.OpenerConfig{
		Audience: "ca", Keys: []assertion.PublicKey{l.public}, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) assertion() *assertionv1.Assertion {
	return &assertionv1.Assertion{
		Version: 1, AssertionId: make([]byte, 16), Issuer: "validator.test", Audience: "ca", Gateway: "gateway.test",
		IssuedAt: timestamppb.New(now), NotAfter: timestamppb.New(now.Add(time.Minute)),
		Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "device",
		CsrSha256: l.want.CSRSHA256[:], SpkiSha256: l.want.SPKISHA256[:],
		Identity: &assertionv1.Identity{Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "DEVICES", Principal: "pump-7"},
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_TOKEN, Indicators: []string{"token"}, VerifiedAt: timestamppb.New(now),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE,
		},
		Token: &assertionv1.EnrolmentToken{Id: "t1"},
		Spend: &assertionv1.Spend{Ids: [][]byte{[]byte("token:t1")}, Limit: 1, KeepUntil: timestamppb.New(now.Add(time.Hour))},
	}
}

// sealAnyway signs what Seal would refuse: a taken validator does not call Seal.
func sealAnyway(t *testing.T, private ed25519.PrivateKey, payload []byte) *assertionv1.SealedAssertion {
	t.Helper()
	signature := ed25519.Sign(private, append([]byte("estuary/identity-assertion/v1\x00"), payload...))
	return &assertionv1.SealedAssertion{Payload: payload, Signature: signature, KeyId: "v1"}
}

func TestSealAndOpen(t *testing.T) {
	l := newLab(t)
	sealed, err := assertion.Seal(l.assertion(), l.key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := l.opener.Open(sealed, l.want)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(v.Message(), l.assertion()) || v.KeyID() != "v1" || string(v.Payload()) != string(sealed.GetPayload()) {
		t.Error("what was opened is not what was sealed")
	}
	sealed.Payload[0] ^= 1
	if string(v.Payload()) == string(sealed.GetPayload()) {
		t.Error("a Verified changes with the message that it came in")
	}
}

// Every octet of what travels matters.
func TestAlteredAnywhere(t *testing.T) {
	l := newLab(t)
	good, err := assertion.Seal(l.assertion(), l.key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good.GetPayload() {
		for _, flip := range []byte{1, 0x80} {
			s := proto.CloneOf(good)
			s.Payload[i] ^= flip
			mustRefuse(t, l, s, "payload altered")
		}
	}
	for i := range good.GetSignature() {
		s := proto.CloneOf(good)
		s.Signature[i] ^= 1
		mustRefuse(t, l, s, "signature altered")
	}
	for _, s := range []*assertionv1.SealedAssertion{
		nil,
		{},
		{KeyId: "v1"},
		{Payload: good.GetPayload(), Signature: good.GetSignature(), KeyId: "v2"},
		{Payload: good.GetPayload(), Signature: good.GetSignature()[:63], KeyId: "v1"},
		{Payload: append(good.GetPayload(), 0), Signature: good.GetSignature(), KeyId: "v1"},
	} {
		mustRefuse(t, l, s, "defective")
	}
}

func mustRefuse(t *testing.T, l *lab, s *assertionv1.SealedAssertion, what string) {
	t.Helper()
	_, err := l.opener.Open(s, l.want)
	if !errors.Is(err, fault.Internal) || fault.Public(err) != fault.Public(fault.Internal) {
		t.Errorf("%s: %v", what, err)
	}
}

// mutations are statements that no signer may believe, each with a word of the reason.
var mutations = []struct {
	name, reason string
	change       func(a *assertionv1.Assertion)
}{
	{"version 0", "version", func(a *assertionv1.Assertion) { a.Version = 0 }},
	{"version 2", "version", func(a *assertionv1.Assertion) { a.Version = 2 }},
	{"short id", "assertion_id", func(a *assertionv1.Assertion) { a.AssertionId = make([]byte, 15) }},
	{"no issuer", "issuer", func(a *assertionv1.Assertion) { a.Issuer = "" }},
	{"no audience", "audience", func(a *assertionv1.Assertion) { a.Audience = "" }},
	{"no gateway", "gateway", func(a *assertionv1.Assertion) { a.Gateway = "" }},
	{"no label", "label", func(a *assertionv1.Assertion) { a.Label = "" }},
	{"no operation", "operation", func(a *assertionv1.Assertion) { a.Operation = 0 }},
	{"new operation", "operation", func(a *assertionv1.Assertion) { a.Operation = 99 }},
	{"no csr hash", "csr_sha256", func(a *assertionv1.Assertion) { a.CsrSha256 = nil }},
	{"no spki hash", "spki_sha256", func(a *assertionv1.Assertion) { a.SpkiSha256 = nil }},
	{"no issued_at", "issued_at", func(a *assertionv1.Assertion) { a.IssuedAt = nil }},
	{"broken not_after", "not_after", func(a *assertionv1.Assertion) { a.NotAfter = &timestamppb.Timestamp{Nanos: -1} }},
	{"no life", "not after issued_at", func(a *assertionv1.Assertion) { a.NotAfter = a.IssuedAt }},
	{"long life", "longer", func(a *assertionv1.Assertion) { a.NotAfter = timestamppb.New(now.Add(61 * time.Second)) }},
	{"no proof time", "verified_at", func(a *assertionv1.Assertion) { a.Authentication.VerifiedAt = nil }},
	{"proof after", "verified_at", func(a *assertionv1.Assertion) { a.Authentication.VerifiedAt = timestamppb.New(now.Add(time.Second)) }},
	{"proof old", "old", func(a *assertionv1.Assertion) {
		a.Authentication.VerifiedAt = timestamppb.New(now.Add(-7 * time.Minute))
	}},
	{"ticket without login", "time of login", func(a *assertionv1.Assertion) {
		a.Authentication.Method, a.Token = assertionv1.Method_METHOD_NEGOTIATE, nil
	}},
	{"login without ticket", "time of login", func(a *assertionv1.Assertion) { a.Authentication.LoginTime = a.GetAuthentication().GetVerifiedAt() }},
	{"login to come", "login_time is after verified_at", func(a *assertionv1.Assertion) {
		a.Authentication.Method, a.Token = assertionv1.Method_METHOD_NEGOTIATE, nil
		a.Authentication.LoginTime = timestamppb.New(a.GetAuthentication().GetVerifiedAt().AsTime().Add(5*time.Minute + time.Second))
	}},
	{"broken login time", "login_time", func(a *assertionv1.Assertion) { a.Authentication.LoginTime = &timestamppb.Timestamp{Nanos: -1} }},
	{"no identity", "kind", func(a *assertionv1.Assertion) { a.Identity = nil }},
	{"no realm", "realm", func(a *assertionv1.Assertion) { a.Identity.Realm = "" }},
	{"no principal", "principal", func(a *assertionv1.Assertion) { a.Identity.Principal = "" }},
	{"unknown kind", "kind", func(a *assertionv1.Assertion) { a.Identity.Kind = 77 }},
	{"no authentication", "verified_at", func(a *assertionv1.Assertion) { a.Authentication = nil }},
	{"no method", "method", func(a *assertionv1.Assertion) { a.Authentication.Method = 0 }},
	{"no binding", "channel binding", func(a *assertionv1.Assertion) { a.Authentication.ChannelBinding = 0 }},
	{"no token", "token", func(a *assertionv1.Assertion) { a.Token = nil }},
	{"token without id", "token", func(a *assertionv1.Assertion) { a.Token.Id = "" }},
	{"token of another method", "token", func(a *assertionv1.Assertion) {
		a.Authentication.Method = assertionv1.Method_METHOD_LDAP_OTP
	}},
	{"short key binding", "required_spki", func(a *assertionv1.Assertion) { a.Token.RequiredSpkiSha256 = []byte{1} }},
	{"half a certificate", "presented", func(a *assertionv1.Assertion) { a.PresentedCertificate = &assertionv1.PresentedCertificate{} }},
	{"no spend", "spends nothing", func(a *assertionv1.Assertion) { a.Spend = nil }},
	{"spend without ids", "spends nothing", func(a *assertionv1.Assertion) { a.Spend.Ids = nil }},
	{"spend limit 0", "limit", func(a *assertionv1.Assertion) { a.Spend.Limit = 0 }},
	{"spend without end", "keep_until", func(a *assertionv1.Assertion) { a.Spend.KeepUntil = nil }},
	{"empty spend id", "spend id", func(a *assertionv1.Assertion) { a.Spend.Ids = [][]byte{{}} }},
	{"spend of another method", "another method's", func(a *assertionv1.Assertion) { a.Spend.Ids = [][]byte{[]byte("certificate:x")} }},
	{"long spend id", "spend id", func(a *assertionv1.Assertion) { a.Spend.Ids = [][]byte{make([]byte, 65)} }},
}

func TestIncomplete(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.public.Key = private.Public().(ed25519.PublicKey)
	l.public.Methods = append(l.public.Methods, assertionv1.Method_METHOD_LDAP_OTP, 0)
	l.public.Realms = append(l.public.Realms, "")
	if err := l.opener.SetKeys([]assertion.PublicKey{l.public}); err != nil {
		t.Fatal(err)
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			a := l.assertion()
			m.change(a)
			if _, err := assertion.Seal(a, l.key); err == nil || !strings.Contains(err.Error(), m.reason) {
				t.Errorf("sealed: %v", err)
			}
			payload, err := proto.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			_, err = l.opener.Open(sealAnyway(t, private, payload), l.want)
			if !errors.Is(err, fault.Internal) || !strings.Contains(err.Error(), m.reason) {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

// A signed assertion is refused where it is about something else or out of its key's scope.
func TestScope(t *testing.T) {
	type changes struct {
		a    func(*assertionv1.Assertion)
		key  func(*assertion.PublicKey)
		want func(*assertion.Expect)
	}
	cases := map[string]changes{
		"other gateway":   {want: func(w *assertion.Expect) { w.Gateway = "gateway2.test" }},
		"nameless peer":   {want: func(w *assertion.Expect) { w.Gateway = "" }},
		"other request":   {want: func(w *assertion.Expect) { w.CSRSHA256[0] ^= 1 }},
		"other key":       {want: func(w *assertion.Expect) { w.SPKISHA256[0] ^= 1 }},
		"other audience":  {a: func(a *assertionv1.Assertion) { a.Audience = "ca2" }},
		"foreign realm":   {a: func(a *assertionv1.Assertion) { a.Identity.Realm = "IPA.TEST" }},
		"foreign issuer":  {a: func(a *assertionv1.Assertion) { a.Issuer = "validator2.test" }},
		"method":          {key: func(k *assertion.PublicKey) { k.Methods = []assertionv1.Method{assertionv1.Method_METHOD_RADIUS} }},
		"no methods":      {key: func(k *assertion.PublicKey) { k.Methods = nil }},
		"no realms":       {key: func(k *assertion.PublicKey) { k.Realms = nil }},
		"key has ended":   {key: func(k *assertion.PublicKey) { k.NotAfter = now }},
		"key is replaced": {key: func(k *assertion.PublicKey) { k.Key = make(ed25519.PublicKey, 32) }},
		"key is renamed":  {key: func(k *assertion.PublicKey) { k.ID = "v0" }},
		"future": {a: func(a *assertionv1.Assertion) {
			a.IssuedAt, a.NotAfter = timestamppb.New(now.Add(31*time.Second)), timestamppb.New(now.Add(60*time.Second))
		}},
		"expired": {a: func(a *assertionv1.Assertion) {
			a.IssuedAt, a.NotAfter = timestamppb.New(now.Add(-91*time.Second)), timestamppb.New(now.Add(-31*time.Second))
			a.Authentication.VerifiedAt = a.IssuedAt
		}},
		"proof too old": {a: func(a *assertionv1.Assertion) {
			a.IssuedAt, a.NotAfter = timestamppb.New(now.Add(-45*time.Second)), timestamppb.New(now)
			a.Authentication.VerifiedAt = timestamppb.New(now.Add(-391 * time.Second))
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a := l.assertion()
			if c.a != nil {
				c.a(a)
			}
			sealed, err := assertion.Seal(a, l.key)
			if err != nil {
				t.Fatal(err)
			}
			if c.key != nil {
				c.key(&l.public)
			}
			if c.want != nil {
				c.want(&l.want)
			}
			if err := l.opener.SetKeys([]assertion.PublicKey{l.public}); err != nil {
				t.Fatal(err)
			}
			mustRefuse(t, l, sealed, name)
		})
	}
}

func TestSkewIsAllowed(t *testing.T) {
	l := newLab(t)
	for _, shift := range []time.Duration{-90 * time.Second, 30 * time.Second} {
		a := l.assertion()
		a.IssuedAt, a.NotAfter = timestamppb.New(now.Add(shift)), timestamppb.New(now.Add(shift+time.Minute))
		a.Authentication.VerifiedAt = a.IssuedAt
		sealed, err := assertion.Seal(a, l.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.opener.Open(sealed, l.want); err != nil {
			t.Errorf("shifted by %v: %v", shift, err)
		}
	}
}

// A field that this version does not know might restrict what it allows.
func TestUnknownFields(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.public.Key = private.Public().(ed25519.PublicKey)
	if err := l.opener.SetKeys([]assertion.PublicKey{l.public}); err != nil {
		t.Fatal(err)
	}
	extra := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	for name, m := range map[string]func(*assertionv1.Assertion) proto.Message{
		"assertion": func(a *assertionv1.Assertion) proto.Message { return a },
		"identity":  func(a *assertionv1.Assertion) proto.Message { return a.GetIdentity() },
		"spend":     func(a *assertionv1.Assertion) proto.Message { return a.GetSpend() },
		"time":      func(a *assertionv1.Assertion) proto.Message { return a.GetIssuedAt() },
	} {
		a := l.assertion()
		m(a).ProtoReflect().SetUnknown(extra)
		payload, err := proto.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.opener.Open(sealAnyway(t, private, payload), l.want)
		if err == nil || !strings.Contains(err.Error(), "does not know") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	l := newLab(t)
	for name, k := range map[string]assertion.PublicKey{
		"no id":     {Issuer: "v", Key: l.key.Public(), NotAfter: now},
		"no issuer": {ID: "v1", Key: l.key.Public(), NotAfter: now},
		"no key":    {ID: "v1", Issuer: "v", NotAfter: now},
		"no end":    {ID: "v1", Issuer: "v", Key: l.key.Public()},
	} {
		if err := l.opener.SetKeys([]assertion.PublicKey{k}); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	if err := l.opener.SetKeys([]assertion.PublicKey{l.public, l.public}); err == nil {
		t.Error("the same id twice accepted")
	}
	sealed, err := assertion.Seal(l.assertion(), l.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.opener.Open(sealed, l.want); err != nil {
		t.Errorf("a refused set of keys replaced the old one: %v", err)
	}
}

func TestEnding(t *testing.T) {
	l := newLab(t)
	late := l.public
	late.ID, late.NotAfter = "v2", now.Add(15*24*time.Hour)
	if err := l.opener.SetKeys([]assertion.PublicKey{late, l.public}); err != nil {
		t.Fatal(err)
	}
	for days, want := range map[int]int{0: 0, 14: 1, 16: 2} {
		if got := l.opener.Ending(time.Duration(days) * 24 * time.Hour); len(got) != want {
			t.Errorf("within %d days: %v, want %d", days, got, want)
		}
	}
	if n := l.opener.Usable(); n != 2 {
		t.Errorf("%d keys are usable, not 2", n)
	}
	late.NotAfter = now.Add(-time.Second)
	if err := l.opener.SetKeys([]assertion.PublicKey{late, l.public}); err != nil {
		t.Fatal(err)
	}
	if n := l.opener.Usable(); n != 1 {
		t.Errorf("%d keys are usable, not 1", n)
	}
}

func TestKeyFiles(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "assertion.key")
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := assertion.LoadSigningKey("v1", path)
	if err != nil || !k.Public().Equal(private.Public()) {
		t.Fatalf("LoadSigningKey: %v", err)
	}
	if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := assertion.LoadSigningKey("v1", path); err == nil {
		t.Error("a truncated key file was accepted")
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		base64.StdEncoding.EncodeToString(k.Public()),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
	} {
		if got, err := assertion.ParsePublicKey(text); err != nil || !got.Equal(private.Public()) {
			t.Errorf("ParsePublicKey(%q): %v", text, err)
		}
	}
	for _, bad := range []string{"", "AAAA", "not base64"} {
		if _, err := assertion.ParsePublicKey(bad); err == nil {
			t.Errorf("ParsePublicKey(%q) accepted", bad)
		}
	}
}

func FuzzOpen(f *testing.F) {
	l := newLab(f)
	good, err := assertion.Seal(l.assertion(), l.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.GetPayload(), good.GetSignature(), "v1")
	f.Add([]byte{}, []byte{}, "")
	f.Fuzz(func(t *testing.T, payload, signature []byte, id string) {
		v, err := l.opener.Open(&assertionv1.SealedAssertion{Payload: payload, Signature: signature, KeyId: id}, l.want)
		if err == nil && string(v.Payload()) != string(good.GetPayload()) {
			t.Errorf("a payload that nobody signed was opened: %x", payload)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	l := newLab(b)
	for b.Loop() {
		s, err := assertion.Seal(l.assertion(), l.key)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.opener.Open(s, l.want); err != nil {
			b.Fatal(err)
		}
	}
}
