// Package certid turns the certificate of an issuer into the names that OCSP has for it.
//
// The gateway's publish compares what clients ask with them, the signer's ocsp writes them
// into responses.
package certid

import (
	"crypto"
	_ "crypto/sha1"   //nolint:gosec // how most clients name an issuer (RFC 5019 section 2.1.1): not a protection
	_ "crypto/sha256" // the other one
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithms are the hash functions by which an issuer is named, with their OIDs.
var Algorithms = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1:   {1, 3, 14, 3, 2, 26},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
}

// Of returns issuerNameHash and issuerKeyHash of a CertID (RFC 6960 section 4.1.1): the hash of
// the issuer's name in DER, and that of its public key without tag, length and unused bits.
// The hash function has to be one of Algorithms.
func Of(issuer *x509.Certificate, hash crypto.Hash) (name, key []byte, err error) {
	var spki, algorithm cryptobyte.String
	var bits asn1.BitString
	input := cryptobyte.String(issuer.RawSubjectPublicKeyInfo)
	switch {
	case Algorithms[hash] == nil:
		return nil, nil, fmt.Errorf("hash function %d names no issuer", hash)
	case !input.ReadASN1(&spki, casn1.SEQUENCE) || !spki.ReadASN1(&algorithm, casn1.SEQUENCE) || !spki.ReadASN1BitString(&bits):
		return nil, nil, fmt.Errorf("the public key of %s cannot be read", issuer.Subject)
	}
	h := hash.New()
	h.Write(issuer.RawSubject)
	name = h.Sum(nil)
	h.Reset()
	h.Write(bits.RightAlign())
	return name, h.Sum(nil), nil
}
