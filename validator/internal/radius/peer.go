package radius

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/estuary-pki/estuary/services/secret"
)

// maxPeers bounds the servers that are remembered: the directory names them.
const maxPeers = 1024

// errDown tells that nobody was asked.
var errDown = errors.New("every server is marked down")

// transport carries requests to one server. Its errors are *Unknown.
type transport interface {
	// exchange sends the question and returns the answer; where the transport loses packets
	// it is sent again as the schedule says.
	exchange(ctx context.Context, q question, s schedule) (reply, error)
	// sweep closes what is not needed any more and, where a connection is idle, sees whether
	// the server is still there. It is called every second.
	sweep(ctx context.Context)
	// close ends everything.
	close()
}

// schedule is how often a packet is sent, and how far apart.
type schedule struct {
	sends    int
	interval time.Duration
}

// peer is a server with what is known of it.
type peer struct {
	name   string
	client *Client
	way    transport
	room   chan struct{} // one for each request that waits
	health health

	mu     sync.Mutex
	server Server    // guarded by mu; as it was named last
	used   time.Time // guarded by mu
	warned bool      // guarded by mu; of an answer without signature
}

// choose returns the first server that may be asked. One that has been down for a while may
// be: it could be one that knows no Status-Server.
func (c *Client) choose(servers []Server) (*peer, error) {
	if len(servers) == 0 {
		return nil, errors.New("no server is named")
	}
	var old *peer
	for _, s := range servers {
		p, err := c.peer(s)
		if err != nil {
			return nil, err
		}
		if !p.health.isDown() {
			return p, nil
		}
		if old == nil && p.health.mayTry(c.c.Now()) {
			old = p
		}
	}
	if old == nil {
		return nil, errDown
	}
	return old, nil
}

// peer returns what is known of a server.
func (c *Client) peer(s Server) (*peer, error) {
	key := "udp:" + s.Address
	if s.TLS != nil {
		key = "tls:" + s.Address
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[key]
	if c.closed {
		return nil, errors.New("the client has been closed")
	}
	if p == nil {
		if len(c.peers) >= maxPeers {
			return nil, fmt.Errorf("more than %d servers", maxPeers)
		}
		p = &peer{name: s.Name, client: c, room: make(chan struct{}, c.c.MaxInFlight)}
		p.way = newUDP(p)
		if s.TLS != nil {
			p.way = newTLS(p)
		}
		c.peers[key] = p
		c.c.Metrics.GetOrCreateGauge(fmt.Sprintf("estuary_validator_radius_up{server=%q}", s.Name), p.health.gauge)
	}
	p.mu.Lock()
	p.server, p.used = s, c.c.Now()
	p.mu.Unlock()
	return p, nil
}

func (p *peer) current() Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

func (p *peer) enter(ctx context.Context) error {
	select {
	case p.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *peer) leave() { <-p.room }

// ask carries a question there, and learns from that how the server is.
func (p *peer) ask(ctx context.Context, q question, s schedule) (reply, error) {
	started := p.client.c.Now()
	answer, err := p.way.exchange(ctx, q, s)
	var unknown *Unknown
	what := "unknown"
	switch {
	case err == nil:
		what = [...]string{"rejected", "accepted", "challenged"}[results[answer.code]]
		p.alive()
		p.warn(answer)
	case errors.As(err, &unknown) && (unknown.Sent || p.current().TLS != nil):
		p.silent(started, err)
	}
	p.client.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_radius_requests_total{server=%q,result=%q}", p.name, what)).Inc()
	return answer, err
}

func (p *peer) unknown(sent bool, err error) *Unknown {
	return &Unknown{Server: p.name, Sent: sent, Err: err}
}

func (p *peer) alive() {
	if p.health.alive(p.client.c.Now()) {
		p.client.c.Log.Info("a RADIUS server is back", slog.String("server", p.name))
	}
}

func (p *peer) silent(started time.Time, err error) {
	if p.health.silent(started, p.client.c.Now()) {
		p.client.c.Log.Error("a RADIUS server is lost", slog.String("server", p.name), slog.String("error", err.Error()))
	}
}

// warn tells of an answer that could be forged: once in the log, always in the metrics.
func (p *peer) warn(answer reply) {
	if answer.signed || p.current().TLS != nil {
		return
	}
	p.client.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_radius_unsigned_total{server=%q}", p.name)).Inc()
	p.mu.Lock()
	first := !p.warned
	p.warned = true
	p.mu.Unlock()
	if first {
		p.client.c.Log.Warn("a RADIUS server answers without Message-Authenticator: its answers can be forged (CVE-2024-3596)",
			slog.String("server", p.name))
	}
}

// junk counts octets that are no answer.
func (p *peer) junk(why error) {
	p.client.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_radius_junk_total{server=%q,reason=%q}", p.name, why)).Inc()
	if p.health.tellJunk(p.client.c.Now()) {
		p.client.c.Log.Warn("what is no answer came from a RADIUS server's address", slog.String("server", p.name), slog.String("reason", why.Error()))
	}
}

// probeTime is what a server may take to say that it is there.
const probeTime = 3 * time.Second

// probe asks a server that is marked down whether it is there (Status-Server, RFC 5997).
func (p *peer) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if _, err := p.way.exchange(ctx, question{}, schedule{sends: 1, interval: probeTime}); err == nil {
		p.alive()
	}
}

// Run watches over servers and connections until ctx ends; it closes everything then.
func (c *Client) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.close()
			return nil
		case <-tick.C:
		}
		c.sweep(ctx)
	}
}

// unusedFor is how long a server that nobody names any more is remembered.
const unusedFor = time.Hour

func (c *Client) sweep(ctx context.Context) {
	c.mu.Lock()
	var all []*peer
	for key, p := range c.peers {
		p.mu.Lock()
		unused := c.c.Now().Sub(p.used) > unusedFor
		p.mu.Unlock()
		if unused && len(p.room) == 0 {
			delete(c.peers, key)
			p.way.close()
			continue
		}
		all = append(all, p)
	}
	c.mu.Unlock()
	for _, p := range all {
		p.way.sweep(ctx)
		if p.health.isDown() && p.health.mayProbe(c.c.Now()) {
			c.running.Go(func() { p.probe(ctx) })
		}
	}
}

func (c *Client) close() {
	c.mu.Lock()
	c.closed = true
	for _, p := range c.peers {
		p.way.close()
	}
	c.mu.Unlock()
	c.running.Wait()
}

// freeID returns an identifier that is not in use, chosen by chance; false when all are.
func freeID[V any](used map[byte]V) (byte, bool) {
	if len(used) > 255 {
		return 0, false
	}
	var start [1]byte
	_, _ = rand.Read(start[:]) // never fails: it ends the process instead
	for i := range 256 {
		id := start[0] + byte(i)
		if _, taken := used[id]; !taken {
			return id, true
		}
	}
	return 0, false
}

// radsec is the secret of RadSec (RFC 6614 section 2.3).
func radsec() secret.Bytes { return secret.New([]byte("radsec")) }
