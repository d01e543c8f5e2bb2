package cms_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/cms"
	"github.com/estuary-pki/estuary/gateway/internal/cms/cmstest"
)

func certificate(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now(),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The message is known octet for octet: tags and lengths around a certificate of our choice.
func TestCertsOnlyBytes(t *testing.T) {
	got, err := cms.CertsOnly([][]byte{{0x30, 0x03, 0x02, 0x01, 0x05}})
	if err != nil {
		t.Fatal(err)
	}
	want := "302a" + "06092a864886f70d010702" + "a01d" + "301b" +
		"020101" + // version 1
		"3100" + // no digest algorithms
		"300b06092a864886f70d010701" + // id-data, no content
		"a005" + "3003020105" + // certificates
		"3100" // no signers
	if hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
}

func TestCertsOnlyKeepsOrder(t *testing.T) {
	in := [][]byte{certificate(t, "leaf"), certificate(t, "issuer"), certificate(t, "root")}
	der, err := cms.CertsOnly(in)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := cmstest.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, c := range parsed {
		out = append(out, c.Raw)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
}

func TestCertsOnlyRefuses(t *testing.T) {
	for name, in := range map[string][][]byte{
		"none":     nil,
		"empty":    {{}},
		"trailing": {append(certificate(t, "x"), 0)},
		"text":     {[]byte("certificate")},
		"cut":      {certificate(t, "x")[:20]},
	} {
		if der, err := cms.CertsOnly(in); err == nil {
			t.Errorf("%s: got %x, want an error", name, der)
		}
	}
}

// OpenSSL, which most clients use, reads what we write.
func TestOpenSSLReadsCertsOnly(t *testing.T) {
	in := [][]byte{certificate(t, "first"), certificate(t, "second")}
	der, err := cms.CertsOnly(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range [][]string{
		{"pkcs7", "-inform", "DER", "-print_certs"},
		{"cms", "-cmsout", "-print", "-inform", "DER"},
		{"asn1parse", "-inform", "DER"},
	} {
		cmd := exec.Command("openssl", tool...)
		cmd.Stdin = bytes.NewReader(der)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", tool, err, out)
		}
		switch tool[0] {
		case "pkcs7":
			checkPEM(t, out, in)
		case "cms":
			if !regexp.MustCompile(`signerInfos:\s+<EMPTY>`).Match(out) {
				t.Errorf("openssl cms does not see an empty signerInfos:\n%s", out)
			}
		default:
			if !strings.Contains(string(out), "pkcs7-signedData") {
				t.Errorf("openssl asn1parse:\n%s", out)
			}
		}
	}
}

func checkPEM(t *testing.T, out []byte, want [][]byte) {
	t.Helper()
	var got [][]byte
	for block, rest := pem.Decode(out); block != nil; block, rest = pem.Decode(rest) {
		got = append(got, block.Bytes)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("openssl pkcs7 prints other certificates: %s", diff)
	}
}
