package ipatest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the CA of a server.
type authority struct {
	ca    *x509.Certificate
	caKey crypto.Signer
}

// CAFile returns the path of the PEM file with the CA's certificate.
func (s *Server) CAFile() string { return filepath.Join(s.dir, "ipa-ca.pem") }

// makeAuthority makes the CA and the server's certificate, both with P-256 keys, for
// 127.0.0.1, ::1 and localhost.
func (s *Server) makeAuthority() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	s.caKey = key
	s.ca = template("Certificate Authority")
	s.ca.IsCA, s.ca.BasicConstraintsValid = true, true
	s.ca.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, s.ca, s.ca, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making the CA: %w", err)
	}
	if s.ca, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("making the CA: %w", err)
	}
	if err := writePEM(s.CAFile(), "CERTIFICATE", der); err != nil {
		return err
	}
	t := template("localhost")
	t.DNSNames, t.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	certificate, err := s.issue(t)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.ca)
	s.tls = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}, // the cheap ones
	}
	return nil
}

// ClientCertificate makes a certificate with which SASL EXTERNAL over TLS binds the service
// account, and returns the paths of its PEM files.
func (s *Server) ClientCertificate() (certificate, key string, err error) {
	t := template("estuary")
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	c, err := s.issue(t)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return "", "", fmt.Errorf("encoding a key: %w", err)
	}
	certificate, key = filepath.Join(s.dir, "ipa-client.pem"), filepath.Join(s.dir, "ipa-client.key")
	if err := writePEM(certificate, "CERTIFICATE", c.Certificate[0]); err != nil {
		return "", "", err
	}
	return certificate, key, writePEM(key, "PRIVATE KEY", der)
}

// issue signs a certificate for a new key.
func (s *Server) issue(t *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, s.ca, key.Public(), s.caKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// template is a certificate that is good whatever clock a test has.
func template(name string) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails (crypto/rand)
	serial[0] = serial[0]&0x3f | 0x40
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{Organization: []string{realm}, CommonName: name},
		NotBefore:    time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC),
	}
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing a certificate: %w", err)
	}
	return nil
}
