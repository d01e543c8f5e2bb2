package publish

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/estuary-pki/estuary/services/certid"
)

// maxNonce is the longest nonce that is answered, in octets (RFC 9654 section 2.1).
const maxNonce = 128

var oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

// question is what a client asks: the status of one certificate.
type question struct {
	// hash is the function by which the issuer is named; 0 for one that is not known here.
	hash              crypto.Hash
	nameHash, keyHash []byte
	serial            *big.Int
	nonce             []byte // empty for none
}

// parseQuestion reads an OCSPRequest (RFC 6960 section 4.1.1) in DER. A signature is passed
// over, as section 4.1.2 allows: anybody may ask. An error says that the request is malformed,
// or asks for more than one certificate, which RFC 5019 section 2.1.1 rules out, or makes an
// unknown extension critical.
func parseQuestion(der []byte) (question, error) {
	var q question
	var request, tbs, list cryptobyte.String
	version := int64(0)
	input := cryptobyte.String(der)
	switch {
	case !input.ReadASN1(&request, casn1.SEQUENCE) || !input.Empty():
		return q, errors.New("it is not one SEQUENCE")
	case !request.ReadASN1(&tbs, casn1.SEQUENCE) || !skip(&request, constructed(0)) || !request.Empty():
		return q, errors.New("it is not a TBSRequest and a signature at most")
	case !tbs.ReadOptionalASN1Integer(&version, constructed(0), int64(0)) || version != 0:
		return q, errors.New("its version is not 1")
	case !skip(&tbs, constructed(1)) || !tbs.ReadASN1(&list, casn1.SEQUENCE):
		return q, errors.New("it has no list of certificates")
	}
	nonce, err := readExtensions(&tbs, constructed(2))
	if err != nil {
		return q, err
	}
	q.nonce = nonce
	if !tbs.Empty() {
		return q, errors.New("something follows in the TBSRequest")
	}
	return q, q.readList(list)
}

// readList reads the one Request there may be.
func (q *question) readList(list cryptobyte.String) error {
	var request, id, algorithm, name, key cryptobyte.String
	var oid asn1.ObjectIdentifier
	q.serial = new(big.Int)
	if !list.ReadASN1(&request, casn1.SEQUENCE) || !list.Empty() {
		return errors.New("it asks not for one certificate")
	}
	if !request.ReadASN1(&id, casn1.SEQUENCE) || !id.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!id.ReadASN1(&name, casn1.OCTET_STRING) || !id.ReadASN1(&key, casn1.OCTET_STRING) ||
		!id.ReadASN1Integer(q.serial) || !id.Empty() {
		return errors.New("its CertID cannot be read")
	}
	if _, err := readExtensions(&request, constructed(0)); err != nil {
		return err
	}
	if !request.Empty() {
		return errors.New("something follows in the Request")
	}
	q.nameHash, q.keyHash = name, key
	for hash, known := range certid.Algorithms {
		if oid.Equal(known) {
			q.hash = hash
		}
	}
	return nil
}

func constructed(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }

// skip reads over an optional field.
func skip(s *cryptobyte.String, tag casn1.Tag) bool {
	var ignored cryptobyte.String
	return s.ReadOptionalASN1(&ignored, nil, tag)
}

// readExtensions reads optional extensions and returns the nonce among them.
func readExtensions(s *cryptobyte.String, tag casn1.Tag) (nonce []byte, err error) {
	var field, all cryptobyte.String
	var there bool
	if !s.ReadOptionalASN1(&field, &there, tag) {
		return nil, errors.New("its extensions cannot be read")
	}
	if !there {
		return nil, nil
	}
	if !field.ReadASN1(&all, casn1.SEQUENCE) || !field.Empty() {
		return nil, errors.New("its extensions cannot be read")
	}
	for !all.Empty() {
		var extension, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !all.ReadASN1(&extension, casn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			extension.PeekASN1Tag(casn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
			!extension.ReadASN1(&value, casn1.OCTET_STRING) || !extension.Empty() {
			return nil, errors.New("an extension cannot be read")
		}
		switch {
		case !oid.Equal(oidNonce) && critical:
			return nil, errors.New("a critical extension is not known")
		case !oid.Equal(oidNonce):
			continue
		case nonce != nil:
			return nil, errors.New("there are two nonces")
		}
		var octets cryptobyte.String
		if !value.ReadASN1(&octets, casn1.OCTET_STRING) || !value.Empty() || len(octets) == 0 || len(octets) > maxNonce {
			return nil, errors.New("the nonce is not an OCTET STRING of 1 to 128 octets")
		}
		nonce = octets
	}
	return nonce, nil
}
