package lint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/signer/internal/lint"
)

// certificate signs a sound template, changed.
func certificate(t testing.TB, change func(*x509.Certificate)) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, SubjectKeyId: []byte{1, 2, 3},
		NotBefore: start, NotAfter: start.Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, DNSNames: []string{"a.test"},
	}
	change(template)
	issuer := &x509.Certificate{RawSubject: []byte("\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x13\x02CA"), SubjectKeyId: []byte{9}}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCheck(t *testing.T) {
	l, err := lint.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(certificate(t, func(*x509.Certificate) {})); err != nil {
		t.Errorf("a sound certificate: %v", err)
	}
	for want, change := range map[string]func(*x509.Certificate){
		"e_subject_common_name_max_length": func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("a", 65) },
		"e_ext_key_usage_cert_sign":        func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"e_san_dns_name_starts_with":       func(c *x509.Certificate) { c.DNSNames = []string{".test"} },
		"e_ext_san_uri_relative":           func(c *x509.Certificate) { c.ExtraExtensions = uri("relative") },
	} {
		if err := l.Check(certificate(t, change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
	if err := l.Check([]byte{0x30, 0}); err == nil {
		t.Error("what is no certificate passed")
	}
}

func uri(text string) []pkix.Extension {
	value := append([]byte{0x30, byte(len(text) + 2), 0x86, byte(len(text))}, text...)
	return []pkix.Extension{{Id: []int{2, 5, 29, 17}, Value: value}}
}

func BenchmarkCheck(b *testing.B) {
	l, err := lint.New()
	if err != nil {
		b.Fatal(err)
	}
	der := certificate(b, func(*x509.Certificate) {})
	for b.Loop() {
		if err := l.Check(der); err != nil {
			b.Fatal(err)
		}
	}
}
