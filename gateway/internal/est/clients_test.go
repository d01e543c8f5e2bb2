package est_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/gateway/internal/cms/cmstest"
)

// tool runs a program that has to be there, and returns what it writes.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// files makes what a user would: a key and a request with openssl.
func files(t *testing.T) (dir, key, csr string) {
	t.Helper()
	dir = t.TempDir()
	key, csr = filepath.Join(dir, "key.pem"), filepath.Join(dir, "req.pem")
	tool(t, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=dev", "-keyout", key, "-out", csr)
	return dir, key, csr
}

// url returns the URL of the service by a name that is in its certificate.
func (g *gateway) url() string {
	return "https://localhost:" + g.addr[strings.LastIndex(g.addr, ":")+1:]
}

func TestCurl(t *testing.T) {
	g := start(t, newBackend(t), 0)
	dir, key, csr := files(t)
	base := g.url() + "/.well-known/est"
	common := []string{"--silent", "--show-error", "--fail-with-body", "--cacert", g.pem}
	curl := func(args ...string) string { return tool(t, "curl", append(common, args...)...) }

	chain, err := cmstest.Parse(unb64(t, curl(base+"/cacerts")))
	if err != nil || len(chain) != 2 {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}
	der := filepath.Join(dir, "req.der")
	tool(t, "openssl", "req", "-in", csr, "-outform", "DER", "-out", der)
	b64file := filepath.Join(dir, "req.b64")
	tool(t, "openssl", "base64", "-in", der, "-out", b64file)
	for _, body := range []string{csr, der, b64file} {
		for _, extra := range [][]string{{}, {"--tls-max", "1.2"}, {"-H", "Transfer-Encoding: chunked"}, {"-H", "Expect: 100-continue"}, {"--http2"}, {"--basic"}, {"-A", ""}} {
			reply := curl(append([]string{"-u", "dev:token", "-H", "Content-Type: application/pkcs10", "--data-binary", "@" + body, base + "/simpleenroll"}, extra...)...)
			p7 := filepath.Join(dir, "reply.p7")
			if err := os.WriteFile(p7, unb64(t, reply), 0o600); err != nil {
				t.Fatal(err)
			}
			printed := tool(t, "openssl", "pkcs7", "-inform", "DER", "-in", p7, "-print_certs")
			block, _ := pem.Decode([]byte(printed[strings.Index(printed, "-----BEGIN"):]))
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if err := leaf.CheckSignatureFrom(chain[0]); err != nil {
				t.Error(err)
			}
			if public := tool(t, "openssl", "pkey", "-in", key, "-pubout"); !strings.Contains(public, "PUBLIC KEY") ||
				string(pemBytes(t, public)) != string(leaf.RawSubjectPublicKeyInfo) {
				t.Error("the certificate is for another key")
			}
		}
	}
	// --anyauth asks first without a credential.
	curl("--anyauth", "-u", "dev:token", "-H", "Content-Type: application/pkcs10", "--data-binary", "@"+csr, "-o", os.DevNull, base+"/simpleenroll")
	refused := exec.Command("curl", append(common, "-u", "dev:wrong", "-H", "Content-Type: application/pkcs10", "--data-binary", "@"+csr, base+"/simpleenroll")...)
	if out, err := refused.CombinedOutput(); err == nil || !strings.Contains(string(out), "401") {
		t.Errorf("%v: %s", err, out)
	}
}

// strongSwan sends no User-Agent, does two TLS reads, and stumbles over white space.
func TestStrongSwan(t *testing.T) {
	g := start(t, newBackend(t), 0)
	dir, _, csr := files(t)
	out := filepath.Join(dir, "ca")
	tool(t, "pki", "--estca", "--url", g.url(), "--cacert", g.pem, "--caout", out, "--outform", "pem")
	found, err := filepath.Glob(out + "*")
	if err != nil || len(found) != 2 {
		t.Fatalf("CA certificates: %v, %v", found, err)
	}
	// It knows no labels: it puts /.well-known/est behind whatever path the URL has.
	args := []string{"--est", "--url", g.url(), "--in", csr, "--cacert", g.pem, "--userpass", "dev:token", "--outform", "pem"}
	for _, ca := range found {
		args = append(args, "--cacert", ca)
	}
	certificate, err := exec.CommandContext(t.Context(), "pki", args...).Output()
	if err != nil {
		t.Fatalf("pki %v: %v\n%s\n%s", args, err, certificate, g.log)
	}
	leaf, err := x509.ParseCertificate(pemBytes(t, string(certificate)))
	if err != nil || leaf.CheckSignatureFrom(g.ca) != nil {
		t.Errorf("%v: %s", err, certificate)
	}
	if n := g.issues.Load(); n != 1 {
		t.Errorf("%d certificates were issued", n)
	}
}

func pemBytes(t *testing.T, text string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM in %q", text)
	}
	return block.Bytes
}
