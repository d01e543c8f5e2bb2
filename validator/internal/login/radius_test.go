package login_test

import (
	"crypto/hmac"
	"crypto/md5"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

func contains(text, words string) bool { return words != "" && strings.Contains(text, words) }

// radiusServer accepts the passwords that it is told, again and again. A password "ask"
// gets a challenge, to which "42" is the answer.
type radiusServer struct {
	conn *net.UDPConn

	mu       sync.Mutex
	good     map[string]string // guarded by mu; by user
	requests []string          // guarded by mu; user names as received, retransmissions included
	silent   bool              // guarded by mu
	delay    time.Duration     // guarded by mu
}

func newRADIUS(t *testing.T) *radiusServer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &radiusServer{conn: conn, good: map[string]string{}}
	var running sync.WaitGroup
	running.Go(s.serve)
	t.Cleanup(func() {
		_ = conn.Close()
		running.Wait()
	})
	return s
}

func (s *radiusServer) address() string { return s.conn.LocalAddr().String() }

func (s *radiusServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *radiusServer) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

func (s *radiusServer) serve() {
	buffer := make([]byte, radius.MaxPacketLength)
	for {
		n, from, err := s.conn.ReadFromUDP(buffer)
		if err != nil {
			return // closed
		}
		p, err := radius.Parse(append([]byte{}, buffer[:n]...), []byte(radiusSecret))
		if err != nil || p.Code != radius.CodeAccessRequest {
			continue
		}
		reply, delay := s.answer(p)
		if reply == nil {
			continue
		}
		text, err := signed(p, reply)
		if err == nil {
			time.AfterFunc(delay, func() { _, _ = s.conn.WriteToUDP(text, from) })
		}
	}
}

func (s *radiusServer) answer(p *radius.Packet) (*radius.Packet, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password := rfc2865.UserName_GetString(p), rfc2865.UserPassword_GetString(p)
	s.requests = append(s.requests, user)
	good, known := s.good[user]
	state := rfc2865.State_Get(p)
	switch {
	case s.silent:
		return nil, 0
	case known && (good == password || state != nil && password == "42"):
		return p.Response(radius.CodeAccessAccept), s.delay
	case known && password == "ask":
		reply := p.Response(radius.CodeAccessChallenge)
		_ = rfc2865.State_Set(reply, []byte("first"))
		return reply, s.delay
	}
	return p.Response(radius.CodeAccessReject), s.delay
}

// signed encodes a reply with Message-Authenticator (RFC 3579 section 3.2).
func signed(request, reply *radius.Packet) ([]byte, error) {
	if err := rfc2869.MessageAuthenticator_Set(reply, make([]byte, md5.Size)); err != nil {
		return nil, err
	}
	text, err := reply.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	copy(text[4:20], request.Authenticator[:])
	m := hmac.New(md5.New, []byte(radiusSecret))
	m.Write(text)
	if err := rfc2869.MessageAuthenticator_Set(reply, m.Sum(nil)); err != nil {
		return nil, err
	}
	return reply.Encode()
}
