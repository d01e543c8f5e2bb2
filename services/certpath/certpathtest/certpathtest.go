// Package certpathtest holds what tests of presented certificates need: it makes them.
package certpathtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/subjectid"
)

// Holder is a certificate with its key.
type Holder struct {
	*x509.Certificate
	// Key is its private key.
	Key crypto.Signer
}

// Issue makes a certificate for a key, a new one where that is nil, signed by another or, where
// by is nil, by itself. It is good for an hour each way, unless change says otherwise.
func Issue(t testing.TB, by *Holder, key crypto.Signer, change func(*x509.Certificate)) *Holder {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "c"}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	if by == nil {
		by = &Holder{Certificate: template, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, key.Public(), by.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Holder{Certificate: c, Key: key}
}

// Authority makes a template one of an authority, with a name of its own and good for longer.
func Authority(c *x509.Certificate) {
	c.Subject.CommonName, c.IsCA, c.KeyUsage = "CA "+c.SerialNumber.String(), true, x509.KeyUsageCertSign
	c.NotBefore, c.NotAfter = time.Now().Add(-1000*time.Hour), time.Now().Add(1000*time.Hour)
}

// Of makes a template one of our own: for an identity, which it names.
func Of(t testing.TB, kind assertionv1.IdentityKind, principal, realm string) func(*x509.Certificate) {
	t.Helper()
	e, err := subjectid.Extension(subjectid.ID{Kind: kind, Principal: principal, Realm: realm})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtraExtensions = principal, append(c.ExtraExtensions, e)
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

// PEM returns the certificate in PEM.
func (h *Holder) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Raw})
}

// File writes certificates into a new file and returns its path.
func File(t testing.TB, all ...*Holder) string {
	t.Helper()
	var text []byte
	for _, h := range all {
		text = append(text, h.PEM()...)
	}
	path := filepath.Join(t.TempDir(), "anchors.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TLS returns what a client presents: itself, and the certificates behind.
func (h *Holder) TLS(behind ...*Holder) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{h.Raw}, PrivateKey: h.Key}
	for _, b := range behind {
		c.Certificate = append(c.Certificate, b.Raw)
	}
	return c
}
