package profile_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

var update = flag.Bool("update", false, "write the golden certificates anew")

// TestGolden holds a whole certificate and its root to bytes in testdata: a change of a
// library or of ours that changes certificates shows here first.
func TestGolden(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	dir := t.TempDir()
	files := ca.Config{
		Name: "ca", Certificate: config.Path(filepath.Join(dir, "ca.pem")), Key: config.Path(filepath.Join(dir, "ca.key")),
	}
	if _, err := ca.Init(t.Context(), ca.Options{Files: files, KeyType: key.Ed25519, Subject: "CN=Golden CA,O=Estuary,C=DE", Now: now}); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Load(t.Context(), files, now, slogDiscard)
	if err != nil {
		t.Fatal(err)
	}
	set := newSet(t, a, device(func(p *profile.Profile) {
		p.Subject, p.ExtKeyUsage = "CN={principal},OU={label},O=Estuary", []string{"clientAuth", "serverAuth"}
		p.CRLDistributionPoints, p.AIACAIssuers = []string{"http://est.test/crl/ca.crl"}, []string{"http://est.test/ca/ca.crt"}
	}))
	holder := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	r := asks(t, holder, x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}})
	template, err := set.Build(says([]string{"dns:pump-7.example.net", "ip:192.0.2.7", "email:a@example.net", "uri:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}), r, now, serial)
	if err != nil {
		t.Fatal(err)
	}
	draft, err := a.Draft(template, r.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Sign(t.Context(), draft.RawTBSCertificate)
	if err != nil {
		t.Fatal(err)
	}
	root, leaf := golden(t, "root.pem", a.Certificate.Raw), golden(t, "device.pem", der)
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", "1772373600", "-CAfile", root, leaf).CombinedOutput()
	if err != nil {
		t.Errorf("openssl verify: %s", out)
	}
	out, err = exec.Command("openssl", "x509", "-in", leaf, "-noout", "-text").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl x509: %s", out)
	}
	for _, want := range []string{
		"Subject: O = Estuary, OU = device, CN = pump-7", "CA:FALSE", "Digital Signature", "TLS Web Client Authentication, TLS Web Server Authentication",
		"DNS:pump-7.example.net, email:a@example.net, IP Address:192.0.2.7, URI:urn:uuid:", "URI:http://est.test/crl/ca.crl", "CA Issuers - URI:http://est.test/ca/ca.crt",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if now.Truncate(time.Second).Add(90*24*time.Hour) != template.NotAfter {
		t.Errorf("ends %v", template.NotAfter)
	}
}

// golden compares a certificate with its file in testdata, whose path it returns.
func golden(t *testing.T, name string, der []byte) string {
	t.Helper()
	path := filepath.Join("testdata", name)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if *update {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%s has changed: look at it, then run with -update\n%s", name, text)
	}
	return path
}
