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
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/secret"
)

const (
	// maxConnections and maxRequests bound what the clients of the socket can have at once.
	maxConnections = 64
	maxRequests    = 256
	// idleTime is how long a connection may be silent, writeTime how long a write may take.
	idleTime  = 10 * time.Minute
	writeTime = 5 * time.Second
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
	l, err := s.listen(ctx)
	if err != nil {
		return fmt.Errorf("opening the socket for a KDC: %w", err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := make(chan struct{}, maxConnections)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accepting a KDC: %w", err)
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

// listen makes the socket, for root and our own user alone. One that nobody listens on any
// more is replaced, any other file is not.
func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	switch info, err := os.Lstat(s.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is there and no socket: it stays", s.path)
	default:
		if conn, err := new(net.Dialer).DialContext(ctx, "unix", s.path); err == nil {
			return nil, errors.Join(fmt.Errorf("somebody listens on %s already: is ipa-otpd.socket still enabled?", s.path), conn.Close())
		}
		if err := os.Remove(s.path); err != nil {
			return nil, err
		}
	}
	// Under another name until its mode is right: nobody can connect to it before.
	early := s.path + ".new"
	if err := os.Remove(early); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", early)
	if err != nil {
		return nil, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // it has another name by then
	}
	if err := errors.Join(os.Chmod(early, 0o600), os.Rename(early, s.path)); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(early))
	}
	return &named{Listener: l, path: s.path}, nil
}

// named is a socket that is removed when it is closed.
type named struct {
	net.Listener
	path string
	once sync.Once
}

// Close removes the socket's name, and closes it.
func (n *named) Close() (err error) {
	n.once.Do(func() { err = errors.Join(os.Remove(n.path), n.Listener.Close()) })
	return err
}

// serve answers on one connection, several requests at a time, in the order in which the
// logins end.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	out := &writer{conn: conn}
	var running sync.WaitGroup
	defer func() {
		running.Wait() // who has asked gets the answer, although nothing more is read
		_ = conn.Close()
	}()
	buffer := make([]byte, maxPacket)
	for {
		if ctx.Err() == nil {
			_ = conn.SetReadDeadline(time.Now().Add(idleTime))
		}
		p, err := read(conn, buffer)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
				s.count("malformed")
				s.c.Log.Warn("a malformed request on the socket for a KDC", slog.String("error", err.Error()))
			}
			return
		}
		select {
		case s.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		running.Go(func() {
			defer func() { <-s.room }()
			if answer := s.answer(ctx, p); answer != nil {
				if err := out.write(answer); err != nil {
					s.c.Log.Warn("an answer to a KDC could not be written", slog.String("error", err.Error()))
				}
			}
		})
	}
}

// writer keeps answers apart.
type writer struct {
	mu   sync.Mutex
	conn net.Conn // writes are guarded by mu
}

func (w *writer) write(octets []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := w.conn.Write(octets)
	return err
}

func (s *Server) count(result string) {
	s.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_otpd_requests_total{result=%q}", result)).Inc()
}
