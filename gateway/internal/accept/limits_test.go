package accept_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
)

// closedWithin tells whether the server ends the connection in time; what it says before
// does not matter.
func closedWithin(t *testing.T, conn net.Conn, d time.Duration) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, conn)
	return err == nil || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
}

func tcp(t *testing.T, f *fixture) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestTimeouts(t *testing.T) {
	const short = 1500 * time.Millisecond
	f := start(t, accept.Limits{Connections: 9, PerAddress: 9, Read: short, Request: time.Second, Idle: short})
	begin := time.Now()
	silent := tcp(t, f)
	half := tcp(t, f)
	if _, err := half.Write([]byte{22, 3, 1, 0}); err != nil {
		t.Fatal(err)
	}
	secure := func() *tls.Conn {
		conn, err := f.dial(&tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	quiet, partial, idle := secure(), secure(), secure()
	if _, err := io.WriteString(partial, "GET / HTTP/1.1\r\nHost: lo"); err != nil {
		t.Fatal(err)
	}
	get(t, idle)
	for name, conn := range map[string]net.Conn{
		"silent": silent, "half a handshake": half, "no request": quiet, "half a header": partial, "idle": idle,
	} {
		if !closedWithin(t, conn, 8*time.Second) {
			t.Errorf("%s: still open after %s", name, time.Since(begin))
		}
	}
	if took := time.Since(begin); took < short {
		t.Errorf("all closed after %s, before the time was up", took)
	}
}

func TestConnectionLimits(t *testing.T) {
	for name, l := range map[string]accept.Limits{
		"connections":             {Connections: 5, PerAddress: 5},
		"connections_per_address": {Connections: 50, PerAddress: 5},
	} {
		l.Read, l.Request, l.Idle = 10*time.Second, time.Second, 10*time.Second
		f := start(t, l)
		var held []*tls.Conn
		for range 5 {
			conn, err := f.dial(&tls.Config{})
			if err != nil {
				t.Fatalf("%s: within the limit: %v", name, err)
			}
			held = append(held, conn)
		}
		if !closedWithin(t, tcp(t, f), 5*time.Second) {
			t.Errorf("%s: one too many is open", name)
		}
		if n := f.metrics.GetOrCreateCounter(`estuary_gateway_connections_refused_total{reason="` + name + `"}`).Get(); n != 1 {
			t.Errorf("%s: %d refusals counted", name, n)
		}
		_ = held[0].Close()
		deadline := time.Now().Add(5 * time.Second)
		for {
			conn, err := f.dial(&tls.Config{})
			if err == nil {
				held[0] = conn
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the place was not given back: %v", name, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, conn := range held {
			if response := get(t, conn); response.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", name, response.Status)
			}
			_ = conn.Close()
		}
	}
}

// Two thousand connections that do nothing hold no more than the limit, and go.
func TestIdleFlood(t *testing.T) {
	f := start(t, accept.Limits{Connections: 1000, PerAddress: 50, Read: 2 * time.Second, Request: time.Second, Idle: 2 * time.Second})
	open := f.metrics.GetOrCreateGauge("estuary_gateway_connections", nil)
	for range 2000 {
		tcp(t, f)
		if n := open.Get(); n > 50 {
			t.Fatalf("%v connections are open", n)
		}
	}
	refused := f.metrics.GetOrCreateCounter(`estuary_gateway_connections_refused_total{reason="connections_per_address"}`)
	for end := time.Now().Add(15 * time.Second); open.Get() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v connections are still open", open.Get())
		}
	}
	if n := refused.Get(); n < 1000 {
		t.Errorf("%d of 2000 were refused", n)
	}
	conn, err := f.dial(&tls.Config{})
	if err != nil {
		t.Fatalf("after the flood: %v", err)
	}
	get(t, conn)
	_ = conn.Close()
}

// Connections that do nothing keep nobody out, whose addresses they come from: the oldest goes.
// One that has sent something stays.
func TestSilentFlood(t *testing.T) {
	f := start(t, accept.Limits{Connections: 20, PerAddress: 20, Read: time.Minute, Request: time.Second, Idle: time.Minute})
	half := tcp(t, f)
	if _, err := half.Write([]byte{22, 3, 1, 0}); err != nil {
		t.Fatal(err)
	}
	early, err := f.dial(&tls.Config{})
	if err != nil {
		t.Fatal(err)
	}
	open := f.metrics.GetOrCreateGauge("estuary_gateway_connections", nil)
	var oldest net.Conn
	for i := range 300 {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 1, byte(i))}}).Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if oldest == nil {
			oldest = conn
		}
		if n := open.Get(); n > 20 {
			t.Fatalf("%v connections are open", n)
		}
	}
	for end := time.Now().Add(5 * time.Second); open.Get() < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v connections are open", open.Get())
		}
	}
	late, err := f.dial(&tls.Config{})
	if err != nil {
		t.Fatalf("behind the flood: %v", err)
	}
	for _, conn := range []*tls.Conn{early, late} {
		if response := get(t, conn); response.StatusCode != http.StatusOK {
			t.Errorf("%s", response.Status)
		}
		_ = conn.Close()
	}
	if !closedWithin(t, oldest, 5*time.Second) {
		t.Error("the oldest one that is silent is still open")
	}
	if closedWithin(t, half, 200*time.Millisecond) {
		t.Error("one that has sent something was closed")
	}
	if n := f.metrics.GetOrCreateCounter("estuary_gateway_connections_evicted_total").Get(); n < 280 {
		t.Errorf("%d were evicted", n)
	}
}

func TestNetworks(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7/32", "[::ffff:192.0.2.7]:1": "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
	} {
		tcpAddr, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := accept.NetworkOf(tcpAddr).String(); got != want {
			t.Errorf("%s: %s, not %s", addr, got, want)
		}
	}
}

func TestNewChecks(t *testing.T) {
	f := start(t, roomy)
	handler := http.NotFoundHandler()
	if _, err := accept.New(accept.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
	if _, err := accept.New(f.config(accept.Limits{}, handler)); err == nil {
		t.Error("limits of zero were accepted")
	}
	if err := os.Chmod(f.key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := accept.New(f.config(roomy, handler)); err == nil {
		t.Error("a key that everybody may read was accepted")
	}
	gone := f.config(roomy, handler)
	gone.Certificate = filepath.Join(t.TempDir(), "none")
	if _, err := accept.New(gone); err == nil {
		t.Error("a missing certificate was accepted")
	}
}
