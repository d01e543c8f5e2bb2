package certid_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/estuary-pki/estuary/services/certid"
)

// TestOf holds both hashes against another implementation's.
func TestOf(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for hash := range certid.Algorithms {
		name, key, err := certid.Of(c, hash)
		if err != nil {
			t.Fatal(err)
		}
		request, err := ocsp.CreateRequest(c, c, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		want, err := ocsp.ParseRequest(request)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(name, want.IssuerNameHash) || !bytes.Equal(key, want.IssuerKeyHash) || want.HashAlgorithm != hash {
			t.Errorf("%v: %x and %x, not %x and %x", hash, name, key, want.IssuerNameHash, want.IssuerKeyHash)
		}
	}
	if _, _, err := certid.Of(c, crypto.MD5); err == nil {
		t.Error("MD5 names an issuer")
	}
	if _, _, err := certid.Of(&x509.Certificate{}, crypto.SHA1); err == nil {
		t.Error("a key that cannot be read has a hash")
	}
}
