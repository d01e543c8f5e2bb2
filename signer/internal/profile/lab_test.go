package profile_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"path/filepath"
	"slices"
	"testing"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)

var serial = new(big.Int).Lsh(big.NewInt(1), 158)

// newAuthority makes and opens an authority that is valid for a year from an hour before now.
func newAuthority(t testing.TB) *ca.Authority {
	t.Helper()
	dir := t.TempDir()
	files := ca.Config{
		Name: "ca", Certificate: config.Path(filepath.Join(dir, "ca.crt")), Key: config.Path(filepath.Join(dir, "ca.key")),
	}
	_, err := ca.Init(t.Context(), ca.Options{
		Files: files, KeyType: key.P256, Subject: "CN=Test CA", Validity: 365 * 24 * time.Hour, Now: now.Add(-time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.Load(t.Context(), files, now, slogDiscard)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// device returns the default profile for devices, changed.
func device(change ...func(*profile.Profile)) profile.Profile {
	var p profile.Profile
	p.SetDefaults()
	p.Label = "device"
	for _, c := range change {
		c(&p)
	}
	return p
}

func newSet(t testing.TB, a *ca.Authority, profiles ...profile.Profile) *profile.Set {
	t.Helper()
	set, err := profile.NewSet(profile.Config{
		Profiles: profiles, Authority: a.Certificate,
		Protected: profile.Protected{Principals: []string{"admin", "root@DEVICES", "\uff4fperator"}, Names: []string{"dns:IPA.example.test", "ip:2001:DB8::1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// says returns the assertion of a device with a token that allows names, changed.
func says(names []string, change ...func(*assertionv1.Assertion)) *assertionv1.Assertion {
	a := &assertionv1.Assertion{
		Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "device",
		Identity: &assertionv1.Identity{
			Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "DEVICES", Principal: "pump-7",
		},
		Authentication: &assertionv1.Authentication{Method: assertionv1.Method_METHOD_TOKEN, Indicators: []string{"token"}},
		Token:          &assertionv1.EnrolmentToken{Id: "t", AllowedNames: names},
	}
	for _, c := range change {
		c(a)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// asks returns a request for k.
func asks(t testing.TB, k crypto.Signer, template x509.CertificateRequest) *csr.Request {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, k)
	if err != nil {
		t.Fatal(err)
	}
	r, err := csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// names encodes a subjectAltName extension of raw GeneralNames.
func names(t testing.TB, raw ...asn1.RawValue) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}
}

// issue builds, drafts and reads a certificate as issue does.
func issue(t testing.TB, a *ca.Authority, s *profile.Set, says *assertionv1.Assertion, asks *csr.Request) *x509.Certificate {
	t.Helper()
	template, err := s.Build(says, asks, now, serial)
	if err != nil {
		t.Fatal(err)
	}
	draft, err := a.Draft(template, asks.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := linter(t).Check(draft.Raw); err != nil {
		t.Error(err)
	}
	c, err := x509.ParseCertificate(draft.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// san returns the alternative names of a certificate as typed text.
func san(c *x509.Certificate) []string {
	var out []string
	for _, n := range c.DNSNames {
		out = append(out, "dns:"+n)
	}
	for _, n := range c.EmailAddresses {
		out = append(out, "email:"+n)
	}
	for _, n := range c.IPAddresses {
		out = append(out, "ip:"+n.String())
	}
	for _, n := range c.URIs {
		out = append(out, "uri:"+n.String())
	}
	slices.Sort(out)
	return out
}
