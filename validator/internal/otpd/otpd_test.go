package otpd_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
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
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
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

// query is a request by hand, as krb5's libkrad makes it.
type query struct {
	code, id byte
	auth     [16]byte
	user     string
	password string
	signed   bool
	extra    []byte
}

func ask(id byte, user, password string) query {
	q := query{code: 1, id: id, user: user, password: password}
	_, _ = rand.Read(q.auth[:])
	return q
}

func attribute(kind byte, value []byte) []byte {
	return append([]byte{kind, byte(2 + len(value))}, value...)
}

func (q query) octets() []byte {
	b := append([]byte{q.code, q.id, 0, 0}, q.auth[:]...)
	if q.signed {
		b = append(b, attribute(80, make([]byte, 16))...)
	}
	if q.user != "" {
		b = append(b, attribute(1, []byte(q.user))...)
	}
	if q.password != "" {
		hidden := make([]byte, (len(q.password)+15)/16*16)
		copy(hidden, q.password)
		previous := q.auth[:]
		for at := 0; at < len(hidden); at += 16 {
			mask := md5.Sum(previous)
			for i := range mask {
				hidden[at+i] ^= mask[i]
			}
			previous = hidden[at : at+16]
		}
		b = append(b, attribute(2, hidden)...)
	}
	b = append(b, q.extra...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if q.signed {
		m := hmac.New(md5.New, nil)
		m.Write(b)
		copy(b[22:], m.Sum(nil))
	}
	return b
}

// receive reads one answer and checks it as a KDC does.
func receive(t *testing.T, conn net.Conn, all map[byte]query) (id, code byte) {
	t.Helper()
	b := make([]byte, 4096)
	if _, err := io.ReadFull(conn, b[:20]); err != nil {
		t.Fatal(err)
	}
	b = b[:binary.BigEndian.Uint16(b[2:])]
	if _, err := io.ReadFull(conn, b[20:]); err != nil {
		t.Fatal(err)
	}
	q, ok := all[b[1]]
	if !ok {
		t.Fatalf("an answer to %d, which was not asked", b[1])
	}
	said := bytes.Clone(b[4:20])
	copy(b[4:], q.auth[:])
	if sum := md5.Sum(b); !bytes.Equal(sum[:], said) {
		t.Errorf("answer %d: not authentic", b[1])
	}
	if q.signed != (len(b) == 38 && b[20] == 80) {
		t.Errorf("answer %d: %d octets", b[1], len(b))
	} else if q.signed {
		mac := bytes.Clone(b[22:38])
		clear(b[22:38])
		m := hmac.New(md5.New, nil)
		m.Write(b)
		if !hmac.Equal(mac, m.Sum(nil)) {
			t.Errorf("answer %d: bad Message-Authenticator", b[1])
		}
	}
	return b[1], b[0]
}

func exchange(t *testing.T, conn net.Conn, q query) byte {
	t.Helper()
	if _, err := conn.Write(q.octets()); err != nil {
		t.Fatal(err)
	}
	_, code := receive(t, conn, map[byte]query{q.id: q})
	return code
}

const (
	accepted = 2
	rejected = 3
)

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
}

func TestSocket(t *testing.T) {
	s := start(t, func(context.Context, otpd.Request) bool { return true })
	info, err := os.Lstat(s.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	make := func(path string) error {
		o, err := otpd.New(otpd.Config{
			Listen: "unix:" + path, Timeout: time.Second, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
			Login: func(context.Context, otpd.Request) bool { return true },
		})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return o.Run(ctx)
	}
	if err := make(s.path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("a socket in use: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := make(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file is %q, %v", text, err)
	}
	stale := filepath.Join(filepath.Dir(s.path), "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if err := make(stale); err != nil {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
}

func TestNewNeedsAll(t *testing.T) {
	good := otpd.Config{
		Listen: "unix:/x", Timeout: time.Second, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Login: func(context.Context, otpd.Request) bool { return true },
	}
	for i, change := range []func(*otpd.Config){
		func(c *otpd.Config) { c.Listen = "127.0.0.1:1" },
		func(c *otpd.Config) { c.Listen = "unix:" },
		func(c *otpd.Config) { c.Login = nil },
		func(c *otpd.Config) { c.Timeout = 0 },
		func(c *otpd.Config) { c.Log = nil },
		func(c *otpd.Config) { c.Metrics = nil },
	} {
		c := good
		change(&c)
		if _, err := otpd.New(c); err == nil {
			t.Errorf("case %d was made", i)
		}
	}
}
