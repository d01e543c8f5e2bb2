package otpd

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// rememberFor is for how long a request is known again, once it has been answered.
	rememberFor = 30 * time.Second
	// rememberMost bounds what is remembered; the oldest are forgotten first.
	rememberMost = 4096
)

// answer returns the answer to a packet, nil where there is none: RFC 2865 section 3 has
// packets of other codes discarded.
func (s *Server) answer(ctx context.Context, p *packet) []byte {
	switch p.code {
	case statusServer:
		p.password.Wipe()
		s.count("status")
		return p.reply(accessAccept)
	case accessRequest:
	default:
		p.password.Wipe()
		s.count("other")
		return nil
	}
	d, first := s.past.find(p.id)
	if !first {
		p.password.Wipe()
		s.count("duplicate")
		<-d.done
		return p.reply(d.code)
	}
	d.code = accessReject
	defer s.past.done(d)
	if s.login(ctx, p) {
		d.code = accessAccept
		s.count("accepted")
	} else {
		s.count("rejected")
	}
	return p.reply(d.code)
}

// login tells whether a request is accepted: no without a name or a password, when the time
// has passed, and when the login panics. It does not wait for one that goes on beyond, which
// wipes the password when it ends. The end of ctx does not stop it: a code may be on its way.
func (s *Server) login(ctx context.Context, p *packet) bool {
	if p.user == "" || p.password.Len() == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.c.Timeout)
	defer cancel()
	said := make(chan bool, 1)
	s.logins.Go(func() { // ends with Login, which its context stops
		defer p.password.Wipe()
		defer func() {
			if cause := recover(); cause != nil {
				s.c.Log.Error("a login for a KDC panicked", slog.String("cause", fmt.Sprint(cause)))
				said <- false
			}
		}()
		// Too late is no, also where both happen at once.
		said <- s.c.Login(ctx, Request{User: p.user, Password: p.password, ID: p.id}) && ctx.Err() == nil
	})
	select {
	case accepted := <-said:
		return accepted
	case <-ctx.Done():
		s.c.Log.Warn("a login for a KDC took too long", slog.Duration("limit", s.c.Timeout))
		return false
	}
}

// decision is what became of a request.
type decision struct {
	id   [sha256.Size]byte
	done chan struct{} // closed when code is there
	code byte          // may be read once done is closed
}

// memory knows requests that came before.
type memory struct {
	mu    sync.Mutex
	by    map[[sha256.Size]byte]*decision // guarded by mu
	ended []ending                        // guarded by mu; in the order of their end
}

type ending struct {
	d  *decision
	at time.Time
}

func newMemory() *memory { return &memory{by: map[[sha256.Size]byte]*decision{}} }

// find returns the decision about a request; first tells that the caller has to make it.
func (m *memory) find(id [sha256.Size]byte) (d *decision, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.ended) > 0 && (time.Since(m.ended[0].at) > rememberFor || len(m.ended) > rememberMost) {
		delete(m.by, m.ended[0].d.id)
		m.ended = m.ended[1:]
	}
	if d, ok := m.by[id]; ok {
		return d, false
	}
	d = &decision{id: id, done: make(chan struct{})}
	m.by[id] = d
	return d, true
}

func (m *memory) done(d *decision) {
	close(d.done)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = append(m.ended, ending{d, time.Now()})
}
