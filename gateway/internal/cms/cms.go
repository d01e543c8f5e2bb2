// Package cms turns certificates, or a revocation list, into the certs-only message of EST
// replies.
//
// est calls it for /cacerts, /crls and every enrolment. It knows no signatures: certs-only is
// the degenerate SignedData without signers (RFC 5272 section 4.1, RFC 5652 section 5.1).
package cms

import (
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	// OIDSignedData is id-signedData (RFC 5652 section 5.1).
	OIDSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	// OIDData is id-data (RFC 5652 section 4).
	OIDData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
)

// CertsOnly returns the DER of a ContentInfo that holds a SignedData of version 1 with
// these DER certificates and nothing else: no digest algorithms, an encapsulated content
// of type id-data without content, no CRLs, no signers.
//
// The certificates keep the order given, although DER sorts a SET: clients take the first
// for the leaf, and CMS asks for DER only where something is signed (RFC 5652 section 2).
func CertsOnly(certificates [][]byte) ([]byte, error) {
	if len(certificates) == 0 {
		return nil, errors.New("building certs-only: no certificate")
	}
	return degenerate(tagCertificates, certificates)
}

// CRLsOnly returns the same with this DER revocation list instead of certificates: what /crls
// of RFC 8295 section 4 answers.
func CRLsOnly(lists ...[]byte) ([]byte, error) { return degenerate(tagCRLs, lists) }

// The fields of a SignedData (RFC 5652 section 5.1).
const (
	tagCertificates = 0
	tagCRLs         = 1
)

func degenerate(field uint8, set [][]byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(info *cryptobyte.Builder) {
		info.AddASN1ObjectIdentifier(OIDSignedData)
		info.AddASN1(casn1.Tag(0).Constructed().ContextSpecific(), func(content *cryptobyte.Builder) {
			content.AddASN1(casn1.SEQUENCE, func(signed *cryptobyte.Builder) {
				addSignedData(signed, field, set)
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("building certs-only: %w", err)
	}
	return der, nil
}

func addSignedData(b *cryptobyte.Builder, field uint8, all [][]byte) {
	b.AddASN1Int64(1)
	b.AddASN1(casn1.SET, func(*cryptobyte.Builder) {}) // digestAlgorithms
	b.AddASN1(casn1.SEQUENCE, func(encapsulated *cryptobyte.Builder) {
		encapsulated.AddASN1ObjectIdentifier(OIDData)
	})
	b.AddASN1(casn1.Tag(field).Constructed().ContextSpecific(), func(set *cryptobyte.Builder) {
		for i, der := range all {
			if !oneSequence(der) {
				set.SetError(fmt.Errorf("element %d is not one DER SEQUENCE", i))
				return
			}
			set.AddBytes(der)
		}
	})
	b.AddASN1(casn1.SET, func(*cryptobyte.Builder) {}) // signerInfos
}

// oneSequence tells whether der is a single SEQUENCE with nothing behind it: anything else
// would change the structure of the message around it.
func oneSequence(der []byte) bool {
	s := cryptobyte.String(der)
	var element cryptobyte.String
	return s.ReadASN1(&element, casn1.SEQUENCE) && s.Empty()
}
