// Package csr turns the body of an EST request into a checked PKCS#10 certification request.
//
// The gateway calls Decode and Parse before a credential is looked at, so that a bad request
// never costs one; the signer calls Parse again, because it believes nobody. The rules hold
// for every label and every identity: what is allowed beyond them is the profile's decision.
// It calls crypto/x509 for the signature alone, and knows no policy, clock or network.
package csr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
)

// Limits of a request, in octets. A body of MaxBody octets of base64 holds MaxDER octets.
const (
	// MaxDER is the largest request that Parse looks at.
	MaxDER = 48 << 10
	// MaxBody is the largest EST body that Decode looks at.
	MaxBody = 64 << 10
)

// Limits on the number of things in a request. RFC 5280 knows none; a request with more is
// no request for a certificate that anybody uses.
const (
	// MaxNames is the largest number of names in a subjectAltName extension.
	MaxNames = 64
	// MaxRDNs is the largest number of relative distinguished names in a subject.
	MaxRDNs = 64
	// MaxExtensions is the largest number of requested extensions.
	MaxExtensions = 64
	// MaxAttributes is the largest number of attributes.
	MaxAttributes = 32
)

// KeyType is a kind of public key that Parse accepts, as profiles name it.
type KeyType string

// The kinds of keys.
const (
	// RSA is rsaEncryption (RFC 8017), 2048 to 8192 bits.
	RSA KeyType = "rsa"
	// P256 is ECDSA on NIST P-256 (RFC 5480).
	P256 KeyType = "p256"
	// P384 is ECDSA on NIST P-384 (RFC 5480).
	P384 KeyType = "p384"
	// P521 is ECDSA on NIST P-521 (RFC 5480).
	P521 KeyType = "p521"
	// Ed25519 is RFC 8410.
	Ed25519 KeyType = "ed25519"
)

// Request is a certification request (RFC 2986) that has passed every check of Parse, its
// signature included. Only Parse makes one: every method of the zero value panics. All that
// the methods return is the caller's own copy.
type Request struct{ p *parsed }

// parsed is what Parse has found. Nothing of it changes once Parse has returned.
type parsed struct {
	der        []byte
	sha256     [32]byte
	spki       []byte
	spkiSHA256 [32]byte
	key        crypto.PublicKey
	keyType    KeyType
	bits       int
	rawSubject []byte
	subject    pkix.RDNSequence
	attributes
}

// DER returns the request as it came.
func (r *Request) DER() []byte { return bytes.Clone(r.p.der) }

// SHA256 returns the hash over DER.
func (r *Request) SHA256() [32]byte { return r.p.sha256 }

// SPKI returns the DER SubjectPublicKeyInfo (RFC 5280 section 4.1) as it came.
func (r *Request) SPKI() []byte { return bytes.Clone(r.p.spki) }

// SPKISHA256 returns the hash over SPKI.
func (r *Request) SPKISHA256() [32]byte { return r.p.spkiSHA256 }

// PublicKey returns the key that verified the request's signature: *rsa.PublicKey,
// *ecdsa.PublicKey or ed25519.PublicKey.
func (r *Request) PublicKey() crypto.PublicKey {
	switch k := r.p.key.(type) {
	case *rsa.PublicKey:
		return &rsa.PublicKey{N: new(big.Int).Set(k.N), E: k.E}
	case *ecdsa.PublicKey:
		c := *k
		return &c
	default:
		return slices.Clone(k.(ed25519.PublicKey))
	}
}

// KeyType returns the kind of the key.
func (r *Request) KeyType() KeyType { return r.p.keyType }

// Bits returns the size of the RSA modulus or of the curve's field, in bits; 256 for Ed25519.
func (r *Request) Bits() int { return r.p.bits }

// RawSubject returns the DER of the subject as it came; an empty subject is 30 00.
func (r *Request) RawSubject() []byte { return bytes.Clone(r.p.rawSubject) }

// RDNs returns the subject as it is built, in the order of its encoding. Every value is a
// string. An element with more than one attribute is a multi-valued RDN.
func (r *Request) RDNs() pkix.RDNSequence {
	out := make(pkix.RDNSequence, len(r.p.subject))
	for i, set := range r.p.subject {
		out[i] = slices.Clone(set)
		for j := range out[i] {
			out[i][j].Type = slices.Clone(out[i][j].Type)
		}
	}
	return out
}

// MultiValuedRDN tells whether any RDN of the subject has more than one attribute: Subject
// does not show which attributes stand together, and neither does a profile's template.
func (r *Request) MultiValuedRDN() bool {
	return slices.ContainsFunc(r.p.subject, func(s pkix.RelativeDistinguishedNameSET) bool { return len(s) > 1 })
}

// Subject returns the subject, flattened.
func (r *Request) Subject() pkix.Name {
	var name pkix.Name
	rdns := r.RDNs()
	name.FillFromRDNSequence(&rdns)
	return name
}

// CommonName returns the subject's commonName, "" when it has none. Of several it returns the
// last in the order of encoding, the most specific, as crypto/x509 does; RDNs shows them all.
func (r *Request) CommonName() string { return r.Subject().CommonName }

// Names returns the names of the requested subjectAltName extension in their order, in
// canonical form, a name that is repeated only once.
func (r *Request) Names() []Name { return slices.Clone(r.p.names) }

// Extensions returns every requested extension in the order of the request, each OID once.
// All values are DER; only that of subjectAltName has been looked into.
func (r *Request) Extensions() []pkix.Extension {
	out := slices.Clone(r.p.extensions)
	for i := range out {
		out[i].Id = slices.Clone(out[i].Id)
		out[i].Value = bytes.Clone(out[i].Value)
	}
	return out
}

// Attributes returns the types of all attributes in the order of the request, each once.
func (r *Request) Attributes() []asn1.ObjectIdentifier {
	out := make([]asn1.ObjectIdentifier, len(r.p.types))
	for i, t := range r.p.types {
		out[i] = slices.Clone(t)
	}
	return out
}

// ChallengePassword returns the challengePassword attribute (RFC 2985 section 5.4.1), 1 to
// 255 characters, and whether there is one.
func (r *Request) ChallengePassword() (string, bool) { return r.p.challenge, r.p.hasChallenge }
