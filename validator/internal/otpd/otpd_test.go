package otpd_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/validator/internal/otpd"
)

// server is one with a Login of the test's.
type server struct {
	path   string
	logins atomic.Int64
	set    *metrics.Set
	log    lockedBuffer
	// stop ends it and waits until it has ended.
	stop func() error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, login func(context.Context, otpd.Request) bool) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "otpd") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	s := &server{path: filepath.Join(dir, "socket"), set: metrics.NewSet()}
	o, err := otpd.New(otpd.Config{
		Listen: "unix:" + s.path, Timeout: 2 * time.Second, Log: slog.New(slog.NewJSONHandler(&s.log, nil)), Metrics: s.set,
		Login: func(ctx context.Context, r otpd.Request) bool {
			s.logins.Add(1)
			return login(ctx, r)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(s.path); err == nil {
			t.Error("the socket was left behind")
		}
		_ = os.RemoveAll(dir)
	})
	for range 200 {
		if _, err := os.Lstat(s.path); err == nil {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no socket")
	return nil
}

func (s *server) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// count returns how many requests had a result.
func (s *server) count(result string) int {
	return int(s.set.GetOrCreateCounter(`estuary_validator_otpd_requests_total{result="` + result + `"}`).Get())
}

// Every request has an answer, the right one.
func TestAnswers(t *testing.T) {
	long := strings.Repeat("p", 100) + "ä123456"
	s := start(t, func(_ context.Context, r otpd.Request) bool {
		if r.User == "panic@IPA.TEST" {
			panic("on purpose")
		}
		good := map[string]string{"otto@IPA.TEST": "Secret.123456", "björn": long}
		return good[r.User] != "" && good[r.User] == string(r.Password.Reveal())
	})
	conn := s.dial(t)
	signed := ask(7, "otto@IPA.TEST", "Secret.123456")
	signed.signed = true
	challenged := ask(8, "otto@IPA.TEST", "")
	challenged.extra = attribute(24, []byte("state"))
	for name, c := range map[string]struct {
		q    query
		want byte
	}{
		"right":            {ask(1, "otto@IPA.TEST", "Secret.123456"), accepted},
		"wrong":            {ask(2, "otto@IPA.TEST", "Secret.123457"), rejected},
		"long, not ASCII":  {ask(3, "björn", long), accepted},
		"no password":      {ask(4, "otto@IPA.TEST", ""), rejected},
		"no name":          {ask(5, "", "Secret.123456"), rejected},
		"panic":            {ask(6, "panic@IPA.TEST", "x"), rejected},
		"signed":           {signed, accepted},
		"state without pw": {challenged, rejected},
		"status":           {query{code: 12, id: 9, signed: true}, accepted},
	} {
		if got := exchange(t, conn, c.q); got != c.want {
			t.Errorf("%s: code %d, not %d", name, got, c.want)
		}
	}
	if text := s.log.String(); strings.Contains(text, "Secret") {
		t.Error("a password is in the log")
	}
}

// A login that takes too long is a no, and its retransmission is one too.
func TestSlowLogin(t *testing.T) {
	s := start(t, func(ctx context.Context, _ otpd.Request) bool {
		<-ctx.Done()
		return true
	})
	conn := s.dial(t)
	q := ask(1, "otto", "x")
	began := time.Now()
	if got := exchange(t, conn, q); got != rejected || time.Since(began) > 3*time.Second {
		t.Errorf("code %d after %v", got, time.Since(began))
	}
	if got := exchange(t, conn, q); got != rejected || s.logins.Load() != 1 {
		t.Errorf("again: code %d, %d logins", got, s.logins.Load())
	}
}

// The same identifier and authenticator are the same request, on the same connection or on
// another, while it is being answered or afterwards: one login, and the same answer.
func TestDuplicates(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(context.Context, otpd.Request) bool {
		<-release
		return true
	})
	q := ask(1, "otto", "x")
	var conns []net.Conn
	for range 5 {
		conn := s.dial(t)
		for range 2 {
			if _, err := conn.Write(q.octets()); err != nil {
				t.Fatal(err)
			}
		}
		conns = append(conns, conn)
	}
	time.Sleep(50 * time.Millisecond)
	close(release)
	for _, conn := range conns {
		for range 2 {
			if _, code := receive(t, conn, map[byte]query{1: q}); code != accepted {
				t.Errorf("code %d", code)
			}
		}
	}
	if got := exchange(t, s.dial(t), q); got != accepted || s.logins.Load() != 1 {
		t.Errorf("afterwards: code %d, %d logins", got, s.logins.Load())
	}
	if got := s.count("duplicate"); got != 10 || s.count("accepted") != 1 {
		t.Errorf("%d duplicates, %d accepted", got, s.count("accepted"))
	}
	other := q // the same identifier, which comes round after 256 requests
	_, _ = rand.Read(other.auth[:])
	if got := exchange(t, s.dial(t), other); got != accepted || s.logins.Load() != 2 {
		t.Errorf("another authenticator: code %d, %d logins", got, s.logins.Load())
	}
}

// Several requests are on their way at once on one connection; none waits for another.
func TestPipelining(t *testing.T) {
	const many = 100
	var waiting sync.WaitGroup
	waiting.Add(many)
	s := start(t, func(_ context.Context, r otpd.Request) bool {
		waiting.Done()
		waiting.Wait() // all are here
		return strings.HasSuffix(r.User, "0")
	})
	conn := s.dial(t)
	all := map[byte]query{}
	var stream []byte
	for n := range byte(many) {
		all[n] = ask(n, "user"+string('0'+n%10), "x")
		stream = append(stream, all[n].octets()...)
	}
	for _, b := range [][]byte{stream[:7], stream[7:1000], stream[1000:]} { // frames are not writes
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for range many {
		id, code := receive(t, conn, all)
		if want := byte(rejected); code != want && id%10 != 0 || id%10 == 0 && code != accepted {
			t.Errorf("%d: code %d", id, code)
		}
		delete(all, id)
	}
}

// What is malformed ends its connection, and nobody else's.
func TestMalformed(t *testing.T) {
	s := start(t, func(context.Context, otpd.Request) bool { return true })
	good := ask(1, "otto", "x")
	badMAC := ask(1, "otto", "x")
	badMAC.signed = true
	forged := badMAC.octets()
	forged[25] ^= 1
	bystander := s.dial(t)
	for name, b := range map[string][]byte{
		"short length":      {1, 1, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"long length":       {1, 1, 0x10, 1, 0},
		"attribute beyond":  query{code: 1, id: 1, extra: []byte{1, 9, 'x'}}.octets(),
		"attribute of 1":    query{code: 1, id: 1, extra: []byte{1, 1}}.octets(),
		"half an attribute": query{code: 1, id: 1, extra: []byte{1}}.octets(),
		"odd password":      query{code: 1, id: 1, extra: attribute(2, make([]byte, 15))}.octets(),
		"long password":     query{code: 1, id: 1, extra: attribute(2, make([]byte, 144))}.octets(),
		"two names":         query{code: 1, id: 1, user: "a", extra: attribute(1, []byte("b"))}.octets(),
		"forged signature":  forged,
	} {
		conn := s.dial(t)
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d octets, %v", name, n, err)
		}
	}
	if got := exchange(t, bystander, good); got != accepted || s.logins.Load() != 1 {
		t.Errorf("code %d, %d logins", got, s.logins.Load())
	}
	if got := s.count("malformed"); got != 9 {
		t.Errorf("%d malformed requests", got)
	}
}

// A packet of a code that is none of ours has no answer (RFC 2865 section 3), and does no harm.
func TestOtherCodes(t *testing.T) {
	s := start(t, func(context.Context, otpd.Request) bool { return true })
	conn := s.dial(t)
	for code := range 256 {
		if code == 1 || code == 12 {
			continue
		}
		q := ask(byte(code), "otto", "x")
		q.code = byte(code)
		if _, err := conn.Write(q.octets()); err != nil {
			t.Fatal(err)
		}
	}
	if got := exchange(t, conn, ask(1, "otto", "x")); got != accepted || s.logins.Load() != 1 {
		t.Errorf("code %d, %d logins", got, s.logins.Load())
	}
}

// One connection, all of whose requests take long, leaves room for the others.
func TestConnectionsAreFair(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(_ context.Context, r otpd.Request) bool {
		if r.User == "slow" {
			<-release
		}
		return true
	})
	conn := s.dial(t)
	all := map[byte]query{}
	for n := range 256 {
		all[byte(n)] = ask(byte(n), "slow", "x")
		if _, err := conn.Write(all[byte(n)].octets()); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		if s.logins.Load() == otpd.MaxPerConn {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := exchange(t, s.dial(t), ask(1, "quick", "x")); got != accepted {
		t.Errorf("code %d", got)
	}
	if got := s.logins.Load(); got != otpd.MaxPerConn+1 {
		t.Errorf("%d logins at once", got)
	}
	close(release)
	for range all {
		if _, code := receive(t, conn, all); code != accepted {
			t.Errorf("code %d", code)
		}
	}
}

// Who has asked when the server ends gets the answer.
func TestEnd(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	s := start(t, func(context.Context, otpd.Request) bool {
		close(begun)
		<-release
		return true
	})
	conn, idle := s.dial(t), s.dial(t)
	q := ask(1, "otto", "x")
	if _, err := conn.Write(q.octets()); err != nil {
		t.Fatal(err)
	}
	<-begun
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection: %v", err)
	}
	close(release)
	if _, code := receive(t, conn, map[byte]query{1: q}); code != accepted {
		t.Errorf("code %d", code)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
