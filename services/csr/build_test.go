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
	"encoding/asn1"
	"sync"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// request is a certification request in pieces, each of which a test can break. What is nil
// is made sound and signed with a P-256 key.
type request struct {
	version    []byte // element
	subject    []byte // element
	spki       []byte // element
	attributes []byte // content of [0]
	noAttrs    bool   // leave [0] out
	infoTail   []byte // behind the attributes
	algorithm  []byte // element
	signature  []byte // content of the BIT STRING, its first octet too
	tail       []byte // behind the signature, inside
	after      []byte // behind the request
	key        crypto.Signer
}

var testKey = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// tlv is one element. Contents above 127 octets get the long form that DER demands.
func tlv(tag cbasn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return must(b.Bytes())
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func seq(parts ...[]byte) []byte { return tlv(cbasn1.SEQUENCE, parts...) }
func set(parts ...[]byte) []byte { return tlv(cbasn1.SET, parts...) }

func oidOf(arcs ...int) []byte { return must(asn1.Marshal(asn1.ObjectIdentifier(arcs))) }

func ctx(n uint8, parts ...[]byte) []byte {
	return tlv(cbasn1.Tag(n).ContextSpecific(), parts...)
}

func ctxc(n uint8, parts ...[]byte) []byte {
	return tlv(cbasn1.Tag(n).ContextSpecific().Constructed(), parts...)
}

func utf8String(s string) []byte { return tlv(cbasn1.UTF8String, []byte(s)) }

// rdn is a relative distinguished name of one attribute.
func rdn(typ, value []byte) []byte { return set(seq(typ, value)) }

func commonName(s string) []byte { return seq(rdn(oidCN, utf8String(s))) }

var (
	oidCN        = oidOf(2, 5, 4, 3)
	oidO         = oidOf(2, 5, 4, 10)
	oidC         = oidOf(2, 5, 4, 6)
	oidExtReq    = oidOf(1, 2, 840, 113549, 1, 9, 14)
	oidChallenge = oidOf(1, 2, 840, 113549, 1, 9, 7)
	oidSAN       = oidOf(2, 5, 29, 17)
	oidKeyUsage  = oidOf(2, 5, 29, 15)
	null         = []byte{5, 0}
	yes          = []byte{1, 1, 0xff}
	ecdsa256     = seq(oidOf(1, 2, 840, 10045, 4, 3, 2))
	rsa256       = seq(oidOf(1, 2, 840, 113549, 1, 1, 11), null)
)

func octets(b ...[]byte) []byte { return tlv(cbasn1.OCTET_STRING, b...) }

func extension(id []byte, value ...[]byte) []byte { return seq(id, octets(value...)) }

// extensions is an extensionRequest attribute.
func extensions(ext ...[]byte) []byte { return seq(oidExtReq, set(seq(ext...))) }

// names is an extensionRequest attribute with a subjectAltName of these GeneralNames.
func names(general ...[]byte) []byte { return extensions(extension(oidSAN, seq(general...))) }

func (r request) der(t testing.TB) []byte {
	t.Helper()
	if r.key == nil {
		r.key = testKey()
	}
	if r.version == nil {
		r.version = []byte{2, 1, 0}
	}
	if r.subject == nil {
		r.subject = commonName("device-1")
	}
	if r.spki == nil {
		spki, err := x509.MarshalPKIXPublicKey(r.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		r.spki = spki
	}
	attrs := ctxc(0, r.attributes)
	if r.noAttrs {
		attrs = nil
	}
	info := seq(r.version, r.subject, r.spki, attrs, r.infoTail)
	algorithm, signature := sign(t, r.key, info)
	if r.algorithm != nil {
		algorithm = r.algorithm
	}
	if r.signature != nil {
		signature = r.signature
	}
	return join(seq(info, algorithm, tlv(cbasn1.BIT_STRING, signature), r.tail), r.after)
}

// sign returns the algorithm and the BIT STRING content for the kind of the key.
func sign(t testing.TB, key crypto.Signer, info []byte) (algorithm, signature []byte) {
	t.Helper()
	digest := sha256.Sum256(info)
	message, opts := digest[:], crypto.SignerOpts(crypto.SHA256)
	switch key.(type) {
	case *ecdsa.PrivateKey:
		algorithm = ecdsa256
	case *rsa.PrivateKey:
		algorithm = rsa256
	case ed25519.PrivateKey:
		algorithm, message, opts = seq(oidOf(1, 3, 101, 112)), info, crypto.Hash(0)
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		t.Fatal(err)
	}
	return algorithm, append([]byte{0}, sig...)
}
