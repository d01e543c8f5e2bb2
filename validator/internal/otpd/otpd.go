// Package otpd turns the questions of a Kerberos KDC into logins.
//
// A MIT KDC has one-time passwords checked over RADIUS on a unix stream socket whose secret
// is the empty string, as FreeIPA's ipa-otpd serves it. The command runs a Server in its
// place; serve says who may log in. Every Access-Request gets an answer, and one that comes
// again the same answer, without a second login (RFC 5080 section 2.2.2).
package otpd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/secret"
)

const (
	// What the clients of the socket can have at once: connections, requests on each, and
	// requests altogether. Further requests wait unread.
	maxConnections = 64
	maxPerConn     = 128
	maxRequests    = 512
	// idleTime is how long a connection may be silent, writeTime how long a write may take.
	idleTime  = 10 * time.Minute
	writeTime = 5 * time.Second
	// acceptPause is for how long nobody is accepted when that did not succeed.
	acceptPause = 100 * time.Millisecond
)

// Request is one login.
type Request struct {
	// User is the User-Name: a principal with or without its realm.
	User string
	// Password is the User-Password. It is wiped when Login has returned.
	Password secret.Bytes
	// ID is the same for a request that is sent again: SHA-256 over the whole packet.
	ID [sha256.Size]byte
}

// Config is what a Server needs; every field is required.
type Config struct {
	// Listen is "unix:" and the path of the socket.
	Listen string
	// Login tells whether the password is the user's. It is to return when its context ends.
	Login func(context.Context, Request) (accepted bool)
	// Timeout is what a login may take; the answer is no then.
	Timeout time.Duration
	// Log hears of malformed requests and of logins that took too long.
	Log *slog.Logger
	// Metrics gets the estuary_validator_otpd_… metrics.
	Metrics *metrics.Set
}

// Server answers on the socket.
type Server struct {
	c    Config
	path string
	past *memory
	room chan struct{} // one for each request on its way
	// logins are those on their way, with those that nobody waits for any more.
	logins sync.WaitGroup
}

// New returns a Server; it opens nothing.
func New(c Config) (*Server, error) {
	path, ok := strings.CutPrefix(c.Listen, "unix:")
	if !ok || path == "" {
		return nil, fmt.Errorf("%.80q is not unix: and a path", c.Listen)
	}
	if c.Login == nil || c.Timeout <= 0 || c.Log == nil || c.Metrics == nil {
		return nil, errors.New("a server for a KDC needs login, timeout, log and metrics")
	}
	return &Server{c: c, path: path, past: newMemory(), room: make(chan struct{}, maxRequests)}, nil
}

// Run answers until ctx ends, and waits then for the logins that are on their way.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(ctx, s.path)
	if err != nil {
		return fmt.Errorf("opening the socket for a KDC: %w", err)
	}
	defer s.logins.Wait()
	var running sync.WaitGroup
	defer running.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := make(chan struct{}, maxConnections)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting a KDC: %w", err)
		case err != nil: // such as too many open files: it passes
			s.c.Log.Warn("a connection of a KDC was not accepted", slog.String("error", err.Error()))
			pause(ctx, acceptPause)
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			s.c.Log.Warn("too many connections on the socket for a KDC", slog.Int("most", maxConnections))
			_ = conn.Close()
			continue
		}
		running.Go(func() {
			defer func() { <-places }()
			s.serve(ctx, conn)
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// serve answers on one connection, several requests at a time, in the order in which the
// logins end.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	out := &writer{conn: conn, turn: make(chan struct{}, 1)}
	var running sync.WaitGroup
	defer func() {
		running.Wait() // who has asked gets the answer, although nothing more is read
		_ = conn.Close()
	}()
	own := make(chan struct{}, maxPerConn)
	buffer := make([]byte, maxPacket)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleTime))
		if ctx.Err() != nil { // asked after the deadline, which the end of ctx sets too
			return
		}
		p, err := read(conn, buffer)
		if err != nil {
			if !left(err) {
				s.count("malformed")
				s.c.Log.Warn("a malformed request on the socket for a KDC", slog.String("error", err.Error()))
			}
			return
		}
		if !take(ctx, own) || !take(ctx, s.room) {
			p.password.Wipe()
			return
		}
		running.Go(func() {
			defer func() { <-s.room; <-own }()
			answer := s.answer(ctx, p)
			if answer == nil {
				return
			}
			if err := out.write(answer); err != nil {
				if !errors.Is(err, net.ErrClosed) {
					s.c.Log.Warn("an answer to a KDC could not be written", slog.String("error", err.Error()))
				}
				cancel() // half an answer may be out: nothing fits behind it
			}
		})
	}
}

// take waits for a place, or for the end of ctx.
func take(ctx context.Context, places chan<- struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// left tells whether an error only says that the other side has gone or been silent for too
// long, or that we end.
func left(err error) bool {
	for _, end := range []error{io.EOF, os.ErrDeadlineExceeded, net.ErrClosed, syscall.ECONNRESET} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// writer keeps answers apart. Behind a write that did not succeed there are no others.
type writer struct {
	turn   chan struct{} // holds one thing while somebody writes
	conn   net.Conn      // writes are guarded by turn
	broken bool          // guarded by turn
}

func (w *writer) write(octets []byte) error {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	if w.broken {
		return net.ErrClosed
	}
	err := w.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if err == nil {
		_, err = w.conn.Write(octets)
	}
	w.broken = err != nil
	return err
}

func (s *Server) count(result string) {
	s.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_otpd_requests_total{result=%q}", result)).Inc()
}
