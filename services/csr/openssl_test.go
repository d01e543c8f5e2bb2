package csr_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509/pkix"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
)

// openssl runs the tool, which the tests need as they need the compiler.
func openssl(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v (Debian package openssl)\n%s", args, err, stderr.String())
	}
	return out
}

// made is one request of each kind of key, as `openssl req` makes it.
func made(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for name, key := range map[string][]string{
		"rsa2048": {"RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"rsa3072": {"RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
		"p256":    {"EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p384":    {"EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"p521":    {"EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
		"ed25519": {"ED25519"},
	} {
		file := filepath.Join(t.TempDir(), "key.pem")
		openssl(t, nil, append([]string{"genpkey", "-out", file, "-algorithm"}, key...)...)
		req := []string{"req", "-new", "-utf8", "-key", file, "-subj", "/C=DE/O=Große Firma, AG/CN=device-1+serialNumber=42", "-multivalue-rdn"}
		out[name] = openssl(t, nil, req...)
		out[name+" with names"] = openssl(t, nil, append(req, "-addext",
			"subjectAltName=DNS:Device-1.Example,IP:192.0.2.7,IP:2001:db8::7,email:a@b.example,URI:https://h.example/,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:a@b",
			"-addext", "keyUsage=critical,digitalSignature")...)
		if strings.HasPrefix(name, "rsa") {
			out[name+" PSS"] = openssl(t, nil, append(req, "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")...)
		}
	}
	return out
}

// TestOpenSSLRequestsAreRead compares what Parse finds in the tool's requests with what the
// tool itself shows.
func TestOpenSSLRequestsAreRead(t *testing.T) {
	for name, body := range made(t) {
		der, err := csr.Decode(body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r, err := csr.Parse(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		compare(t, name, der, r)
		if !r.MultiValuedRDN() || r.CommonName() != "device-1" {
			t.Errorf("%s: subject %v", name, r.RDNs())
		}
		if strings.HasSuffix(name, "names") {
			want := "[dns:device-1.example ip:192.0.2.7 ip:2001:db8::7 email:a@b.example uri:https://h.example/ other:1.3.6.1.4.1.311.20.2.3:0c03614062]"
			if got := fmt.Sprint(r.Names()); got != want {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		}
	}
}

// TestOpenSSLReadsWhatParseAccepts is the other direction: requests of crypto/x509.
func TestOpenSSLReadsWhatParseAccepts(t *testing.T) {
	for name, der := range sound(t) {
		r, err := csr.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, name, der, r)
	}
}

// compare holds hash of the key, subject and verification against the tool.
func compare(t *testing.T, name string, der []byte, r *csr.Request) {
	t.Helper()
	openssl(t, der, "req", "-inform", "DER", "-noout", "-verify")
	key := openssl(t, openssl(t, der, "req", "-inform", "DER", "-noout", "-pubkey"), "pkey", "-pubin", "-outform", "DER")
	if sha256.Sum256(key) != r.SPKISHA256() {
		t.Errorf("%s: the hash of the key differs", name)
	}
	subject := strings.TrimSpace(string(openssl(t, der, "req", "-inform", "DER", "-noout", "-subject", "-nameopt", "utf8,sep_comma_plus,sname")))
	if got := "subject=" + written(r.RDNs()); got != subject {
		t.Errorf("%s: got %s, openssl says %s", name, got, subject)
	}
}

// written is a subject in the order of its encoding, as the tool writes it with the options
// of compare.
func written(rdns pkix.RDNSequence) string {
	short := map[string]string{"2.5.4.3": "CN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.10": "O"}
	var out []string
	for _, rdn := range rdns {
		var set []string
		for _, a := range rdn {
			set = append(set, short[a.Type.String()]+"="+a.Value.(string))
		}
		out = append(out, strings.Join(set, "+"))
	}
	return strings.Join(out, ",")
}

// TestOpenSSLWeakRequests are what a user of an old tool or a copied command sends.
func TestOpenSSLWeakRequests(t *testing.T) {
	for says, c := range map[string]struct{ gen, sign []string }{
		"modulus of 1024 bits": {[]string{"RSA", "-pkeyopt", "rsa_keygen_bits:1024"}, nil},
		"SHA-1 is broken":      {[]string{"RSA"}, []string{"-sha1"}},
		"MD5 is broken":        {[]string{"RSA"}, []string{"-md5"}},
		"SHA-224 is too short": {[]string{"EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, []string{"-sha224"}},
		"secp256k1":            {[]string{"EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"}, nil},
		"P-224 (too short)":    {[]string{"EC", "-pkeyopt", "ec_paramgen_curve:secp224r1"}, nil},
		"does not name its":    {[]string{"EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"}, nil},
		"RSA exponent":         {[]string{"RSA", "-pkeyopt", "rsa_keygen_pubexp:3"}, nil},
		"Ed448":                {[]string{"ED448"}, nil},
		"RSASSA-PSS":           {[]string{"RSA-PSS"}, nil},
	} {
		file := filepath.Join(t.TempDir(), "key.pem")
		openssl(t, nil, append([]string{"genpkey", "-out", file, "-algorithm"}, c.gen...)...)
		der := openssl(t, nil, append([]string{"req", "-new", "-outform", "DER", "-key", file, "-subj", "/CN=a"}, c.sign...)...)
		_, err := csr.Parse(der)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
