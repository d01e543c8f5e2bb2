package accept_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
)

// fixture is a running server with its files.
type fixture struct {
	server    *accept.Server
	metrics   *metrics.Set
	addr      string
	cert, key string
}

// roomy leaves a busy machine its time.
var roomy = accept.Limits{Connections: 100, PerAddress: 100, Read: 15 * time.Second, Request: time.Second, Idle: 15 * time.Second}

// writePair makes a new certificate of this serial number and writes it with its key.
func (f *fixture) writePair(t *testing.T, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.write(t, f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// write replaces a file; its time of change is its own, whatever the clock's grain.
func (f *fixture) write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) config(l accept.Limits, h http.Handler) accept.Config {
	return accept.Config{
		Certificate: f.cert, Key: f.key, Limits: l, Handler: h,
		Log: slog.New(slog.DiscardHandler), Metrics: f.metrics, Now: time.Now,
	}
}

func start(t *testing.T, l accept.Limits) *fixture {
	t.Helper()
	return startAuth(t, l, accept.ClientAuth{})
}

func startAuth(t *testing.T, l accept.Limits, auth accept.ClientAuth) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{metrics: metrics.NewSet(), cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	f.writePair(t, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		channel := accept.Channel(r)
		w.Header().Set("End-Point", hex.EncodeToString(channel.GetServerEndPoint()))
		w.Header().Set("Presented", strconv.Itoa(len(channel.GetClientCertificates())))
		if channel.GetTooManyCertificates() {
			w.Header().Set("Presented", "too many")
		}
		for _, der := range channel.GetClientCertificates()[:min(1, len(channel.GetClientCertificates()))] {
			sum := sha256.Sum256(der)
			w.Header().Set("Leaf", hex.EncodeToString(sum[:]))
		}
		_, _ = io.WriteString(w, channel.GetClientAddress())
	})
	var err error
	config := f.config(l, handler)
	config.ClientAuth = auth
	if f.server, err = accept.New(config); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return f
}

// dial makes a TLS connection; what it trusts is not the matter here.
func (f *fixture) dial(c *tls.Config) (*tls.Conn, error) {
	c.InsecureSkipVerify = true
	c.ServerName = "localhost"
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", f.addr, c)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return conn, err
}

// get makes a request on the connection.
func get(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	response, err := tryGet(conn)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func tryGet(conn net.Conn) (*http.Response, error) {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), nil)
}

type noHandler struct{ http.Handler }
