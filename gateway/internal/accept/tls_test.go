package accept_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
)

func TestHandshakes(t *testing.T) {
	f := start(t, roomy)
	p521 := []tls.CurveID{tls.CurveP521}
	cases := []struct {
		name   string
		client *tls.Config
		good   bool
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, true},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, false},
		{"X25519MLKEM768 alone", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}, true},
		{"X25519 alone", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}, true},
		{"P-256 alone", &tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP256}}, true},
		{"P-384 alone", &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, true},
		{"P-521 alone", &tls.Config{CurvePreferences: p521}, false},
		{"CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		{"GCM 256", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}}, true},
		{"ALPN http/1.1", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, true},
		{"ALPN h2 alone", &tls.Config{NextProtos: []string{"h2"}}, false},
	}
	for _, c := range cases {
		conn, err := f.dial(c.client)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		state := conn.ConnectionState()
		if len(c.client.NextProtos) > 0 && state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("%s: %q", c.name, state.NegotiatedProtocol)
		}
		if response := get(t, conn); response.StatusCode != http.StatusOK || response.ProtoMajor != 1 {
			t.Errorf("%s: %s %s", c.name, response.Proto, response.Status)
		}
		_ = conn.Close()
	}
	conn, err := f.dial(&tls.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if state := conn.ConnectionState(); state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("by default %s with %s", tls.VersionName(state.Version), state.CurveID)
	}
	_ = conn.Close()
}

// OpenSSL asks for a renegotiation at an R in its input.
func TestRenegotiationIsRefused(t *testing.T) {
	f := start(t, accept.Limits{Connections: 9, PerAddress: 9, Read: 15 * time.Second, Request: time.Second, Idle: 15 * time.Second})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", f.addr, "-tls1_2", "-legacy_renegotiation")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the sleep
		time.Sleep(300 * time.Millisecond)
		_, _ = io.WriteString(in, "R\n")
	}()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "RENEGOTIATING") || !strings.Contains(strings.ToLower(string(out)), "renegotiation") ||
		!strings.Contains(string(out), "alert") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestReload(t *testing.T) {
	f := start(t, roomy)
	cache := tls.NewLRUClientSessionCache(4)
	connect := func(version uint16) (serial int64, resumed bool, endPoint, want string) {
		t.Helper()
		conn, err := f.dial(&tls.Config{ClientSessionCache: cache, MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		response := get(t, conn)
		state := conn.ConnectionState()
		sum := sha256.Sum256(state.PeerCertificates[0].Raw)
		return state.PeerCertificates[0].SerialNumber.Int64(), state.DidResume, response.Header.Get("End-Point"), hex.EncodeToString(sum[:])
	}
	expect := func(step string, version uint16, serial int64, resumed bool) {
		t.Helper()
		s, r, endPoint, want := connect(version)
		if s != serial || r != resumed || endPoint != want {
			t.Errorf("%s, %s: serial %d, resumed %v, end point %s of %s", step, tls.VersionName(version), s, r, endPoint, want)
		}
	}
	serial := int64(1)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache = tls.NewLRUClientSessionCache(4)
		expect("first", version, serial, false)
		expect("again", version, serial, true)
		serial++
		f.writePair(t, serial)
		expect("new certificate: its channel binding is another one", version, serial, false)
		expect("new certificate again", version, serial, true)
	}
	if err := f.server.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	cache = tls.NewLRUClientSessionCache(4)
	good, err := os.ReadFile(f.cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "cut": good[:len(good)/2], "junk": []byte("junk")} {
		f.write(t, f.cert, bad)
		if s, _, _, _ := connect(tls.VersionTLS13); s != serial {
			t.Errorf("%s: serial %d", name, s)
		}
		if f.server.Check(t.Context()) == nil {
			t.Errorf("%s: Check says nothing", name)
		}
	}
	if n := f.metrics.GetOrCreateCounter("estuary_gateway_certificate_reload_errors_total").Get(); n != 3 {
		t.Errorf("%d reload errors counted", n)
	}
	f.write(t, f.cert, good)
	if err := f.server.Check(t.Context()); err != nil {
		t.Errorf("Check after the file is good again: %v", err)
	}
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	if s, _, _, _ := connect(tls.VersionTLS13); s != serial || f.server.Check(t.Context()) == nil {
		t.Errorf("key gone: serial %d", s)
	}
}

// RFC 5929 section 4.1.
func TestServerEndPoint(t *testing.T) {
	raw := []byte("certificate")
	for algorithm, hash := range map[x509.SignatureAlgorithm]crypto.Hash{
		x509.MD5WithRSA: crypto.SHA256, x509.SHA1WithRSA: crypto.SHA256, x509.ECDSAWithSHA1: crypto.SHA256,
		x509.SHA256WithRSA: crypto.SHA256, x509.ECDSAWithSHA384: crypto.SHA384, x509.SHA384WithRSAPSS: crypto.SHA384,
		x509.SHA512WithRSA: crypto.SHA512, x509.PureEd25519: 0,
	} {
		var want []byte
		if hash != 0 {
			h := hash.New()
			h.Write(raw)
			want = h.Sum(nil)
		}
		got := accept.ServerEndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: algorithm})
		if string(got) != string(want) {
			t.Errorf("%s: %x, not %x", algorithm, got, want)
		}
	}
}

func TestBindingNeedsTLS(t *testing.T) {
	if _, err := accept.Binding(nil); err == nil {
		t.Error("a binding without TLS")
	}
	if _, err := accept.Binding(&tls.ConnectionState{Version: tls.VersionTLS12}); err == nil {
		t.Error("an empty tls-unique was accepted")
	}
}
