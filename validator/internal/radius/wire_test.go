package radius_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	layeh "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/radius"
)

func TestRequestSaysWhatItShould(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ secret, user, password string }{
		{testSecret, "olga", "Secret.123"},
		{"gehäim-ключ-0123456789", "jürgen@LAB.TEST", "Pässwörd-密码-123456"},
		{"\x00\xff\x80 secret", strings.Repeat("n", 253), strings.Repeat("p", 128)},
		{"s", "u", "p"},
		{testSecret, "sixteen", "0123456789abcdef"},
	} {
		s := newServer(t, accept, func(s *server) { s.secret = c.secret })
		w.want(t, radius.Accepted, s.target(5*time.Second, 0), radius.Request{User: c.user, Password: text(c.password)})
		d := s.requests(accessRequest)[0]
		if d.octets[20] != 80 || d.octets[21] != 18 {
			t.Errorf("the first attribute is %x", d.octets[20:22])
		}
		plain := bytes.Clone(d.octets)
		clear(plain[22:38])
		if !hmac.Equal(mac(plain, c.secret), d.octets[22:38]) {
			t.Error("Message-Authenticator is wrong")
		}
		if user, password := d.read(t, c.secret); user != c.user || password != c.password {
			t.Errorf("user %q and password %q came as %q and %q", c.user, c.password, user, password)
		}
		p, err := layeh.Parse(d.octets, []byte(c.secret))
		if err != nil {
			t.Fatal(err)
		}
		if got := rfc2865.NASIdentifier_GetString(p); got != "validator-1.lab.test" {
			t.Errorf("NAS-Identifier %q", got)
		}
		if got := rfc2865.ServiceType_Get(p); got != 8 {
			t.Errorf("Service-Type %d", got)
		}
		if bytes.Contains(d.octets, []byte(c.password)) && len(c.password) > 1 {
			t.Error("the password can be read on the wire")
		}
	}
}

// A server that knows the request answers from its memory: copies must be copies.
func TestCopiesAreTheSame(t *testing.T) {
	for _, retries := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) { copies(t, retries) })
	}
}

func copies(t *testing.T, retries int) {
	const timeout = 400 * time.Millisecond
	w, s := newWorld(t), newServer(t, silent)
	begin := time.Now()
	_, unknown := w.login(t, s.target(timeout, retries), "olga", "x")
	if took := time.Since(begin); took < timeout-5*time.Millisecond || took > timeout+300*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	if unknown == nil || !unknown.Sent || unknown.Server != s.address() || !errors.Is(unknown, fault.Unavailable) {
		t.Errorf("%#v", unknown)
	}
	got := s.requests(accessRequest)
	if len(got) != retries+1 {
		t.Fatalf("%d packets", len(got))
	}
	for i, d := range got {
		if d.from != got[0].from || !bytes.Equal(d.octets, got[0].octets) {
			t.Errorf("copy %d is different", i)
		}
		want := time.Duration(i) * timeout / time.Duration(retries+1)
		if at := d.at.Sub(begin); at < want-10*time.Millisecond || at > want+80*time.Millisecond {
			t.Errorf("copy %d came after %s instead of %s", i, at, want)
		}
	}
}

func TestSilenceOfNobodyEndsNothing(t *testing.T) {
	w := newWorld(t)
	closed := newServer(t, silent)
	target := closed.target(400*time.Millisecond, 3)
	address := closed.conn.LocalAddr().(*net.UDPAddr)
	_ = closed.conn.Close()
	// The server starts while the request is on its way.
	done := make(chan struct{})
	var again *net.UDPConn
	time.AfterFunc(150*time.Millisecond, func() {
		defer close(done)
		var err error
		if again, err = net.ListenUDP("udp4", address); err != nil {
			t.Error(err)
			return
		}
		buffer := make([]byte, 4096)
		n, from, err := again.ReadFromUDPAddrPort(buffer)
		if err == nil {
			_, err = again.WriteToUDPAddrPort(signed(buffer[:n], testSecret, accessAccept), from)
		}
		if err != nil {
			t.Error(err)
		}
	})
	w.want(t, radius.Accepted, target, radius.Request{User: "olga", Password: text("x")})
	<-done
	_ = again.Close()
}

// Nobody listens, and many find that out on one port: each of them sends as often as it should.
func TestRefusedPacketsAreSentAgain(t *testing.T) {
	w := newWorld(t)
	nobody := newServer(t, silent)
	target := nobody.target(300*time.Millisecond, 2)
	_ = nobody.conn.Close()
	each(50, func(int) {
		begin := time.Now()
		_, unknown := w.login(t, target, "olga", "x")
		if unknown == nil || !unknown.Sent || time.Since(begin) < 290*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(begin), unknown)
		}
	})
}

func TestPortsAreManyAndByChance(t *testing.T) {
	w, s := newWorld(t), newServer(t, accept)
	target := s.target(5*time.Second, 3)
	for i := range 12 {
		w.advance(61 * time.Second)
		w.want(t, radius.Accepted, target, radius.Request{User: fmt.Sprint("user-", i), Password: text("x")})
	}
	ports := map[uint16]bool{}
	steps := map[int]bool{}
	got := s.requests(accessRequest)
	for i, d := range got {
		ports[d.from.Port()] = true
		if i > 0 {
			steps[int(d.from.Port())-int(got[i-1].from.Port())] = true
		}
	}
	if len(ports) < 11 || len(steps) < 8 {
		t.Errorf("12 requests a minute apart came from %d ports, %d steps apart", len(ports), len(steps))
	}
	w.advance(time.Minute)
	w.Sweep(t.Context())
	if n := w.Sockets(); n != 0 {
		t.Errorf("%d ports are kept for nothing", n)
	}
}

// RFC 2865 section 3 lets a server take the second request under an identifier for a copy.
func TestNoIdentifierTwiceOnAPort(t *testing.T) {
	w, s := newWorld(t), newServer(t, accept)
	target := s.target(5*time.Second, 0)
	each(8, func(i int) {
		for range 150 {
			w.want(t, radius.Accepted, target, radius.Request{User: fmt.Sprint("user-", i), Password: text("x")})
		}
	})
	seen, ports := map[string]bool{}, map[uint16]bool{}
	for _, d := range s.requests(accessRequest) {
		k := fmt.Sprint(d.from, d.octets[1])
		if seen[k] {
			t.Fatalf("identifier and port %s a second time", k)
		}
		seen[k], ports[d.from.Port()] = true, true
	}
	if len(ports) > 8 {
		t.Errorf("1200 requests came from %d ports", len(ports))
	}
}

func TestMoreThanAPortHolds(t *testing.T) {
	const n = 600
	var waiting []datagram
	s := newServer(t, func(s *server, d datagram) {
		if waiting = append(waiting, d); len(waiting) < n {
			return
		}
		for i := range waiting { // the last first
			d := waiting[len(waiting)-1-i]
			user, password := d.read(t, s.secret)
			code := byte(accessReject)
			if number(user)%2 == 0 && password == "password of "+user {
				code = accessAccept
			}
			s.answer(d, code)
		}
	})
	w := newWorld(t)
	target := s.target(20*time.Second, 0)
	begin := time.Now()
	each(n, func(i int) {
		user := fmt.Sprint("user-", i)
		want := radius.Rejected
		if i%2 == 0 {
			want = radius.Accepted
		}
		w.want(t, want, target, radius.Request{User: user, Password: text("password of " + user)})
	})
	ports := map[uint16]bool{}
	for _, d := range s.requests(accessRequest) {
		ports[d.from.Port()] = true
	}
	t.Logf("reliability: %d requests in flight on %d ports, answered the last first in %s", n, len(ports), time.Since(begin))
	if len(ports) != 3 {
		t.Errorf("%d requests in flight came from %d ports", n, len(ports))
	}
}

func TestWhatCannotBeAPassword(t *testing.T) {
	w, s := newWorld(t), newServer(t, accept)
	target := s.target(5*time.Second, 3)
	for _, r := range []radius.Request{
		{User: "olga", Password: text(strings.Repeat("p", 129))},
		{User: "olga", Password: text("Secret.123\x00")},
		{User: "olga", Password: text("\x00")},
		{User: "olga", Password: text("")},
		{User: "", Password: text("x")},
		{User: "ol\x00ga", Password: text("x")},
		{User: strings.Repeat("n", 254), Password: text("x")},
		{User: "olga", Password: text("x"), Answer: text("123\x00456")},
		{User: "olga", Password: text("x"), Answer: text(strings.Repeat("1", 129))},
	} {
		answer, unknown := w.ask(t, target, r)
		if unknown != nil || answer.Result != radius.Rejected || answer.Server != "" {
			t.Errorf("user %.20q: %+v, %v", r.User, answer, unknown)
		}
	}
	if n := len(s.requests(accessRequest)); n != 0 {
		t.Errorf("%d packets were sent", n)
	}
}

func TestContextEnds(t *testing.T) {
	w, s := newWorld(t), newServer(t, silent)
	target := s.target(10*time.Second, 3)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // chance chooses among what is ready
		_, err := w.Authenticate(ended, target, radius.Request{User: "olga", Password: text("x")})
		if u := sentOf(t, err); u {
			t.Fatal("a request was sent for a caller who had gone away")
		}
	}
	if n := len(s.requests(accessRequest)); n != 0 {
		t.Errorf("%d packets were sent for a caller who had gone away", n)
	}
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begin := time.Now()
		_, err := w.Authenticate(ctx, target, radius.Request{User: "olga", Password: text("x")})
		cancel()
		if took := time.Since(begin); !sentOf(t, err) || took > 500*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		}
	}
	if down := w.Down(); len(down) != 0 {
		t.Errorf("callers with little time have marked down %q", down)
	}
}
