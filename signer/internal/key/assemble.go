package key

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Assemble puts to-be-signed bytes and their signature together: the outer SEQUENCE that
// certificates and revocation lists share (RFC 5280 sections 4.1 and 5.1).
func Assemble(tbs []byte, a x509.SignatureAlgorithm, signature []byte) ([]byte, error) {
	oid, null, err := identifier(a)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			if null {
				b.AddASN1NULL()
			}
		})
		b.AddASN1BitString(signature)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("assembling: %w", err)
	}
	return der, nil
}

// identifier returns an algorithm's OID, and whether NULL parameters follow it: they must
// for RSA (RFC 4055 section 5) and must not for ECDSA and Ed25519 (RFC 5758 section 3.2,
// RFC 8410 section 3).
func identifier(a x509.SignatureAlgorithm) (oid asn1.ObjectIdentifier, null bool, err error) {
	switch a {
	case x509.SHA256WithRSA:
		return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, true, nil
	case x509.ECDSAWithSHA256:
		return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, false, nil
	case x509.ECDSAWithSHA384:
		return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, false, nil
	case x509.PureEd25519:
		return asn1.ObjectIdentifier{1, 3, 101, 112}, false, nil
	}
	return nil, false, fmt.Errorf("signature algorithm %v is not used", a)
}
