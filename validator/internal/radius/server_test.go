package radius_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	layeh "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// Codes of packets.
const (
	accessRequest   = 1
	accessAccept    = 2
	accessReject    = 3
	accessChallenge = 11
	statusServer    = 12
)

// datagram is what a server received.
type datagram struct {
	from   netip.AddrPort
	octets []byte
	at     time.Time
}

func (d datagram) code() byte { return d.octets[0] }

// read returns user and password; a packet without them has none.
func (d datagram) read(t testing.TB, key string) (user, password string) {
	t.Helper()
	p, err := layeh.Parse(d.octets, []byte(key))
	if err != nil {
		t.Errorf("a request cannot be read: %v", err)
		return "", ""
	}
	return rfc2865.UserName_GetString(p), rfc2865.UserPassword_GetString(p)
}

// server is a RADIUS server over UDP whose behaviour is a test's.
type server struct {
	conn   *net.UDPConn
	secret string
	handle func(s *server, d datagram)

	mu  sync.Mutex
	got []datagram // guarded by mu
}

// newServer starts a server: handle is called for each datagram, one after the other.
func newServer(t *testing.T, handle func(s *server, d datagram), change ...func(*server)) *server {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	s := &server{conn: conn, secret: testSecret, handle: handle}
	for _, f := range change {
		f(s)
	}
	var running sync.WaitGroup
	running.Go(s.run)
	t.Cleanup(func() {
		_ = conn.Close()
		running.Wait()
	})
	return s
}

func (s *server) run() {
	for {
		buffer := make([]byte, 4096)
		n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		d := datagram{from: from, octets: buffer[:n], at: time.Now()}
		s.mu.Lock()
		s.got = append(s.got, d)
		s.mu.Unlock()
		s.handle(s, d)
	}
}

func (s *server) send(to netip.AddrPort, octets []byte) { _, _ = s.conn.WriteToUDPAddrPort(octets, to) }

// answer sends a signed answer.
func (s *server) answer(d datagram, code byte, attributes ...[]byte) {
	s.send(d.from, signed(d.octets, s.secret, code, attributes...))
}

// requests returns what came of one code.
func (s *server) requests(code byte) []datagram {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.got), func(d datagram) bool { return d.code() != code })
}

func (s *server) address() string { return s.conn.LocalAddr().String() }

func (s *server) server() radius.Server {
	return radius.Server{Name: s.address(), Address: s.address(), Secret: text(s.secret)}
}

func (s *server) target(timeout time.Duration, retries int) radius.Target {
	return radius.Target{Servers: []radius.Server{s.server()}, Timeout: timeout, Retries: retries}
}

func silent(*server, datagram) {}

func accept(s *server, d datagram) { s.answer(d, accessAccept) }

// attribute encodes one.
func attribute(kind byte, value string) []byte {
	return append([]byte{kind, byte(len(value) + 2)}, value...)
}

// unsigned makes an answer with a Response Authenticator and nothing else (RFC 2865 section 3).
func unsigned(request []byte, key string, code byte, attributes ...[]byte) []byte {
	p := slices.Concat([]byte{code, request[1], 0, 0}, request[4:20], bytes.Join(attributes, nil))
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return seal(p, request, key)
}

// seal puts the Response Authenticator into an answer.
func seal(p, request []byte, key string) []byte {
	copy(p[4:20], request[4:20])
	sum := md5.Sum(slices.Concat(p, []byte(key)))
	copy(p[4:20], sum[:])
	return p
}

// signed makes an answer with Message-Authenticator behind the attributes (RFC 3579 section 3.2).
func signed(request []byte, key string, code byte, attributes ...[]byte) []byte {
	all := append(slices.Clone(attributes), attribute(80, string(make([]byte, md5.Size))))
	p := unsigned(request, key, code, all...)
	copy(p[4:20], request[4:20])
	copy(p[len(p)-md5.Size:], mac(p, key))
	return seal(p, request, key)
}

func mac(p []byte, key string) []byte {
	m := hmac.New(md5.New, []byte(key))
	m.Write(p)
	return m.Sum(nil)
}
