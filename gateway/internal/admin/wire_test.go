package admin_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
)

// addr is where the API listens, and clientTLS what a client without certificate uses.
func (r *rig) addr() string { return strings.TrimPrefix(r.url, "https://") }

func (r *rig) clientTLS(t *testing.T) *tls.Config {
	return r.client(t, nil).Transport.(*http.Transport).TLSClientConfig
}

// TestStop lets a request finish that is in work when the server is told to end.
func TestStop(t *testing.T) {
	r := start(t, nil)
	arrived := make(chan struct{})
	r.list = func(*validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		close(arrived)
		<-time.After(50 * time.Millisecond) // the server is being stopped meanwhile
		return &validatorv1.ListTokensResponse{}, nil
	}
	go func() {
		<-arrived
		r.stop()
	}()
	if a := r.ask(t, "GET", "/admin/otp", r.full, ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if answers(r.client(t, nil), r.url) {
		t.Error("answers after its end")
	}
}

func TestHeaderTooLarge(t *testing.T) {
	r := start(t, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/admin/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Long", strings.Repeat("x", 32<<10))
	if a := send(t, r.client(t, nil), request); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", a.status)
	}
}

// TestBodyCutOff promises more than it sends.
func TestBodyCutOff(t *testing.T) {
	r := start(t, nil)
	conn, err := tls.Dial("tcp", r.addr(), r.clientTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "POST /admin/otp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+r.full+
		"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("%q %v", answer, err)
	}
}

// TestSlowClients holds that who says nothing, or never ends its header, is cut off after
// five seconds.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	silent, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	slow, err := tls.Dial("tcp", r.addr(), r.clientTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if _, err := io.WriteString(slow, "GET /admin/health HTTP/1.1\r\nX: "); err != nil {
		t.Fatal(err)
	}
	for name, conn := range map[string]net.Conn{"silent": silent, "slow": slow} {
		if err := conn.SetReadDeadline(time.Now().Add(9 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(conn)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: still open", name)
		}
	}
}

// TestConnectionLimit fills the listener: one more has to wait until another has gone.
func TestConnectionLimit(t *testing.T) {
	r := start(t, nil)
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	for range 128 {
		conn, err := net.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	client := r.client(t, nil)
	client.Timeout = 300 * time.Millisecond
	if answers(client, r.url) {
		t.Error("a connection too many is answered")
	}
	_ = open[0].Close()
	client.Timeout = 3 * time.Second
	if !answers(client, r.url) {
		t.Error("no answer although a connection has gone")
	}
}
