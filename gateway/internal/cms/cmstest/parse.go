// Package cmstest turns certs-only messages back into certificates, for tests.
package cmstest

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/estuary-pki/estuary/gateway/internal/cms"
)

// Parse returns the certificates of a certs-only message in the order in which they stand.
// It accepts nothing but the exact form that RFC 5272 section 4.1 prescribes.
func Parse(der []byte) ([]*x509.Certificate, error) {
	input := cryptobyte.String(der)
	context0 := casn1.Tag(0).Constructed().ContextSpecific()
	var info, content, signed cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !input.ReadASN1(&info, casn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(cms.OIDSignedData) ||
		!info.ReadASN1(&content, context0) || !info.Empty() ||
		!content.ReadASN1(&signed, casn1.SEQUENCE) || !content.Empty() {
		return nil, errors.New("not a ContentInfo of signedData")
	}
	var version int
	var digests, encapsulated, certificates, signers cryptobyte.String
	if !signed.ReadASN1Integer(&version) || version != 1 ||
		!signed.ReadASN1(&digests, casn1.SET) || !digests.Empty() ||
		!signed.ReadASN1(&encapsulated, casn1.SEQUENCE) ||
		!encapsulated.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(cms.OIDData) || !encapsulated.Empty() ||
		!signed.ReadASN1(&certificates, context0) ||
		!signed.ReadASN1(&signers, casn1.SET) || !signers.Empty() || !signed.Empty() {
		return nil, errors.New("not a certs-only SignedData")
	}
	parsed, err := x509.ParseCertificates(certificates)
	if err != nil {
		return nil, fmt.Errorf("parsing the certificates: %w", err)
	}
	return parsed, nil
}
