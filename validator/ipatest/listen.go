package ipatest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// port is a place to listen.
type port struct {
	network, address string
	tls              bool
	listener         net.Listener // guarded by Server.ports
}

// openListeners opens every port that is closed. An address that is in use is tried for two
// seconds: connections of before may be on their way out.
func (s *Server) openListeners() error {
	s.ports.Lock()
	defer s.ports.Unlock()
	for _, p := range s.places {
		if p.listener != nil || s.ended {
			continue
		}
		var l net.Listener
		var err error
		for range 40 {
			if l, err = new(net.ListenConfig).Listen(context.Background(), p.network, p.address); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		p.listener, p.address = l, l.Addr().String()
		s.running.Go(func() { s.accept(l, p.tls) })
	}
	return nil
}

func (s *Server) closeListeners() {
	s.ports.Lock()
	defer s.ports.Unlock()
	for _, p := range s.places {
		if p.listener != nil {
			_ = p.listener.Close()
			p.listener = nil
		}
	}
}

// address returns where a port is.
func (s *Server) address(i int) string {
	s.ports.Lock()
	defer s.ports.Unlock()
	return s.places[i].address
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener, overTLS bool) {
	for {
		raw, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors
			continue
		}
		s.start(raw, overTLS)
	}
}

// start serves a connection, unless the server is closed or refuses.
func (s *Server) start(raw net.Conn, overTLS bool) {
	c := &session{server: s, raw: raw, conn: raw, done: make(chan struct{})}
	fault, _ := s.faultNow()
	s.connections.Lock()
	defer s.connections.Unlock()
	if s.closed || fault == Refuse {
		_ = raw.Close()
		return
	}
	s.sessions[c] = struct{}{}
	s.running.Go(func() {
		defer s.forget(c)
		switch {
		case fault == Deaf:
			c.touched.Store(true)
			<-c.done
			return
		case fault == StallTLS && overTLS:
			c.stall()
			return
		case overTLS:
			c.secure()
		}
		c.serve()
	})
}

// secure puts TLS over a connection.
func (c *session) secure() {
	c.conn, c.encrypted = tls.Server(c.raw, c.server.tls), true
}

func (s *Server) forget(c *session) {
	c.close()
	s.connections.Lock()
	defer s.connections.Unlock()
	delete(s.sessions, c)
}

// closeConnections closes the connections that are chosen.
func (s *Server) closeConnections(chosen func(*session) bool) {
	s.connections.Lock()
	defer s.connections.Unlock()
	for c := range s.sessions {
		if chosen(c) {
			c.close()
		}
	}
}

// CloseConnections closes all connections, as a restart of the server does.
func (s *Server) CloseConnections() {
	s.closeConnections(func(*session) bool { return true })
}

// Connections returns how many connections are open now.
func (s *Server) Connections() int {
	s.connections.Lock()
	defer s.connections.Unlock()
	return len(s.sessions)
}

// Close stops the server, waits until nothing of it runs, and removes its files.
func (s *Server) Close() error {
	s.connections.Lock()
	s.closed = true
	s.connections.Unlock()
	s.ports.Lock()
	s.ended = true
	s.ports.Unlock()
	s.closeListeners()
	s.CloseConnections()
	s.running.Wait()
	if !s.own {
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return nil
}
