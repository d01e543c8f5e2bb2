package key_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

func passphrase(s string) secret.Bytes { return secret.New([]byte(s)) }

// write puts text into a file of mode 0600.
func write(t *testing.T, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestEveryTypeSignsAndComesBack(t *testing.T) {
	for _, typ := range key.Types() {
		t.Run(string(typ), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			made, err := key.Create(path, typ, secret.Bytes{})
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			opened, err := key.OpenFile(path, secret.Bytes{})
			if err != nil {
				t.Fatal(err)
			}
			tbs := []byte{0x30, 0x03, 0x02, 0x01, 0x05}
			signature, err := opened.Sign(t.Context(), tbs)
			if err != nil {
				t.Fatal(err)
			}
			if err := key.Verify(made, tbs, signature); err != nil {
				t.Error(err)
			}
			if err := key.Verify(made, append(tbs, 0), signature); err == nil {
				t.Error("a signature over something else verified")
			}
			if _, err := key.Create(path, typ, secret.Bytes{}); !errors.Is(err, fs.ErrExist) {
				t.Errorf("overwriting: %v", err)
			}
		})
	}
}

func TestEncryptedBothWaysWithOpenSSL(t *testing.T) {
	dir := t.TempDir()
	ours := filepath.Join(dir, "ours.pem")
	if _, err := key.Create(ours, key.P256, passphrase("correct horse")); err != nil {
		t.Fatal(err)
	}
	if out := openssl(t, "pkey", "-in", ours, "-passin", "pass:correct horse", "-noout", "-text"); !bytes.Contains(out, []byte("prime256v1")) {
		t.Errorf("openssl read our key as %s", out)
	}
	for name, args := range map[string][]string{
		"aes-256-cbc": {"-v2", "aes-256-cbc"},
		"sha1":        {"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"},
		"3des":        {"-v2", "des3"},
		"scrypt":      {"-scrypt"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "theirs.pem")
			plain := filepath.Join(t.TempDir(), "plain.pem")
			openssl(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", plain)
			openssl(t, append([]string{"pkcs8", "-topk8", "-in", plain, "-out", path, "-passout", "pass:secret"}, args...)...)
			f, err := key.OpenFile(path, passphrase("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if f.Algorithm() != x509.ECDSAWithSHA384 {
				t.Errorf("algorithm %v", f.Algorithm())
			}
			if _, err := key.OpenFile(path, passphrase("Secret")); err == nil {
				t.Error("a wrong passphrase opened it")
			}
		})
	}
}

func TestRefusedFiles(t *testing.T) {
	encode := func(typ string, private any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	}
	good, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	plain := encode("PRIVATE KEY", good)
	encrypted := encryptedKey(t)
	cut, _ := pem.Decode(encrypted)
	cut.Bytes = cut.Bytes[:len(cut.Bytes)-1]
	cut.Bytes[2]-- // keeps the outer length right: the ciphertext is one octet short
	for name, c := range map[string]struct {
		text       []byte
		passphrase string
		want       string
	}{
		"no PEM":               {[]byte("canary-5a7c"), "", "not a PEM file"},
		"empty":                {nil, "", "not a PEM file"},
		"two blocks":           {append(bytes.Clone(plain), plain...), "", "something follows"},
		"traditional":          {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("canary-5a7c")}), "", "PKCS#8 is wanted"},
		"junk":                 {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary-5a7c")}), "", "damaged"},
		"no passphrase":        {encrypted, "", "no passphrase is configured"},
		"wrong passphrase":     {encrypted, "canary-5a7c", "wrong passphrase"},
		"needless passphrase":  {plain, "canary-5a7c", "not encrypted"},
		"damaged ciphertext":   {pem.EncodeToMemory(cut), "right", "damaged"},
		"P-521":                {encode("PRIVATE KEY", p521), "", "curve P-521 is not used"},
		"RSA of 1024 bits":     {encode("PRIVATE KEY", weak), "", "modulus of 1024 bits"},
		"a public key":         {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("canary-5a7c")}), "", "PKCS#8 is wanted"},
		"certificate in front": {append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), plain...), "", "something follows"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.text)
			_, err := key.OpenFile(path, passphrase(c.passphrase))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want %q and the path", err, c.want)
			}
			if strings.Contains(err.Error(), "canary-5a7c") || strings.Contains(err.Error(), fmt.Sprintf("%x", "canary-5a7c")) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
	path := write(t, plain)
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := key.OpenFile(path, secret.Bytes{}); err == nil || !strings.Contains(err.Error(), "open to everybody") {
		t.Errorf("a file that everybody may read: %v", err)
	}
}

func encryptedKey(t *testing.T) []byte {
	t.Helper()
	f, err := key.Generate(key.P256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := f.PEM(passphrase("right"))
	if err != nil {
		t.Fatal(err)
	}
	return text.Reveal()
}

func TestSignAfterTheEnd(t *testing.T) {
	f, err := key.Generate(key.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Sign(ctx, []byte{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("signed under an ended context: %v", err)
	}
}

func TestAssembleIsWhatX509Makes(t *testing.T) {
	for _, typ := range key.Types() {
		f, err := key.Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.CertificateRequest{SignatureAlgorithm: f.Algorithm()}
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key.ForX509(t.Context(), f))
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		again, err := key.Assemble(made.RawTBSCertificateRequest, f.Algorithm(), made.Signature)
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("%s: %x, %v\nwant %x", typ, again, err, der)
		}
	}
	if _, err := key.Assemble(nil, x509.SHA1WithRSA, nil); err == nil {
		t.Error("SHA-1 was assembled")
	}
}

func TestThrowawayIsAlikeAndNotTheSame(t *testing.T) {
	for _, typ := range key.Types() {
		f, err := key.Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
		other, err := key.Throwaway(f.Public())
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.CertificateRequest{SignatureAlgorithm: f.Algorithm()}
		if _, err := x509.CreateCertificateRequest(rand.Reader, template, other); err != nil {
			t.Errorf("%s: its throw-away cannot sign the same way: %v", typ, err)
		}
		if f.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(other.Public()) {
			t.Errorf("%s: the throw-away is the key itself", typ)
		}
	}
}
