package ipatest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"
)

// Fault is a way to misbehave.
type Fault int

// The faults. Those of an answer act after the request was carried out: a code is spent and a
// failure counted although the client never learns of it.
const (
	// NoFault heals: the same addresses answer again. Connections that a fault has touched are
	// closed.
	NoFault Fault = iota
	// Refuse closes the listeners and all connections: nobody is there.
	Refuse
	// Deaf accepts connections and never reads from them, not even a TLS handshake. What is
	// open goes deaf at its next request.
	Deaf
	// Mute carries requests out and never answers.
	Mute
	// Slow waits before every answer: see SetDelay.
	Slow
	// Reset sends half of an answer and then a TCP reset (over a unix socket: an end of file).
	Reset
	// Hangup ends the connection instead of answering.
	Hangup
	// Garbage sends octets that are no BER in place of an answer.
	Garbage
	// Huge sends, in place of an answer, a header that announces 2 GiB and nothing after it.
	Huge
	// StallTLS agrees to StartTLS, or accepts on the TLS port, and never answers the handshake.
	StallTLS
)

// SetFault makes the server misbehave from now on, on every connection. Its error is that a
// listener could not be opened again.
func (s *Server) SetFault(f Fault) error {
	s.faults.Lock()
	before := s.fault
	s.fault = f
	s.faults.Unlock()
	if f == Refuse {
		s.closeListeners()
		s.closeConnections(func(*session) bool { return true })
		return nil
	}
	s.closeConnections(func(c *session) bool { return c.touched.Load() })
	if before == Refuse {
		if err := s.openListeners(); err != nil {
			return fmt.Errorf("healing: %w", err)
		}
	}
	return nil
}

// SetBindFault makes the server misbehave in its answers to binds as anybody but the service
// account, and only there: of the faults those of an answer.
func (s *Server) SetBindFault(f Fault) {
	s.faults.Lock()
	s.bindFault = f
	s.faults.Unlock()
	s.closeConnections(func(c *session) bool { return c.touched.Load() })
}

// SetDelay sets how long Slow waits before every answer; at first 5 s.
func (s *Server) SetDelay(d time.Duration) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.delay = d
}

// SetBindDelay makes binds as anybody but the service account slow: those that succeed, as
// password hashes do, and those that are refused.
func (s *Server) SetBindDelay(accepted, refused time.Duration) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.acceptDelay, s.refuseDelay = accepted, refused
}

func (s *Server) faultNow() (f Fault, delay time.Duration) {
	s.faults.Lock()
	defer s.faults.Unlock()
	return s.fault, s.delay
}

// bindPace returns the fault and the delay of a user's bind.
func (s *Server) bindPace(refused bool) (Fault, time.Duration) {
	s.faults.Lock()
	defer s.faults.Unlock()
	if refused {
		return s.bindFault, s.refuseDelay
	}
	return s.bindFault, s.acceptDelay
}

// send writes an answer, or what the fault makes of it. It returns false when the connection
// is of no more use.
func (c *session) send(data []byte, f Fault) bool {
	general, delay := c.server.faultNow()
	if f == NoFault {
		f = general
	}
	if f != NoFault && f != Slow {
		c.touched.Store(true)
	}
	switch f {
	case Refuse, Hangup:
		return false
	case Deaf:
		<-c.done
		return false
	case Mute:
		return true
	case Slow:
		c.sleep(delay)
	case Reset:
		_, _ = c.conn.Write(data[:len(data)/2])
		if tcp, ok := c.raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.raw.Close()
		return false
	case Garbage:
		data = bytes.Repeat([]byte{0xff, 0x00, 0xfe, 0x84, 0x13}, 64)
	case Huge:
		data = []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02, 0x01}
	}
	_, err := c.conn.Write(data)
	return err == nil
}

// stall swallows what comes until the connection is closed.
func (c *session) stall() {
	c.touched.Store(true)
	_, _ = io.Copy(io.Discard, c.raw)
}

// sleep waits, but not longer than the connection lives.
func (c *session) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.done:
	}
}
