// Package accept turns connections into channels: it terminates TLS 1.2 and 1.3 for EST
// clients and holds the limits on what they may take.
//
// The gateway's main makes a Server around est's handler; est asks it, per request, what
// TLS proved (Channel, Binding). It speaks HTTP/1.1 alone. What a client certificate
// proves is not judged here, but where no connection may be without one.
package accept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"
)

const (
	// maxHeader bounds request line and header of a request, in octets: room for the 64 KiB
	// of a Negotiate credential. One that arrives takes 135 KiB of memory, the collector's share
	// included, as measured with 4000 of them, for as long as Limits.Read.
	maxHeader = 80 << 10
	// replyGrace is how long behind the end of a request's time its reply may still leave:
	// the delay of a refusal (at most 10 s), a tick, and a second to write.
	replyGrace = 12 * time.Second
	// stopGrace is how long open requests may go on after the end.
	stopGrace = 10 * time.Second
)

// Limits is what clients may take. Every field is required.
type Limits struct {
	// Connections is how many there may be at once.
	Connections int
	// PerAddress is how many one IPv4 address or IPv6 /64 may have at once.
	PerAddress int
	// Read bounds the TLS handshake, and then each request from its first octet to the last
	// of its body.
	Read time.Duration
	// Request is what the handler takes at most, as it promises; replies are cut off some
	// seconds later.
	Request time.Duration
	// Idle is how long a connection may wait for its next request.
	Idle time.Duration
}

// Config is what a Server is made of. Every field is required.
type Config struct {
	// Certificate and Key are PEM files, read again when they change.
	Certificate, Key string
	// ClientAuth says whether clients are asked for certificates.
	ClientAuth ClientAuth
	// Limits hold for all clients together.
	Limits Limits
	// Handler answers; its requests are fit for Channel and Binding.
	Handler http.Handler
	// Log gets reloads and, at debug level, handshakes that failed.
	Log *slog.Logger
	// Metrics gets the number of connections, and of those that were refused.
	Metrics *metrics.Set
	// Now is the clock.
	Now func() time.Time
}

// Server accepts connections.
type Server struct {
	http   *http.Server
	pair   *keyPair
	limits Limits
	counts *counts
	auth   ClientAuth
	now    func() time.Time
	base   *tls.Config // holds the session ticket keys, which crypto/tls rotates daily
}

// New reads certificate and key and returns a Server that does not listen yet. The error
// names the file that cannot be used.
func New(c Config) (*Server, error) {
	l := c.Limits
	switch {
	case c.Handler == nil, c.Log == nil, c.Metrics == nil, c.Now == nil:
		return nil, errors.New("accepting needs a handler, a log, metrics and a clock")
	case l.Connections < 1, l.PerAddress < 1, l.Read <= 0, l.Request <= 0, l.Idle <= 0:
		return nil, fmt.Errorf("accepting needs positive limits, not %+v", l)
	case c.ClientAuth.Mode != "" && !slices.Contains(Modes, c.ClientAuth.Mode):
		return nil, fmt.Errorf("%q is no mode of client authentication", c.ClientAuth.Mode)
	case c.ClientAuth.Anchors == nil && c.ClientAuth.Mode != "" && c.ClientAuth.Mode != ModeNone:
		return nil, errors.New("client authentication needs trust anchors")
	}
	pair, err := loadKeyPair(c.Certificate, c.Key, c.Log, c.Metrics, c.Now)
	if err != nil {
		return nil, err
	}
	s := &Server{pair: pair, limits: l, counts: newCounts(l, c.Metrics), auth: c.ClientAuth, now: c.Now}
	s.base = s.tlsConfig()
	s.http = &http.Server{
		Handler:           c.Handler,
		ReadHeaderTimeout: l.Read,
		ReadTimeout:       l.Read,
		WriteTimeout:      l.Request + replyGrace,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    maxHeader - 4096, // net/http adds 4096
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		ConnContext:       withConn,
		// "OPTIONS *" is the handler's to refuse.
		DisableGeneralOptionsHandler: true,
	}
	s.http.Protocols.SetHTTP1(true)
	return s, nil
}

// Check tells, for readiness, that the certificate is not valid now or that newer files
// could not be used.
func (s *Server) Check(context.Context) error {
	return errors.Join(s.pair.check(), s.auth.Anchors.check())
}

// Serve accepts connections from ln, which it closes, until ctx ends; open requests then
// have stopGrace left. It returns nil after such an end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	limited := &listener{Listener: ln, counts: s.counts}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := s.http.Serve(tls.NewListener(limited, s.base))
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serving EST on %s: %w", ln.Addr(), err)
	})
	group.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if s.http.Shutdown(stop) != nil {
			return s.http.Close()
		}
		return nil
	})
	return group.Wait()
}
