package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// files returns a [ca] table in a new folder.
func files(t *testing.T) ca.Config {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) config.Path { return config.Path(filepath.Join(dir, name)) }
	return ca.Config{Name: "test-ca", Certificate: at("ca.crt"), Key: at("ca.key")}
}

func options(c ca.Config) ca.Options {
	return ca.Options{Files: c, KeyType: key.P256, Subject: "CN=Test CA,O=Example", Now: now}
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestInitLoadSign(t *testing.T) {
	for _, typ := range key.Types() {
		t.Run(string(typ), func(t *testing.T) {
			c := files(t)
			o := options(c)
			o.KeyType = typ
			root, err := ca.Init(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			a, err := ca.Load(t.Context(), c, now, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if !a.Certificate.Equal(root) || len(a.Chain) != 1 || a.Name != "test-ca" {
				t.Errorf("loaded %v", a.Certificate.Subject)
			}
			leaf := issueLeaf(t, a)
			path := filepath.Join(t.TempDir(), "leaf.pem")
			if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), 0o600); err != nil {
				t.Fatal(err)
			}
			at := []string{"verify", "-x509_strict", "-check_ss_sig", "-attime", "1772367000", "-CAfile", string(c.Certificate)}
			openssl(t, append(at, string(c.Certificate))...)
			openssl(t, append(at, path)...)
			text := openssl(t, "x509", "-in", string(c.Certificate), "-noout", "-text")
			for _, want := range []string{"CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "O = Example, CN = Test CA", "X509v3 Subject Key Identifier"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
		})
	}
}

// issueLeaf drafts and signs a certificate, and checks that what was signed is the draft.
func issueLeaf(t *testing.T, a *ca.Authority) []byte {
	t.Helper()
	holder, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "leaf"}, SubjectKeyId: []byte{1, 2, 3},
		NotBefore: now, NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	draft, err := a.Draft(template, holder.Public())
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.Draft(template, holder.Public())
	if err != nil || !bytes.Equal(draft.RawTBSCertificate, again.RawTBSCertificate) {
		t.Errorf("the same template gave something else: %v", err)
	}
	if c, err := x509.ParseCertificate(draft.Raw); err != nil || c.CheckSignatureFrom(a.Certificate) == nil {
		t.Errorf("the draft carries the authority's signature: %v", err)
	}
	der, err := a.Sign(t.Context(), draft.RawTBSCertificate)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckSignatureFrom(a.Certificate); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(c.RawTBSCertificate, draft.RawTBSCertificate) || !bytes.Equal(c.AuthorityKeyId, a.Certificate.SubjectKeyId) {
		t.Error("what was signed is not what was drafted, or has no authority key identifier")
	}
	return der
}

func TestInitWritesAllOrNothing(t *testing.T) {
	c := files(t)
	if err := os.WriteFile(string(c.Certificate), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Init(t.Context(), options(c)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwriting: %v", err)
	}
	if _, err := os.Stat(string(c.Key)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was left behind: %v", err)
	}
	for name, change := range map[string]func(*ca.Options){
		"no subject":  func(o *ca.Options) { o.Subject = "" },
		"bad subject": func(o *ca.Options) { o.Subject = "Test CA" },
		"bad country": func(o *ca.Options) { o.Subject = "CN=a,C=Germany" },
		"bad type":    func(o *ca.Options) { o.KeyType = "dsa" },
		"chain":       func(o *ca.Options) { o.Files.Chain = "chain.pem" },
		"passphrase":  func(o *ca.Options) { o.Files.Passphrase = "/nonexistent" },
		"validity":    func(o *ca.Options) { o.Validity = -time.Hour },
	} {
		o := options(files(t))
		change(&o)
		if _, err := ca.Init(t.Context(), o); err == nil {
			t.Errorf("%s: made", name)
		}
		if _, err := os.Stat(string(o.Files.Key)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a key was left behind", name)
		}
	}
}

func TestPassphrase(t *testing.T) {
	c := files(t)
	c.Passphrase = c.Key + ".passphrase"
	if err := os.WriteFile(string(c.Passphrase), []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Init(t.Context(), options(c)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(string(c.Key)); err != nil || !strings.Contains(string(text), "ENCRYPTED PRIVATE KEY") {
		t.Errorf("the key is not encrypted: %v", err)
	}
	if _, err := ca.Load(t.Context(), c, now, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(string(c.Passphrase), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Load(t.Context(), c, now, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty passphrase: %v", err)
	}
}

func TestLoadRefusesAndNamesTheFile(t *testing.T) {
	c := files(t)
	if _, err := ca.Init(t.Context(), options(c)); err != nil {
		t.Fatal(err)
	}
	other := files(t)
	if _, err := ca.Init(t.Context(), options(other)); err != nil {
		t.Fatal(err)
	}
	leaf := c
	leaf.Certificate, leaf.Key = selfSigned(t, func(c *x509.Certificate) { c.IsCA = false })
	noSign := c
	noSign.Certificate, noSign.Key = selfSigned(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	two := c
	two.Certificate += ".two"
	text, err := os.ReadFile(string(c.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(string(two.Certificate), append(text, text...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config ca.Config
		at     time.Time
		want   string
	}{
		"expired":      {c, now.Add(3650 * 24 * time.Hour), "expired on 2036-02-27T11:59:59Z"},
		"not yet":      {c, now.Add(-time.Second), "valid only from 2026-03-01"},
		"other key":    {ca.Config{Name: "x", Certificate: c.Certificate, Key: other.Key}, now, "for another key"},
		"CA:FALSE":     {leaf, now, "CA:FALSE"},
		"no keyCert":   {noSign, now, "keyCertSign"},
		"two":          {two, now, "2 certificates in it"},
		"key as cert":  {ca.Config{Name: "x", Certificate: c.Key, Key: c.Key}, now, "not CERTIFICATE"},
		"no file":      {ca.Config{Name: "x", Certificate: "/nonexistent", Key: c.Key}, now, "/nonexistent"},
		"wrong chain":  {ca.Config{Name: "x", Certificate: c.Certificate, Key: c.Key, Chain: other.Certificate}, now, "chain"},
		"without name": {ca.Config{Certificate: c.Certificate, Key: c.Key}, now, "no name"},
	} {
		_, err := ca.Load(t.Context(), test.config, test.at, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), string(test.config.Certificate)) {
			t.Errorf("%s: %v does not name the file", name, err)
		}
	}
}

// selfSigned writes a certificate that change has spoilt.
func selfSigned(t *testing.T, change func(*x509.Certificate)) (certificate, keyFile config.Path) {
	t.Helper()
	c := files(t)
	private, err := key.Generate(key.P256)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: now, NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), key.ForX509(t.Context(), private))
	if err != nil {
		t.Fatal(err)
	}
	text, err := private.PEM(passphraseless)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[config.Path][]byte{c.Key: text.Reveal(), c.Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})} {
		if err := os.WriteFile(string(path), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c.Certificate, c.Key
}

func TestLoadWarnsBeforeTheEnd(t *testing.T) {
	c := files(t)
	o := options(c)
	o.Validity = ca.WarnBefore + 2*time.Hour
	if _, err := ca.Init(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Time]bool{now: false, now.Add(3 * time.Hour): true} {
		var log bytes.Buffer
		if _, err := ca.Load(t.Context(), c, at, slog.New(slog.NewJSONHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), string(c.Certificate)); got != want {
			t.Errorf("at %v: %s", at, log.String())
		}
	}
}

// later returns a time at which a certificate made by openssl, which knows no other clock
// than the machine's, is valid.
func later(t *testing.T, path string) time.Time {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c.NotBefore.Add(time.Hour)
}
