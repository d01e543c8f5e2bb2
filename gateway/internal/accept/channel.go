package accept

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/certpath"
)

// Channel returns what TLS proved for the connection of r: for the validator.
func Channel(r *http.Request) *validatorv1.Channel {
	c := &validatorv1.Channel{ClientAddress: Address(r), ServerEndPoint: endPointOf(r)}
	if r.TLS != nil {
		c.TlsVersion = uint32(r.TLS.Version)
		size := 0
		for _, presented := range r.TLS.PeerCertificates {
			size += len(presented.Raw)
			c.ClientCertificates = append(c.ClientCertificates, presented.Raw)
		}
		if len(c.ClientCertificates) > certpath.MaxCertificates || size > certpath.MaxOctets {
			c.ClientCertificates, c.TooManyCertificates = nil, true
		}
	}
	return c
}

// Address returns the client's address without port and zone, IPv4 as such.
func Address(r *http.Request) string {
	parsed, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return parsed.Addr().Unmap().WithZone("").String()
}

// Binding returns the octets by which a client may bind a request to this connection (RFC
// 7030 section 3.5): tls-unique (RFC 5929 section 3) under TLS 1.2, on a resumed session
// too, and tls-exporter (RFC 9266) under TLS 1.3, as RFC 9148 section 3 has it. The error
// says that the connection has none: a TLS 1.2 client without extended master secret.
func Binding(state *tls.ConnectionState) ([]byte, error) {
	if state == nil {
		return nil, errors.New("not a TLS connection")
	}
	if state.Version >= tls.VersionTLS13 {
		value, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		if err != nil {
			return nil, fmt.Errorf("exporting the channel binding: %w", err)
		}
		return value, nil
	}
	if len(state.TLSUnique) == 0 {
		return nil, errors.New("a resumed TLS 1.2 session without extended master secret has no tls-unique")
	}
	return state.TLSUnique, nil
}

// endPointHashes are the hashes of certificate signatures. RFC 5929 section 4.1 replaces
// MD5 and SHA-1 by SHA-256, and defines nothing for signatures without a hash of their own,
// as Ed25519 is.
var endPointHashes = map[x509.SignatureAlgorithm]crypto.Hash{
	x509.MD5WithRSA: crypto.SHA256, x509.SHA1WithRSA: crypto.SHA256, x509.ECDSAWithSHA1: crypto.SHA256,
	x509.SHA256WithRSA: crypto.SHA256, x509.SHA256WithRSAPSS: crypto.SHA256, x509.ECDSAWithSHA256: crypto.SHA256,
	x509.SHA384WithRSA: crypto.SHA384, x509.SHA384WithRSAPSS: crypto.SHA384, x509.ECDSAWithSHA384: crypto.SHA384,
	x509.SHA512WithRSA: crypto.SHA512, x509.SHA512WithRSAPSS: crypto.SHA512, x509.ECDSAWithSHA512: crypto.SHA512,
}

// serverEndPoint returns the tls-server-end-point of a certificate, nil where there is none.
func serverEndPoint(leaf *x509.Certificate) []byte {
	hash, ok := endPointHashes[leaf.SignatureAlgorithm]
	if !ok {
		return nil
	}
	h := hash.New()
	h.Write(leaf.Raw)
	return h.Sum(nil)
}
