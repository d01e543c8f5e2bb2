// Package meshtest holds a certification authority and a server for tests that speak over a
// real mesh on the loopback interface.
//
// Tests of every module use it in place of `signer mesh init` and the commands' own wiring;
// the product never imports it.
package meshtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
)

// The names under which the services know each other.
const (
	Gateway   = "gateway.estuary.internal"
	Admin     = "admin.estuary.internal"
	Validator = "validator.estuary.internal"
	Signer    = "signer.estuary.internal"
)

// CA is an authority for one test.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New returns a new authority.
func New(t testing.TB) *CA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test mesh"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{cert: cert, key: key}
}

// Leaf says what stands in a certificate; for those that a mesh must refuse.
type Leaf struct {
	// DNS and URIs are the names in subjectAltName.
	DNS  []string
	URIs []string
	// NotBefore and NotAfter bound its life; zero is an hour ago and in an hour.
	NotBefore, NotAfter time.Time
	// Usage is the extended key usage; nil is both server and client.
	Usage []x509.ExtKeyUsage
}

// Cert returns the files of a certificate for name, in a new folder.
func (ca *CA) Cert(t testing.TB, name string) mesh.Config {
	t.Helper()
	return ca.Issue(t, Leaf{DNS: []string{name}})
}

// TLS returns Cert as it is loaded.
func (ca *CA) TLS(t testing.TB, name string) *mesh.TLS {
	t.Helper()
	loaded, err := mesh.LoadTLS(ca.Cert(t, name), slog.New(slog.DiscardHandler), metrics.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// Issue returns the files of a certificate, in a new folder.
func (ca *CA) Issue(t testing.TB, leaf Leaf) mesh.Config {
	t.Helper()
	dir := t.TempDir()
	c := mesh.Config{
		Certificate: config.Path(filepath.Join(dir, "mesh.crt")),
		Key:         config.Path(filepath.Join(dir, "mesh.key")),
		CA:          config.Path(filepath.Join(dir, "ca.crt")),
	}
	ca.Write(t, c, leaf)
	return c
}

// Write puts a new certificate, its key and the authority into the files of c.
func (ca *CA) Write(t testing.TB, c mesh.Config, leaf Leaf) {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, leaf.template(t), ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[config.Path][]byte{
		c.Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		c.Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		c.CA:          ca.PEM(),
	} {
		if err := os.WriteFile(string(path), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// PEM returns the authority's certificate.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

func (l Leaf) template(t testing.TB) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames:    l.DNS,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, text := range l.URIs {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	if !l.NotBefore.IsZero() {
		template.NotBefore = l.NotBefore
	}
	if !l.NotAfter.IsZero() {
		template.NotAfter = l.NotAfter
	}
	if l.Usage != nil {
		template.ExtKeyUsage = l.Usage
	}
	return template
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Listen returns a listener on a free port of the loopback interface.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
