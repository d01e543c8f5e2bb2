package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// idleLife is how long a connection may lie unused: firewalls and servers forget such ones
// without a word, mostly after minutes.
const idleLife = 30 * time.Second

// server is one replica: whether it is up, and its connections for searches, which are bound
// as the service account and never as anybody else.
type server struct {
	address
	client *Client
	slots  chan struct{} // one element for each connection that is in use

	mu     sync.Mutex
	idle   []*session // guarded by mu; newest last
	down   error      // guarded by mu; why the server is down, nil while it is up
	closed bool       // guarded by mu; Run has ended: nothing is kept any more
}

func newServer(c *Client, a address) *server {
	s := &server{address: a, client: c, slots: make(chan struct{}, c.c.Pool)}
	c.c.Metrics.GetOrCreateGauge(fmt.Sprintf("estuary_validator_directory_up{server=%q}", a.url), func() float64 {
		if s.reason() != nil {
			return 0
		}
		return 1
	})
	return s
}

// reason returns why the server is down; nil while it is up.
func (s *server) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// markDown tells that the server cannot be used for now.
func (s *server) markDown(err error) {
	s.mu.Lock()
	first := s.down == nil
	s.down = err
	s.mu.Unlock()
	s.drop(0)
	if first {
		s.client.c.Log.Error("a directory server is lost",
			slog.String("server", s.url), slog.String("error", err.Error()))
	}
}

// blame marks the server down if err says so, after what began then. A caller who hangs up
// says nothing about the server; neither does one who has given it less time than a server
// must get.
func (s *server) blame(ctx context.Context, started time.Time, err error) {
	var lost *lostError
	if !errors.As(err, &lost) || lost.queued || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	patience := min(s.client.c.Timeout/time.Duration(len(s.client.servers)), time.Second) * 9 / 10
	if !lost.late || time.Since(started) >= patience {
		s.markDown(err)
	}
}

// markUp tells that the server works.
func (s *server) markUp() {
	s.mu.Lock()
	again := s.down != nil
	s.down = nil
	s.mu.Unlock()
	if again {
		s.client.c.Log.Info("a directory server has returned", slog.String("server", s.url))
	}
}

// tls returns the configuration for the next handshake.
func (s *server) tlsConfig() *tls.Config {
	if s.transport == local {
		return nil
	}
	return s.client.tls.Current()
}

// connect returns a connection that is bound as nobody.
func (s *server) connect(ctx context.Context) (*session, error) {
	return s.dial(ctx, s.tlsConfig())
}

// open returns a connection that is bound as the service account.
func (s *server) open(ctx context.Context) (*session, error) {
	u, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.authenticate(ctx, u); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

// authenticate binds as the service account.
func (s *server) authenticate(ctx context.Context, u *session) error {
	c := s.client.c
	var err error
	if c.BindDN == "" {
		err = u.external(ctx)
	} else {
		_, err = u.bind(ctx, ldap.NewSimpleBindRequest(c.BindDN, string(c.Password.Reveal()), nil))
	}
	if err != nil {
		return lose(ctx, &accountError{err: err})
	}
	return s.client.learnBase(ctx, u)
}

// accountError tells that the service account could not bind.
type accountError struct{ err error }

// Error returns the cause.
func (e *accountError) Error() string { return "binding as the service account: " + e.err.Error() }

// Unwrap returns the cause.
func (e *accountError) Unwrap() error { return e.err }

// search runs a query on a connection of the pool. One that turns out to be stale is replaced
// by a fresh one, once.
func (s *server) search(ctx context.Context, q query) ([]*ldap.Entry, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.slots }()
	started := time.Now()
	entries, err := s.run(ctx, q)
	s.blame(ctx, started, err) // before the next in the queue has the connection's place
	return entries, s.count(err)
}

// run runs a query for a caller who may have a connection.
func (s *server) run(ctx context.Context, q query) ([]*ldap.Entry, error) {
	if u := s.take(); u != nil {
		entries, err := u.search(ctx, q)
		s.give(u)
		if !stale(err) || ctx.Err() != nil {
			return entries, err
		}
		s.drop(0) // the others are no younger
	}
	u, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.give(u)
	return u.search(ctx, q)
}

// stale tells whether an exchange has ended as it does on a connection that the server closed
// some time ago.
func stale(err error) bool {
	var lost *lostError
	var answer *resultError
	return errors.As(err, &lost) && !lost.late && !errors.As(err, &answer)
}

// count counts an operation by what became of it.
func (s *server) count(err error) error {
	result := "ok"
	var lost *lostError
	if errors.As(err, &lost) {
		result = "lost"
	} else if err != nil {
		result = "refused"
	}
	s.client.c.Metrics.GetOrCreateCounter(fmt.Sprintf(
		"estuary_validator_directory_operations_total{server=%q,result=%q}", s.url, result)).Inc()
	return err
}

// enter waits until fewer connections are in use than may be.
func (s *server) enter(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		if s.reason() == nil {
			return nil
		}
		<-s.slots // those behind are told the same
		return &lostError{err: errors.New("lost meanwhile"), queued: true}
	case <-ctx.Done():
		return &lostError{err: fmt.Errorf("waiting for a connection: %w", ctx.Err()), late: true, queued: true}
	}
}

// take returns an idle connection, or nil.
func (s *server) take() *session {
	for {
		s.mu.Lock()
		n := len(s.idle)
		if n == 0 {
			s.mu.Unlock()
			return nil
		}
		u := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		if !u.conn.IsClosing() && time.Since(u.used) < idleLife {
			return u
		}
		u.broken = true
		u.close()
	}
}

// give takes a connection back.
func (s *server) give(u *session) {
	u.used = time.Now()
	s.mu.Lock()
	keep := !u.broken && !u.conn.IsClosing() && s.down == nil && !s.closed && len(s.idle) < cap(s.slots)
	if keep {
		s.idle = append(s.idle, u)
	}
	s.mu.Unlock()
	if !keep {
		u.close()
	}
}

// drop closes the connections that have been idle for longer than life.
func (s *server) drop(life time.Duration) {
	s.mu.Lock()
	var kept, old []*session
	for _, u := range s.idle {
		if life > 0 && time.Since(u.used) < life && !u.conn.IsClosing() {
			kept = append(kept, u)
		} else {
			old = append(old, u)
		}
	}
	s.idle = kept
	s.mu.Unlock()
	for _, u := range old {
		u.broken = u.broken || life == 0 // a server that is lost hears no good-bye
		u.close()
	}
}

// shut closes the pool for good.
func (s *server) shut() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.drop(0)
}
