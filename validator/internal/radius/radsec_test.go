package radius_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// parity logs in as user number i and wants the answer for that number.
func (w *world) parity(t *testing.T, target radius.Target, i int) {
	t.Helper()
	user := fmt.Sprint("user-", i)
	w.want(t, radius.Result(1-i%2), target, radius.Request{User: user, Password: text("password of " + user)})
}

// gathering waits for n requests on all connections and answers them in disorder, octet by
// octet, one signed and one not.
func gathering(t *testing.T, n int) func(c *tlsConn, packet []byte) {
	type held struct {
		c      *tlsConn
		packet []byte
	}
	var mu sync.Mutex
	var all []held
	chance := rand.New(rand.NewPCG(4, 2))
	return func(c *tlsConn, packet []byte) {
		mu.Lock()
		defer mu.Unlock()
		if all = append(all, held{c, packet}); len(all) < n {
			return
		}
		chance.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		for i, h := range all {
			if code := verdict(t, h.packet); i%2 == 0 {
				h.c.dribble(signed(h.packet, radsec, code))
			} else {
				h.c.dribble(unsigned(h.packet, radsec, code))
			}
		}
		all = nil
	}
}

func TestRadSec(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		for n, conns := range map[int]int{1: 1, 256: 1, 257: 2, 1020: 4} {
			t.Run(fmt.Sprintf("TLS %s, %d in flight", name, n), func(t *testing.T) {
				w := newWorld(t)
				s := newTLSServer(t, gathering(t, n), func(c *tls.Config) { c.MaxVersion = version })
				begin := time.Now()
				for range 2 {
					each(n, func(i int) { w.parity(t, s.target(20*time.Second), i) })
				}
				accepted, _, packets := s.counts(accessRequest)
				t.Logf("reliability: RadSec, TLS %s: %d logins, %d in flight, on %d connections in %s, answers in disorder and octet by octet: none mixed up",
					name, packets, n, accepted, time.Since(begin).Round(time.Millisecond))
				if accepted != conns || packets != 2*n {
					t.Errorf("%d connections and %d packets instead of %d and %d", accepted, packets, conns, 2*n)
				}
			})
		}
	}
}

// More than all connections hold: the others wait, and nothing is the server's fault.
func TestRadSecBeyondAllConnections(t *testing.T) {
	w := newWorld(t, func(c *radius.Config) { c.MaxInFlight = 5000 })
	s := newTLSServer(t, func(c *tlsConn, packet []byte) {
		time.Sleep(50 * time.Microsecond)
		c.send(unsigned(packet, radsec, verdict(t, packet)))
	})
	each(3000, func(i int) { w.parity(t, s.target(20*time.Second), i) })
	if accepted, _, packets := s.counts(accessRequest); accepted > 4 || packets != 3000 {
		t.Errorf("%d connections, %d packets", accepted, packets)
	}
}

// Answers that come too late have identifiers that others use by then.
func TestRadSecLateAnswers(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	late := map[byte][]byte{}
	s := newTLSServer(t, func(c *tlsConn, packet []byte) {
		user, _ := datagram{octets: packet}.read(t, radsec)
		mu.Lock()
		defer mu.Unlock()
		if packet[0] == accessRequest && number(user) < 256 {
			late[packet[1]] = signed(packet, radsec, accessAccept)
			return
		}
		if old := late[packet[1]]; old != nil {
			c.send(old)
		}
		c.send(signed(packet, radsec, verdict(t, packet)))
	})
	each(256, func(i int) {
		if _, unknown := w.login(t, s.target(300*time.Millisecond), fmt.Sprint("user-", i), "x"); unknown == nil || !unknown.Sent {
			t.Errorf("%v", unknown)
		}
	})
	w.advance(11 * time.Second)
	w.parity(t, s.target(5*time.Second), 1001)
	each(256, func(i int) { w.parity(t, s.target(5*time.Second), 1001+2*i) }) // all are rejected
	if n := w.metric(t, "estuary_validator_radius_junk_total"); n < 200 {
		t.Errorf("only %d late answers came: the test proves nothing", n)
	}
}

func TestRadSecServerRestarts(t *testing.T) {
	w := newWorld(t)
	var hold atomic.Bool
	s := newTLSServer(t, func(c *tlsConn, packet []byte) {
		if !hold.Load() {
			c.send(unsigned(packet, radsec, verdict(t, packet)))
		}
	})
	for round := range 3 {
		w.parity(t, s.target(5*time.Second), 2)
		hold.Store(true)
		stopped := make(chan struct{})
		time.AfterFunc(100*time.Millisecond, func() {
			defer close(stopped)
			s.stop()
		})
		begin := time.Now()
		each(100, func(i int) {
			if _, unknown := w.login(t, s.target(5*time.Second), fmt.Sprint("user-", i), "x"); unknown == nil || !unknown.Sent {
				t.Errorf("round %d: pending when the server ended: %v", round, unknown)
			}
		})
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("round %d: who waited was told after %s", round, took)
		}
		hold.Store(false)
		<-stopped
		s.start(t)
		w.advance(11 * time.Second) // they were many: the server is marked down
		w.parity(t, s.target(5*time.Second), 1)
	}
}

// A connection that the server has closed meanwhile is not used again.
func TestRadSecServerRestartsUnused(t *testing.T) {
	w := newWorld(t)
	s := newTLSServer(t, func(c *tlsConn, packet []byte) { c.send(unsigned(packet, radsec, verdict(t, packet))) })
	for i := range 5 {
		w.parity(t, s.target(5*time.Second), i)
		s.stop()
		s.start(t)
		within(t, time.Second, "the end of the connection is seen", func() bool { return w.Sockets() == 0 })
	}
}

func TestRadSecWrongCertificates(t *testing.T) {
	other := newAuthority(t)
	for name, change := range map[string]func(c *tls.Config){
		"another CA": func(c *tls.Config) {
			c.RootCAs = other.pool
		},
		"another name": func(c *tls.Config) {
			c.ServerName = "radius.lab.test"
		},
		"too old for us": func(c *tls.Config) {
			c.MinVersion = tls.VersionTLS13
		},
		"no certificate of ours": func(c *tls.Config) {
			c.Certificates = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := newTLSServer(t, func(*tlsConn, []byte) {}, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
			change(s.client)
			for range 2 {
				if answer, unknown := w.login(t, s.target(5*time.Second), "user-2", "x"); unknown == nil || unknown.Sent {
					t.Errorf("%+v, %v", answer, unknown)
				}
			}
			if _, _, packets := s.counts(accessRequest); packets != 0 {
				t.Error("a password was sent")
			}
			if down := w.Down(); len(down) != 1 {
				t.Errorf("down: %q", down)
			}
		})
	}
}

// With TLS 1.3 the client learns late that it is refused; by then the password is on its way.
func TestRadSecRefusesUsLate(t *testing.T) {
	w := newWorld(t)
	s := newTLSServer(t, func(*tlsConn, []byte) {}, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 })
	s.client.Certificates = nil
	begin := time.Now()
	if answer, unknown := w.login(t, s.target(5*time.Second), "user-2", "x"); unknown == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("after %s: %+v, %v", time.Since(begin), answer, unknown)
	}
}

// Two servers of one address are told apart by what they are trusted for.
func TestRadSecConnectionsAreNotShared(t *testing.T) {
	w := newWorld(t)
	s := newTLSServer(t, func(c *tlsConn, packet []byte) { c.send(unsigned(packet, radsec, verdict(t, packet))) })
	w.parity(t, s.target(5*time.Second), 2)
	strict := s.target(5 * time.Second)
	strict.Servers[0].TLS = s.client.Clone()
	strict.Servers[0].TLS.RootCAs = newAuthority(t).pool
	if answer, unknown := w.login(t, strict, "user-2", "password of user-2"); unknown == nil || unknown.Sent {
		t.Errorf("a connection was used that another CA vouched for: %+v, %v", answer, unknown)
	}
}

func TestRadSecWatchdog(t *testing.T) {
	w := newWorld(t)
	var dead atomic.Bool
	s := newTLSServer(t, func(c *tlsConn, packet []byte) {
		if !dead.Load() {
			c.send(unsigned(packet, radsec, verdict(t, packet)))
		}
	})
	w.parity(t, s.target(5*time.Second), 2)
	for i := range 2 {
		w.advance(16 * time.Second)
		within(t, 2*time.Second, "Status-Server", func() bool { _, _, n := s.counts(statusServer); return n == i+1 })
		within(t, time.Second, "the connection is kept", func() bool { return w.Sockets() == 1 })
	}
	time.Sleep(20 * time.Millisecond) // the answer is on its way
	dead.Store(true)
	w.advance(16 * time.Second)
	begin := time.Now()
	within(t, 5*time.Second, "the connection is given up", func() bool { return w.Sockets() == 0 })
	t.Logf("reliability: a silent RadSec connection is given up %s after it had been silent for 15 s", time.Since(begin).Round(100*time.Millisecond))
	dead.Store(false)
	w.parity(t, s.target(5*time.Second), 1)
	if accepted, _, n := s.counts(statusServer); accepted != 2 || n != 3 {
		t.Errorf("%d connections, %d times Status-Server", accepted, n)
	}
}

func TestRadSecUnusedConnections(t *testing.T) {
	w := newWorld(t)
	s := newTLSServer(t, func(c *tlsConn, packet []byte) {
		c.send(unsigned(packet, radsec, verdict(t, packet)))
	})
	w.parity(t, s.target(5*time.Second), 2)
	w.advance(5*time.Minute + time.Second)
	w.Sweep(t.Context())
	within(t, time.Second, "the server sees the end", func() bool { _, open, _ := s.counts(0); return open == 0 && w.Sockets() == 0 })
	w.parity(t, s.target(5*time.Second), 1)
}

func TestRadSecJunk(t *testing.T) {
	for name, junk := range map[string][]byte{
		"length 5":     {2, 0, 0, 5, 1},
		"length 65535": {2, 0, 255, 255, 1},
		"HTTP":         []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := newTLSServer(t, func(c *tlsConn, packet []byte) { c.send(junk) })
			begin := time.Now()
			if _, unknown := w.login(t, s.target(5*time.Second), "user-2", "x"); unknown == nil || !unknown.Sent || time.Since(begin) > 2*time.Second {
				t.Errorf("after %s: %v", time.Since(begin), unknown)
			}
			if n := w.Sockets(); n != 0 {
				t.Errorf("%d connections are left", n)
			}
		})
	}
	t.Run("forged", func(t *testing.T) {
		w := newWorld(t)
		s := newTLSServer(t, func(c *tlsConn, packet []byte) {
			truth, lie := verdict(t, packet), byte(accessAccept)
			other := append([]byte{}, packet...)
			other[1]++
			c.send(signed(packet, "another secret", lie))
			c.send(unsigned(packet, radsec, 44))
			c.send(signed(other, radsec, lie))
			c.send(unsigned(packet, radsec, lie, attribute(80, "0123456789abcdef")))
			c.send(unsigned(packet, radsec, truth))
		})
		for i := range 20 {
			w.parity(t, s.target(5*time.Second), i)
		}
		if n := w.metric(t, "estuary_validator_radius_junk_total"); n != 80 {
			t.Errorf("%d forged answers are counted", n)
		}
	})
}

// It accepts connections and says nothing: the login ends when its time is over.
func TestRadSecBlackHole(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { drain(conn); _ = conn.Close() }()
		}
	}()
	target := radius.Target{Timeout: 200 * time.Millisecond, Servers: []radius.Server{{
		Name: "hole", Address: l.Addr().String(), TLS: &tls.Config{MinVersion: tls.VersionTLS12},
	}}}
	begin := time.Now()
	each(50, func(int) {
		if _, unknown := w.login(t, target, "user-2", "x"); unknown == nil || unknown.Sent {
			t.Errorf("%v", unknown)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := w.Authenticate(ctx, target, olga); err == nil || time.Since(begin) > time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}
