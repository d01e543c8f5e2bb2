package ca_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/ca"
)

var passphraseless secret.Bytes

// subordinate makes a request and has it signed with openssl by a new root, as somebody
// with an authority of their own would. It returns the [ca] table, the certificate, the root.
func subordinate(t *testing.T, extensions string) (c ca.Config, certificate, root string) {
	t.Helper()
	above := files(t)
	o := options(above)
	o.Subject, o.PathLen = "CN=Corporate Root", 1
	if _, err := ca.Init(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	c = files(t)
	c.Chain = c.Certificate + ".chain"
	dir := t.TempDir()
	request := filepath.Join(dir, "ca.csr")
	if err := ca.Request(t.Context(), options(c), request); err != nil {
		t.Fatal(err)
	}
	openssl(t, "req", "-in", request, "-noout", "-verify")
	extfile := filepath.Join(dir, "ext")
	if err := os.WriteFile(extfile, []byte("subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"+extensions), 0o600); err != nil {
		t.Fatal(err)
	}
	certificate = filepath.Join(dir, "sub.pem")
	openssl(t, "x509", "-req", "-in", request, "-CA", string(above.Certificate), "-CAkey", string(above.Key),
		"-days", "400", "-set_serial", "99", "-extfile", extfile, "-out", certificate)
	return c, certificate, string(above.Certificate)
}

// bundle puts files one behind the other.
func bundle(t *testing.T, paths ...string) string {
	t.Helper()
	var all []byte
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	out := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(out, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

const authorityExtensions = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"

func TestRequestAndImport(t *testing.T) {
	c, certificate, root := subordinate(t, authorityExtensions)
	at := later(t, certificate)
	for name, test := range map[string]struct{ path, want string }{
		"without root":  {certificate, "is missing"},
		"without own":   {root, "none of its certificates"},
		"with stranger": {bundle(t, root, certificate, string(initOther(t).Certificate)), "does not belong"},
		"not there":     {"/nonexistent", "/nonexistent"},
	} {
		if _, err := ca.Import(c, test.path, at); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(string(c.Certificate)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: something was written", name)
		}
	}
	noChain := c
	noChain.Chain = ""
	if _, err := ca.Import(noChain, bundle(t, root, certificate), at); err == nil || !strings.Contains(err.Error(), "names no file") {
		t.Errorf("nowhere to put the chain: %v", err)
	}
	a, err := ca.Import(c, bundle(t, root, certificate), at)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Chain) != 2 || a.Certificate.Subject.CommonName != "Test CA" || a.Chain[1].Subject.CommonName != "Corporate Root" {
		t.Errorf("chain %v", a.Chain)
	}
	if _, err := ca.Load(t.Context(), c, at, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	openssl(t, "verify", "-x509_strict", "-no_check_time", "-CAfile", string(c.Chain), string(c.Certificate))
	if _, err := ca.Import(c, bundle(t, root, certificate), at); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second import: %v", err)
	}
}

func TestImportRefusesWhatCannotSign(t *testing.T) {
	for extensions, want := range map[string]string{
		"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n":        "CA:FALSE",
		"basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,cRLSign\n": "keyCertSign",
	} {
		c, certificate, root := subordinate(t, extensions)
		if _, err := ca.Import(c, bundle(t, certificate, root), later(t, certificate)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", extensions, err)
		}
	}
}

func initOther(t *testing.T) ca.Config {
	t.Helper()
	c := files(t)
	if _, err := ca.Init(t.Context(), options(c)); err != nil {
		t.Fatal(err)
	}
	return c
}
