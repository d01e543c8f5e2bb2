package est_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestCRLs: the newest list, as OpenSSL reads it, under every label; and 503 while there is none.
func TestCRLs(t *testing.T) {
	b := newBackend(t)
	h := newHandler(t, b, 0, io.Discard)
	get := func(path string) (*http.Response, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(recorder{w}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Result(), w.Body.String()
	}
	if response, _ := get("/.well-known/est/crls"); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("without a list: %d", response.StatusCode)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(3), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(0xabcdef), RevocationTime: time.Now()}},
	}, &x509.Certificate{SubjectKeyId: []byte{1}, RawSubject: b.ca.RawSubject, KeyUsage: x509.KeyUsageCRLSign}, b.key)
	if err != nil {
		t.Fatal(err)
	}
	b.crl = der
	for _, path := range []string{"/.well-known/est/crls", "/.well-known/est/device/crls"} {
		response, body := get(path)
		message, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
		if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" {
			t.Fatalf("%s: %d %v %v", path, response.StatusCode, response.Header, err)
		}
		cmd := exec.CommandContext(t.Context(), "openssl", "pkcs7", "-inform", "DER", "-print_certs")
		cmd.Stdin = bytes.NewReader(message)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "BEGIN X509 CRL") || strings.Contains(string(out), "BEGIN CERTIFICATE") || !bytes.Contains(message, der) {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}
