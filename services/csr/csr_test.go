package csr_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

var rsaKeys = sync.OnceValue(func() map[int]*rsa.PrivateKey {
	out := map[int]*rsa.PrivateKey{}
	for _, bits := range []int{2048, 3072, 4096} {
		out[bits] = must(rsa.GenerateKey(rand.Reader, bits))
	}
	return out
})

// sound is one request of each kind of key, made by crypto/x509.
func sound(t testing.TB) map[string][]byte {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{
		"rsa2048": rsaKeys()[2048], "rsa3072": rsaKeys()[3072], "rsa4096": rsaKeys()[4096],
		"p256":    testKey(),
		"p384":    must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"p521":    must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"ed25519": ed,
	}
	out := map[string][]byte{}
	for name, key := range keys {
		out[name] = created(t, key, x509.UnknownSignatureAlgorithm)
	}
	for name, alg := range map[string]x509.SignatureAlgorithm{
		"pss256": x509.SHA256WithRSAPSS, "pss384": x509.SHA384WithRSAPSS, "pss512": x509.SHA512WithRSAPSS,
		"rsa-sha384": x509.SHA384WithRSA, "rsa-sha512": x509.SHA512WithRSA,
	} {
		out[name] = created(t, rsaKeys()[2048], alg)
	}
	out["p256-sha384"] = created(t, testKey(), x509.ECDSAWithSHA384)
	out["p256-sha512"] = created(t, testKey(), x509.ECDSAWithSHA512)
	return out
}

func created(t testing.TB, key crypto.Signer, alg x509.SignatureAlgorithm) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		SignatureAlgorithm: alg,
		Subject:            pkix.Name{CommonName: "Gerät 7", Organization: []string{"Example"}, Country: []string{"DE"}},
		DNSNames:           []string{"Host.Example", "*.apps.example", "host.example"},
		EmailAddresses:     []string{"First.Last@Mail.Example"},
		IPAddresses:        []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")},
		URIs:               []*url.URL{{Scheme: "spiffe", Host: "Example", Path: "/a/B"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseReadsEveryKeyType(t *testing.T) {
	for name, der := range sound(t) {
		r, err := csr.Parse(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ref, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if !ref.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(r.PublicKey()) {
			t.Errorf("%s: another public key", name)
		}
		if r.SHA256() != sha256.Sum256(der) || r.SPKISHA256() != sha256.Sum256(ref.RawSubjectPublicKeyInfo) {
			t.Errorf("%s: a hash is wrong", name)
		}
		got := []any{r.DER(), r.SPKI(), r.RawSubject(), r.Subject(), r.Extensions(), r.CommonName()}
		want := []any{der, ref.RawSubjectPublicKeyInfo, ref.RawSubject, ref.Subject, ref.Extensions, "Gerät 7"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if !strings.HasPrefix(name, string(r.KeyType())) && r.KeyType() != csr.RSA {
			t.Errorf("%s: key type %s", name, r.KeyType())
		}
	}
}

func TestParseTellsKeyTypeAndBits(t *testing.T) {
	want := map[string]struct {
		kind csr.KeyType
		bits int
	}{
		"rsa2048": {csr.RSA, 2048}, "rsa3072": {csr.RSA, 3072}, "rsa4096": {csr.RSA, 4096}, "pss256": {csr.RSA, 2048},
		"p256": {csr.P256, 256}, "p384": {csr.P384, 384}, "p521": {csr.P521, 521}, "ed25519": {csr.Ed25519, 256},
	}
	requests := sound(t)
	for name, w := range want {
		r, err := csr.Parse(requests[name])
		if err != nil {
			t.Fatal(err)
		}
		if r.KeyType() != w.kind || r.Bits() != w.bits {
			t.Errorf("%s: %s of %d bits", name, r.KeyType(), r.Bits())
		}
	}
}

func TestNamesAreCanonical(t *testing.T) {
	r, err := csr.Parse(sound(t)["p256"])
	if err != nil {
		t.Fatal(err)
	}
	want := []csr.Name{
		{Type: csr.DNS, Value: "host.example"},
		{Type: csr.DNS, Value: "*.apps.example"},
		{Type: csr.Email, Value: "First.Last@mail.example"},
		{Type: csr.IP, Value: "192.0.2.1"},
		{Type: csr.IP, Value: "2001:db8::1"},
		{Type: csr.URI, Value: "spiffe://example/a/B"},
	}
	if d := cmp.Diff(want, r.Names()); d != "" {
		t.Error(d)
	}
	if r.Names()[0].Wildcard() || !r.Names()[1].Wildcard() {
		t.Error("the wildcard is not reported as one")
	}
}

func TestResultsAreCopies(t *testing.T) {
	for _, name := range []string{"rsa2048", "p256", "ed25519"} {
		der := sound(t)[name]
		r, err := csr.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		before := snapshot(r)
		clear(der)
		clear(r.DER())
		clear(r.SPKI())
		clear(r.RawSubject())
		clear(r.Names())
		r.Extensions()[0].Value[0] = 0xff
		r.Extensions()[0].Id[0] = 9
		r.RDNs()[0][0].Type[0] = 9
		r.RDNs()[0][0].Value = "x"
		r.Attributes()[0][0] = 9
		r.Subject().Names[0].Type[0] = 9
		switch k := r.PublicKey().(type) {
		case *rsa.PublicKey:
			k.N.SetInt64(1)
		case *ecdsa.PublicKey:
			k.Curve = elliptic.P384()
		case ed25519.PublicKey:
			clear(k)
		}
		if d := cmp.Diff(before, snapshot(r)); d != "" {
			t.Errorf("%s: the request changed through what it returned: %s", name, d)
		}
	}
}

func snapshot(r *csr.Request) []any {
	key, err := x509.MarshalPKIXPublicKey(r.PublicKey())
	return []any{r.DER(), r.SPKI(), r.RawSubject(), r.Names(), r.Extensions(), r.RDNs(), r.Attributes(), r.Subject(), key, err}
}

func TestZeroRequestIsOfNoUse(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a request that Parse did not make answered")
		}
	}()
	new(csr.Request).SHA256()
}

// TestParseAccepts holds what is unusual and allowed.
func TestParseAccepts(t *testing.T) {
	for name, r := range map[string]request{
		"empty subject":               {subject: seq()},
		"no attribute":                {},
		"empty extensions":            {attributes: extensions()},
		"unknown attribute":           {attributes: seq(oidOf(1, 2, 3), set(seq(null), utf8String("\x00")))},
		"unsorted attributes":         {attributes: join(seq(oidOf(2, 9), set(null)), seq(oidOf(1, 9), set(null)))},
		"unknown extension":           {attributes: extensions(extension(oidOf(1, 2, 3), null))},
		"critical extension":          {attributes: extensions(seq(oidKeyUsage, yes, octets([]byte{3, 2, 7, 0x80})))},
		"critical FALSE spelled out":  {attributes: extensions(seq(oidKeyUsage, []byte{1, 1, 0}, octets([]byte{3, 2, 7, 0x80})))},
		"CN of 64 characters":         {subject: commonName(strings.Repeat("ü", 64))},
		"BMPString":                   {subject: seq(rdn(oidCN, tlv(30, []byte{0, 'a', 0x20, 0xac})))},
		"T61String in ASCII":          {subject: seq(rdn(oidCN, tlv(20, []byte("abc"))))},
		"64 names":                    {attributes: names(repeated(64)...)},
		"RSA algorithm without NULL":  {key: rsaKeys()[2048], algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 11))},
		"A-label":                     {attributes: names(ctx(2, []byte("XN--BCHER-KVA.example")))},
		"urn":                         {attributes: names(ctx(6, []byte("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6")))},
		"registeredID":                {attributes: names(ctx(8, []byte{0x2a, 3}))},
		"directoryName":               {attributes: names(ctxc(4, commonName("x")))},
		"several common names":        {subject: seq(rdn(oidCN, utf8String("Users")), rdn(oidCN, utf8String("device-1")))},
		"wildcard":                    {attributes: names(ctx(2, []byte("*.example")))},
		"largest RSA exponent":        {key: rsaWithExponent(1<<31 - 1)},
		"multi-valued RDN":            {subject: seq(set(seq(oidCN, utf8String("a")), seq(oidO, utf8String("b"))))},
		"challenge of 255 characters": {attributes: seq(oidChallenge, set(utf8String(strings.Repeat("x", 255))))},
	} {
		if _, err := csr.Parse(r.der(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommonNameIsTheMostSpecific(t *testing.T) {
	r := parsed(t, request{subject: seq(rdn(oidCN, utf8String("Users")), rdn(oidCN, utf8String("device-1")))})
	if got := r.CommonName(); got != "device-1" {
		t.Errorf("CommonName is %q", got)
	}
	if got := parsed(t, request{subject: seq()}).CommonName(); got != "" {
		t.Errorf("CommonName of an empty subject is %q", got)
	}
}

func TestMultiValuedRDNIsVisible(t *testing.T) {
	plain := parsed(t, request{subject: seq(rdn(oidO, utf8String("b")), rdn(oidCN, utf8String("a")))})
	multi := parsed(t, request{subject: seq(set(seq(oidCN, utf8String("a")), seq(oidO, utf8String("b"))))})
	if plain.MultiValuedRDN() || !multi.MultiValuedRDN() {
		t.Error("a multi-valued RDN is not told from two RDNs")
	}
	if len(multi.RDNs()) != 1 || len(multi.RDNs()[0]) != 2 {
		t.Errorf("RDNs: %v", multi.RDNs())
	}
}

func TestChallengePassword(t *testing.T) {
	r := parsed(t, request{attributes: join(seq(oidChallenge, set(utf8String("s3cret"))), names(ctx(2, []byte("a.example"))))})
	if v, ok := r.ChallengePassword(); v != "s3cret" || !ok {
		t.Errorf("challenge %q, %v", v, ok)
	}
	want := []asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 9, 7}, {1, 2, 840, 113549, 1, 9, 14}}
	if d := cmp.Diff(want, r.Attributes()); d != "" {
		t.Error(d)
	}
	if v, ok := parsed(t, request{}).ChallengePassword(); v != "" || ok {
		t.Errorf("challenge out of nowhere: %q, %v", v, ok)
	}
}

func parsed(t *testing.T, r request) *csr.Request {
	t.Helper()
	out, err := csr.Parse(r.der(t))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func repeated(n int) [][]byte {
	var out [][]byte
	for range n {
		out = append(out, ctx(2, []byte("a.example")))
	}
	return out
}

// A key that the caller refuses costs no verification: the reason is given although the
// signature is wrong as well.
func TestParseForAsksBeforeTheSignature(t *testing.T) {
	der := request{signature: make([]byte, 70)}.der(t)
	if _, err := csr.Parse(der); err == nil || strings.Contains(err.Error(), "not here") {
		t.Fatalf("Parse: %v", err)
	}
	asked := false
	_, err := csr.ParseFor(der, func(k csr.KeyType, bits int) string {
		asked = k == csr.P256 && bits == 256
		return "not here"
	})
	if !asked || !errors.Is(err, fault.Malformed) || !strings.Contains(fault.Public(err), "not here") {
		t.Errorf("asked: %t, %v", asked, err)
	}
}
