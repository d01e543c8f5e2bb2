package issue_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// says are assertions with a good signature that a taken validator could make.
var says = map[string]func(l *lab, a *assertionv1.Assertion){
	"version 0":             func(_ *lab, a *assertionv1.Assertion) { a.Version = 0 },
	"version 2":             func(_ *lab, a *assertionv1.Assertion) { a.Version = 2 },
	"short id":              func(_ *lab, a *assertionv1.Assertion) { a.AssertionId = a.AssertionId[1:] },
	"no id":                 func(_ *lab, a *assertionv1.Assertion) { a.AssertionId = nil },
	"other issuer":          func(_ *lab, a *assertionv1.Assertion) { a.Issuer = "other.test" },
	"other audience":        func(_ *lab, a *assertionv1.Assertion) { a.Audience = "other" },
	"other gateway":         func(_ *lab, a *assertionv1.Assertion) { a.Gateway = "other.test" },
	"expired":               func(l *lab, a *assertionv1.Assertion) { move(a, -2*time.Minute) },
	"future":                func(l *lab, a *assertionv1.Assertion) { move(a, time.Minute) },
	"too long a life":       func(l *lab, a *assertionv1.Assertion) { a.NotAfter = timestamppb.New(l.now.Add(time.Hour)) },
	"ends before it begins": func(l *lab, a *assertionv1.Assertion) { a.NotAfter = a.GetIssuedAt() },
	"no times":              func(_ *lab, a *assertionv1.Assertion) { a.IssuedAt, a.NotAfter = nil, nil },
	"old proof": func(l *lab, a *assertionv1.Assertion) {
		a.Authentication.VerifiedAt = timestamppb.New(l.now.Add(-time.Hour))
	},
	"no operation":           func(_ *lab, a *assertionv1.Assertion) { a.Operation = 0 },
	"re-enrolment":           func(_ *lab, a *assertionv1.Assertion) { a.Operation = assertionv1.Operation_OPERATION_REENROLL },
	"unknown operation":      func(_ *lab, a *assertionv1.Assertion) { a.Operation = 9 },
	"no label":               func(_ *lab, a *assertionv1.Assertion) { a.Label = "" },
	"unknown label":          func(_ *lab, a *assertionv1.Assertion) { a.Label = "root" },
	"upgraded profile":       func(_ *lab, a *assertionv1.Assertion) { a.Label = "staff" },
	"other request":          func(_ *lab, a *assertionv1.Assertion) { a.CsrSha256 = make([]byte, 32) },
	"other public key":       func(_ *lab, a *assertionv1.Assertion) { a.SpkiSha256 = make([]byte, 32) },
	"no identity":            func(_ *lab, a *assertionv1.Assertion) { a.Identity = nil },
	"no kind":                func(_ *lab, a *assertionv1.Assertion) { a.Identity.Kind = 0 },
	"kind user":              func(_ *lab, a *assertionv1.Assertion) { a.Identity.Kind = assertionv1.IdentityKind_IDENTITY_KIND_USER },
	"kind host":              func(_ *lab, a *assertionv1.Assertion) { a.Identity.Kind = assertionv1.IdentityKind_IDENTITY_KIND_HOST },
	"foreign realm":          func(_ *lab, a *assertionv1.Assertion) { a.Identity.Realm = "OTHER" },
	"no principal":           func(_ *lab, a *assertionv1.Assertion) { a.Identity.Principal = "" },
	"protected principal":    func(_ *lab, a *assertionv1.Assertion) { a.Identity.Principal = "admin" },
	"protected in capitals":  func(_ *lab, a *assertionv1.Assertion) { a.Identity.Principal = "ADMIN" },
	"principal with NUL":     func(_ *lab, a *assertionv1.Assertion) { a.Identity.Principal = "pump\x00" },
	"principal with newline": func(_ *lab, a *assertionv1.Assertion) { a.Identity.Principal = "pump\n" },
	"principal too long":     func(_ *lab, a *assertionv1.Assertion) { a.Identity.Principal = string(make([]byte, 0)) + long(65) },
	"no method":              func(_ *lab, a *assertionv1.Assertion) { a.Authentication.Method = 0 },
	"method out of scope": func(_ *lab, a *assertionv1.Assertion) {
		a.Authentication.Method = assertionv1.Method_METHOD_LDAP_OTP
		a.Token = nil
	},
	"password": func(_ *lab, a *assertionv1.Assertion) {
		a.Authentication.Method = assertionv1.Method_METHOD_LDAP_PASSWORD
		a.Token = nil
	},
	"certificate": func(_ *lab, a *assertionv1.Assertion) {
		a.Authentication.Method = assertionv1.Method_METHOD_CERTIFICATE
		a.Token = nil
	},
	"no token":                func(_ *lab, a *assertionv1.Assertion) { a.Token = nil },
	"token for another key":   func(_ *lab, a *assertionv1.Assertion) { a.Token.RequiredSpkiSha256 = make([]byte, 32) },
	"protected name":          func(_ *lab, a *assertionv1.Assertion) { a.Token.AllowedNames = []string{"dns:ipa.test"} },
	"name that is none":       func(_ *lab, a *assertionv1.Assertion) { a.Token.AllowedNames = []string{"dns:a b"} },
	"nothing spent":           func(_ *lab, a *assertionv1.Assertion) { a.Spend = nil },
	"limit 0":                 func(_ *lab, a *assertionv1.Assertion) { a.Spend.Limit = 0 },
	"empty spend id":          func(_ *lab, a *assertionv1.Assertion) { a.Spend.Ids[0] = nil },
	"spend kept for no time":  func(_ *lab, a *assertionv1.Assertion) { a.Spend.KeepUntil = nil },
	"half a presented cert":   func(_ *lab, a *assertionv1.Assertion) { a.PresentedCertificate = &assertionv1.PresentedCertificate{} },
	"channel binding unknown": func(_ *lab, a *assertionv1.Assertion) { a.Authentication.ChannelBinding = 9 },
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a'
	}
	return string(b)
}

func move(a *assertionv1.Assertion, d time.Duration) {
	for _, t := range []*timestamppb.Timestamp{a.GetIssuedAt(), a.GetNotAfter(), a.GetAuthentication().GetVerifiedAt()} {
		t.Seconds += int64(d / time.Second)
	}
}

// A refused move uses no key, leaves no entry and is audited.
func mustRefuse(t *testing.T, l *lab, peer string, r *signerv1.IssueRequest) {
	t.Helper()
	before := l.told("certificate.refused")
	got, err := l.issue(t.Context(), peer, r)
	switch kind := fault.KindOf(err); {
	case got.DER != nil, err == nil:
		t.Fatal("a certificate was issued")
	case kind == fault.Internal && (!notBelieved(err) || fault.Public(err) != fault.Public(fault.Internal)):
		t.Errorf("answered %v, and the client is told %q", err, fault.Public(err))
	case kind != fault.Malformed && kind != fault.Internal && kind != fault.Forbidden:
		t.Errorf("answered %v", err)
	}
	if n := l.told("certificate.refused"); n != before+1 {
		t.Errorf("%d audit records for one refusal", n-before)
	}
	if used, entries := l.key.used.Load(), l.entries(0); used != 0 || entries != 0 {
		t.Fatalf("the key was used %d times, the ledger has %d entries", used, entries)
	}
}

// notBelieved tells whether the assertion was refused: the fault of our own processes, not
// of the client's credential.
func notBelieved(err error) bool {
	var e *fault.Error
	return errors.As(err, &e) && e.Op == "assertion.Open"
}

func TestWhatValidatorsMayNotSay(t *testing.T) {
	l := newLab(t, key.P256, 0)
	for name, change := range says {
		t.Run(name, func(t *testing.T) {
			der := request(t, newKey(t))
			a := l.assertion(der)
			change(l, a)
			mustRefuse(t, l, gateway, &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der})
		})
	}
	t.Run("unknown field", func(t *testing.T) {
		r := l.ask()
		field := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
		r.Assertion = l.seal(append(r.GetAssertion().GetPayload(), field...))
		mustRefuse(t, l, gateway, r)
	})
	t.Run("not protobuf", func(t *testing.T) {
		r := l.ask()
		r.Assertion = l.seal([]byte{0xff})
		mustRefuse(t, l, gateway, r)
	})
}

// sends are what a taken gateway can do with a good assertion.
var sends = map[string]func(l *lab, r *signerv1.IssueRequest){
	"no assertion":       func(_ *lab, r *signerv1.IssueRequest) { r.Assertion = nil },
	"empty assertion":    func(_ *lab, r *signerv1.IssueRequest) { r.Assertion = &assertionv1.SealedAssertion{} },
	"no signature":       func(_ *lab, r *signerv1.IssueRequest) { r.Assertion.Signature = nil },
	"long signature":     func(_ *lab, r *signerv1.IssueRequest) { r.Assertion.Signature = append(r.Assertion.Signature, 0) },
	"no key id":          func(_ *lab, r *signerv1.IssueRequest) { r.Assertion.KeyId = "" },
	"unknown key id":     func(_ *lab, r *signerv1.IssueRequest) { r.Assertion.KeyId = "v2" },
	"own signature":      ownSignature,
	"other assertion":    func(l *lab, r *signerv1.IssueRequest) { r.Assertion = l.ask().GetAssertion() },
	"other request":      func(l *lab, r *signerv1.IssueRequest) { r.CsrDer = l.ask().GetCsrDer() },
	"no request":         func(_ *lab, r *signerv1.IssueRequest) { r.CsrDer = nil },
	"trailing octet":     func(_ *lab, r *signerv1.IssueRequest) { r.CsrDer = append(r.CsrDer, 0) },
	"truncated request":  func(_ *lab, r *signerv1.IssueRequest) { r.CsrDer = r.CsrDer[:len(r.CsrDer)-1] },
	"request of 48 KiB":  func(_ *lab, r *signerv1.IssueRequest) { r.CsrDer = append(r.CsrDer, make([]byte, 48<<10)...) },
	"request not DER":    func(_ *lab, r *signerv1.IssueRequest) { r.CsrDer = []byte("-----BEGIN CERTIFICATE REQUEST-----") },
	"everything missing": func(_ *lab, r *signerv1.IssueRequest) { r.Reset() },
}

func ownSignature(_ *lab, r *signerv1.IssueRequest) {
	_, own, _ := ed25519.GenerateKey(rand.Reader)
	r.Assertion.Signature = ed25519.Sign(own, append([]byte("estuary/identity-assertion/v1\x00"), r.GetAssertion().GetPayload()...))
}

func TestWhatGatewaysMayNotSend(t *testing.T) {
	l := newLab(t, key.P256, 0)
	for name, change := range sends {
		t.Run(name, func(t *testing.T) {
			r := l.ask()
			change(l, r)
			mustRefuse(t, l, gateway, r)
		})
	}
	for _, peer := range []string{"", "other.test", "GATEWAY.TEST", "validator.test"} {
		t.Run("as "+peer, func(t *testing.T) { mustRefuse(t, l, peer, l.ask()) })
	}
}

// Every octet of a sealed assertion counts.
func TestAlteredAssertion(t *testing.T) {
	l := newLab(t, key.P256, 0)
	r := l.ask()
	for _, part := range [][]byte{r.GetAssertion().GetPayload(), r.GetAssertion().GetSignature()} {
		for i := range part {
			part[i] ^= 1
			mustRefuse(t, l, gateway, r)
			part[i] ^= 1
		}
	}
	if _, err := l.issue(t.Context(), gateway, r); err != nil {
		t.Errorf("put together again it is refused: %v", err)
	}
}

// Keys and names that the profile does not allow, vouched for by an honest validator.
func TestRequestsThatTheProfileForbids(t *testing.T) {
	l := newLab(t, key.P256, 0)
	for name, names := range map[string][]string{
		"foreign name": {"other.test"}, "foreign address": {"192.0.2.8"}, "one too many": {"pump-7.test", "ipa.test"}, "wildcard": {"*.test"},
	} {
		t.Run(name, func(t *testing.T) { mustRefuse(t, l, gateway, l.ask(names...)) })
	}
	t.Run("key type", func(t *testing.T) {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der := request(t, k)
		a := l.assertion(der)
		a.Label = "ec"
		mustRefuse(t, l, gateway, &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der})
	})
	for name, der := range map[string][]byte{"RSA 1024": weakRSA(t), "P-224": p224(t), "signature": unsigned(t)} {
		t.Run(name, func(t *testing.T) { mustRefuse(t, l, gateway, vouched(t, l, der)) })
	}
}

// A caller who has gone cannot keep a refusal out of the audit.
func TestRefusalOutlivesItsCaller(t *testing.T) {
	l := newLab(t, key.P256, 0)
	r := l.ask()
	r.Assertion.Signature[0] ^= 1
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.issue(ctx, gateway, r); !notBelieved(err) || l.told("certificate.refused") != 1 {
		t.Errorf("answered %v, %d refusals audited", err, l.told("certificate.refused"))
	}
}

// A key that the signer's configuration does not name any more is not believed.
func TestWithdrawnKey(t *testing.T) {
	l := newLab(t, key.P256, 0)
	r := l.ask()
	ended := l.public
	ended.NotAfter = l.now
	for name, keys := range map[string][]assertion.PublicKey{"withdrawn": nil, "ended": {ended}} {
		t.Run(name, func(t *testing.T) {
			if err := l.opener.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			mustRefuse(t, l, gateway, r)
		})
	}
	if err := l.opener.SetKeys([]assertion.PublicKey{l.public}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.issue(t.Context(), gateway, proto.CloneOf(r)); err != nil {
		t.Error(err)
	}
}

func weakRSA(t *testing.T) []byte {
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return request(t, k)
}

func p224(t *testing.T) []byte {
	k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return request(t, k)
}

func unsigned(t *testing.T) []byte {
	der := request(t, newKey(t))
	der[len(der)-1] ^= 1
	return der
}
