package ocsp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	reference "golang.org/x/crypto/ocsp"

	"github.com/estuary-pki/estuary/signer/internal/ocsp"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 999, time.UTC)

func responder(t *testing.T) *ocsp.Responder {
	t.Helper()
	r := &ocsp.Responder{}
	var issuerKey *ecdsa.PrivateKey
	for _, c := range []**x509.Certificate{&r.Issuer, &r.Certificate} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: now.Add(time.Hour)}
		parent, parentKey := r.Issuer, issuerKey
		if parent == nil {
			parent, parentKey, issuerKey = template, k, k
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, k.Public(), parentKey)
		if err == nil {
			*c, err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Key = k
	}
	return r
}

func response(edit func(*ocsp.Response)) ocsp.Response {
	v := ocsp.Response{
		Serial: big.NewInt(0x80), Hash: crypto.SHA256, ProducedAt: now, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour),
	}
	if edit != nil {
		edit(&v)
	}
	return v
}

// TestSign holds every field against another implementation's reading.
func TestSign(t *testing.T) {
	r := responder(t)
	for name, edit := range map[string]func(*ocsp.Response){
		"good":                nil,
		"by SHA-1":            func(v *ocsp.Response) { v.Hash = crypto.SHA1 },
		"revoked":             func(v *ocsp.Response) { v.RevokedAt, v.Reason = now.Add(-time.Hour), 1 },
		"without reason":      func(v *ocsp.Response) { v.RevokedAt = now.Add(-time.Hour) },
		"with a nonce":        func(v *ocsp.Response) { v.Nonce = make([]byte, ocsp.MaxNonce) },
		"with another's zone": func(v *ocsp.Response) { v.ThisUpdate = v.ThisUpdate.In(time.FixedZone("", 3600)) },
	} {
		v := response(edit)
		der, err := r.Sign(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := reference.ParseResponse(der, r.Issuer)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cut := func(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
		status := reference.Good
		if !v.RevokedAt.IsZero() {
			status = reference.Revoked
		}
		if got.Status != status || got.SerialNumber.Cmp(v.Serial) != 0 || got.IssuerHash != v.Hash || got.RevocationReason != v.Reason ||
			!got.RevokedAt.Equal(cut(v.RevokedAt)) || !got.ProducedAt.Equal(cut(v.ProducedAt)) ||
			!got.ThisUpdate.Equal(cut(v.ThisUpdate)) || !got.NextUpdate.Equal(cut(v.NextUpdate)) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	r := responder(t)
	for name, edit := range map[string]func(*ocsp.Response){
		"no serial number":      func(v *ocsp.Response) { v.Serial = nil },
		"a negative one":        func(v *ocsp.Response) { v.Serial = big.NewInt(-1) },
		"MD5":                   func(v *ocsp.Response) { v.Hash = crypto.MD5 },
		"a long nonce":          func(v *ocsp.Response) { v.Nonce = make([]byte, ocsp.MaxNonce+1) },
		"a reason of no number": func(v *ocsp.Response) { v.RevokedAt, v.Reason = now, 7 },
		"an end before":         func(v *ocsp.Response) { v.NextUpdate = v.ThisUpdate.Add(time.Millisecond) },
	} {
		if der, err := r.Sign(response(edit)); err == nil {
			t.Errorf("%s: %x", name, der)
		}
	}
}

func TestDelegateNeedsItsParts(t *testing.T) {
	if _, err := ocsp.NewDelegate(ocsp.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}
