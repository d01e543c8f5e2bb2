// Package selfsigned turns host names into a TLS certificate and key to begin with.
//
// The commands "gateway setup" and "admin setup" call it; an organisation's own PKI takes its
// place when there is time.
package selfsigned

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/estuary-pki/estuary/services/newfile"
)

// Life is how long a certificate is valid: what clients take at most.
const Life = 825 * 24 * time.Hour

// Make makes a P-256 key and a self-signed certificate for hosts, DNS names and addresses, and
// writes both, or nothing. It overwrites nothing: where both are there it returns false.
func Make(certificate, key string, hosts []string, now time.Time) (made bool, err error) {
	missing, err := newfile.Missing(certificate, key)
	if err != nil || !missing {
		return false, err
	}
	if len(hosts) == 0 {
		return false, errors.New("a certificate needs the name of a host")
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return false, fmt.Errorf("making a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return false, fmt.Errorf("drawing serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.SetBit(serial, 158, 1), Subject: pkix.Name{CommonName: hosts[0]},
		// An hour back: the clocks of new machines differ.
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(Life), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return false, fmt.Errorf("signing a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return false, fmt.Errorf("encoding a key: %w", err)
	}
	return true, newfile.Write(
		newfile.File{Path: key, Mode: newfile.Secret, Data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})},
		newfile.File{Path: certificate, Mode: newfile.Open, Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})},
	)
}
