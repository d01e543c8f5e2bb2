package est_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/cms/cmstest"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
)

// unb64 reads base64 with line breaks.
func unb64(t *testing.T, body string) []byte {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return der
}

func TestLayout(t *testing.T) {
	g := start(t, newBackend(t), 0)
	cases := []struct {
		name, label, agent string
		lines              bool
	}{
		{"auto with User-Agent", "", "User-Agent: curl/8", true},
		{"auto with an empty User-Agent", "", "User-Agent:", true},
		{"auto without User-Agent", "", "", false},
		{"lines with User-Agent", "loose/", "User-Agent: curl/8", true},
		{"lines without User-Agent", "loose/", "", true},
		{"oneline with User-Agent", "one/", "User-Agent: curl/8", false},
		{"oneline without User-Agent", "one/", "", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			lines := []string{}
			if c.agent != "" {
				lines = append(lines, c.agent)
			}
			response, body := exchange(t, g.dial(t, nil), get("/.well-known/est/"+c.label+"cacerts", lines...))
			if response.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", response.StatusCode, body)
			}
			certificates, err := cmstest.Parse(unb64(t, body))
			if err != nil || len(certificates) != 2 {
				t.Fatalf("%d certificates, %v", len(certificates), err)
			}
			if !c.lines {
				if strings.ContainsAny(body, "\r\n \t") {
					t.Error("white space in one line")
				}
				return
			}
			all := strings.SplitAfter(body, "\n")
			for i, line := range all[:len(all)-1] {
				if last := i == len(all)-2; !strings.HasSuffix(line, "\n") || (!last && len(line) != 65) || len(line) < 2 {
					t.Errorf("line %d of %d: %q", i, len(all)-1, line)
				}
			}
			if all[len(all)-1] != "" {
				t.Error("the last line has no end")
			}
		})
	}
}

func TestHeadersOfSuccess(t *testing.T) {
	g := start(t, newBackend(t), 0)
	conn := g.dial(t, nil)
	response, body := exchange(t, conn, post(enrolPath, b64(request(t, ecKey(t), "")), pkcs10, basic))
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", response.StatusCode, body)
	}
	for name, want := range map[string]string{
		"Content-Type":              "application/pkcs7-mime; smime-type=certs-only",
		"Content-Transfer-Encoding": "base64",
		"Cache-Control":             "no-store",
	} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	if response.ContentLength != int64(len(body)) || len(response.TransferEncoding) > 0 {
		t.Errorf("length %d, transfer coding %v", response.ContentLength, response.TransferEncoding)
	}
	// The connection goes on.
	if response, _ = exchange(t, conn, get("/.well-known/est/cacerts")); response.StatusCode != http.StatusOK {
		t.Errorf("second request: %d", response.StatusCode)
	}
	response, body = exchange(t, conn, verb("HEAD", "/.well-known/est/cacerts"))
	if response.StatusCode != http.StatusOK || body != "" || response.ContentLength < 100 {
		t.Errorf("HEAD: %d, %d octets announced, %q", response.StatusCode, response.ContentLength, body)
	}
	if got := g.received(); got.GetLabel() != "device" || got.GetChannel().GetClientAddress() != "127.0.0.1" ||
		got.GetChannel().GetTlsVersion() != tls.VersionTLS13 || len(got.GetChannel().GetServerEndPoint()) != 32 {
		t.Errorf("the validator got %v", got)
	}
}

// A TLS client that reads once gets head and body, for small replies and for chains that do
// not fit into net/http's buffer.
func TestOneRecord(t *testing.T) {
	small := newBackend(t)
	large := newBackend(t)
	pad := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: strings.Repeat("x", 60)}, NotAfter: time.Now(),
		ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, 4000)}},
	}
	large.chain = append(large.chain, sign(t, pad, pad, ecKey(t).Public(), ecKey(t)))
	for name, b := range map[string]*backend{"small": small, "large": large} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			g := start(t, b, 0)
			conn := g.dial(t, func(c *tls.Config) { c.MaxVersion = version })
			if _, err := io.WriteString(conn, get("/.well-known/est/cacerts")); err != nil {
				t.Fatal(err)
			}
			// Read returns at most one record.
			buf := make([]byte, 1<<15)
			n, err := conn.Read(buf)
			if n == 0 {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(buf[:n]))), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Errorf("%s, %s: %d octets of %d in the first record", name, tls.VersionName(version), len(body), response.ContentLength)
				continue
			}
			if got, err := cmstest.Parse(unb64(t, string(body))); err != nil || len(got) != len(b.chain) {
				t.Errorf("%s: %d certificates, %v", name, len(got), err)
			}
			if response.Close != (name == "large") || response.Header.Get("Date") == "" {
				t.Errorf("%s: close %v, date %q", name, response.Close, response.Header.Get("Date"))
			}
		}
	}
}

// Octet for octet: RFC 7030 section 4.5.2, RFC 8951, RFC 9908.
func TestCSRAttrs(t *testing.T) {
	require := signerv1.ChallengePassword_CHALLENGE_PASSWORD_REQUIRE
	cases := []struct {
		name  string
		facts *signerv1.ProfileFacts
		want  string
	}{
		{"nothing", &signerv1.ProfileFacts{KeyTypes: []string{"p256", "p384"}}, ""},
		{"binding", &signerv1.ProfileFacts{KeyTypes: []string{"p256", "p384"}, ChallengePassword: require}, "300b" + "06092a864886f70d010907"},
		{"one curve", &signerv1.ProfileFacts{KeyTypes: []string{"p384"}}, "3014" + "3012" + "06072a8648ce3d0201" + "3107" + "06052b81040022"},
		{"RSA", &signerv1.ProfileFacts{KeyTypes: []string{"rsa"}, RsaMinBits: 3072, RsaMaxBits: 4096}, "3013" + "3011" + "06092a864886f70d010101" + "3104" + "02020c00"},
		{"Ed25519", &signerv1.ProfileFacts{KeyTypes: []string{"ed25519"}}, "3005" + "06032b6570"},
		{
			"all, each once", &signerv1.ProfileFacts{KeyTypes: []string{"p256"}, ChallengePassword: require, CsrAttributes: []string{"1.2.840.113549.1.9.7", "2.5.4.5", "2.5.4.5"}},
			"3027" + "06092a864886f70d010907" + "3015" + "06072a8648ce3d0201" + "310a" + "06082a8648ce3d030107" + "0603550405",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBackend(t)
			c.facts.Label = "device"
			b.profiles = []*signerv1.ProfileFacts{c.facts}
			g := start(t, b, 0)
			response, body := exchange(t, g.dial(t, nil), get("/.well-known/est/csrattrs"))
			if c.want == "" {
				if response.StatusCode != http.StatusNoContent || body != "" || len(response.TransferEncoding) > 0 {
					t.Errorf("%d %q", response.StatusCode, body)
				}
				return
			}
			if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/csrattrs" {
				t.Fatalf("%d %v", response.StatusCode, response.Header)
			}
			// No user agent: one line, so that the body is the base64 and nothing else.
			if diff := cmp.Diff(c.want, hex.EncodeToString(unb64(t, body))); diff != "" || body != b64(unb64(t, body)) {
				t.Errorf("%s in %q", diff, body)
			}
		})
	}
}
