package radius

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
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

// key tells servers apart. An address under another secret is another one: with a wrong
// secret it never answers, and that says nothing of the right one.
type key struct {
	name, address string
	secret        [sha256.Size]byte
	unsigned      bool
	tls           *tls.Config
}

// peer is a server with what is known of it.
type peer struct {
	server Server
	client *Client
	way    transport
	room   chan struct{} // one for each request that waits
	health health

	mu     sync.Mutex
	used   time.Time // guarded by mu
	warned bool      // guarded by mu; of an answer without signature
}

// choose returns the first server that is not down, or else the first that has been down for
// a while: it could be one that knows no Status-Server.
func (c *Client) choose(servers []Server) (*peer, error) {
	if len(servers) == 0 {
		return nil, errors.New("no server is named")
	}
	var down []*peer
	for _, s := range servers {
		p, err := c.peer(s)
		if err != nil {
			return nil, err
		}
		if !p.health.isDown() {
			return p, nil
		}
		down = append(down, p)
	}
	for _, p := range down {
		if p.health.mayTry(c.c.Now()) {
			return p, nil
		}
	}
	return nil, errDown
}

// peer returns what is known of a server.
func (c *Client) peer(s Server) (*peer, error) {
	k, room := key{name: s.Name, address: s.Address, unsigned: s.AllowUnsigned, tls: s.TLS}, c.c.MaxInFlight
	if s.TLS == nil {
		k.secret = sha256.Sum256(s.Secret.Reveal())
	} else {
		room = min(room, maxConnections*perConnection)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[k]
	if c.closed {
		return nil, errors.New("the client has been closed")
	}
	if p == nil {
		if len(c.peers) >= maxPeers {
			return nil, fmt.Errorf("more than %d servers", maxPeers)
		}
		p = &peer{server: s, client: c, room: make(chan struct{}, room)}
		p.way = newUDP(p)
		if s.TLS != nil {
			p.way = newTLS(p)
		}
		c.peers[k] = p
		c.c.Metrics.GetOrCreateGauge(fmt.Sprintf("estuary_validator_radius_up{server=%q}", s.Name),
			func() float64 { return c.up(s.Name) })
	}
	p.mu.Lock()
	p.used = c.c.Now()
	p.mu.Unlock()
	return p, nil
}

// latest returns, for each name, the server that was named by it last: its secret may have
// changed. The caller holds mu.
func (c *Client) latest() map[string]*peer {
	all := make(map[string]*peer, len(c.peers))
	for _, p := range c.peers {
		if o := all[p.server.Name]; o == nil || p.lastUsed().After(o.lastUsed()) {
			all[p.server.Name] = p
		}
	}
	return all
}

// up is 1 while the server of this name is not marked down.
func (c *Client) up(name string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.latest()[name]; p != nil && p.health.isDown() {
		return 0
	}
	return 1
}

func (p *peer) lastUsed() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// enter takes room for one request, and tells whether it had to wait. A caller whose time has
// passed gets none, even where there is some.
func (p *peer) enter(ctx context.Context) (waited bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	select {
	case p.room <- struct{}{}:
		return false, nil
	default:
	}
	select {
	case p.room <- struct{}{}:
	case <-ctx.Done():
		return true, ctx.Err()
	}
	if err := ctx.Err(); err != nil { // both were ready, and chance chose
		p.leave()
		return true, err
	}
	return true, nil
}

func (p *peer) leave() { <-p.room }

// ask carries a question there, and learns from that how the server is.
func (p *peer) ask(ctx context.Context, q question, s schedule) (reply, error) {
	started := p.client.c.Now()
	answer, err := p.way.exchange(ctx, q, s)
	what := "unknown"
	switch {
	case err == nil:
		what = [...]string{"rejected", "accepted", "challenged"}[results[answer.code]]
		p.alive()
		p.warn(answer)
	case blames(ctx, err) && (ctx.Err() == nil || p.client.c.Now().Sub(started) >= s.interval/2):
		p.silent(started, err)
	}
	p.client.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_radius_requests_total{server=%q,result=%q}", p.server.Name, what)).Inc()
	return answer, err
}

// blames tells whether an error may be the server's: it is not when the caller has gone away,
// or the request could not be made.
func blames(ctx context.Context, err error) bool {
	return !errors.Is(ctx.Err(), context.Canceled) &&
		!errors.Is(err, errEncoding) && !errors.Is(err, errClosed) && !errors.Is(err, errFull)
}

func (p *peer) unknown(sent bool, err error) *Unknown {
	return &Unknown{Server: p.server.Name, Sent: sent, Err: err}
}

func (p *peer) alive() {
	if p.health.alive(p.client.c.Now()) {
		p.client.c.Log.Info("a RADIUS server is back", slog.String("server", p.server.Name))
	}
}

func (p *peer) silent(started time.Time, err error) {
	if p.health.silent(started, p.client.c.Now()) {
		p.client.c.Log.Error("a RADIUS server is lost", slog.String("server", p.server.Name), slog.String("error", err.Error()))
	}
}

// warn tells of an answer that could be forged: once in the log, always in the metrics.
func (p *peer) warn(answer reply) {
	if answer.signed || p.server.TLS != nil {
		return
	}
	p.client.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_radius_unsigned_total{server=%q}", p.server.Name)).Inc()
	p.mu.Lock()
	first := !p.warned
	p.warned = true
	p.mu.Unlock()
	if first {
		p.client.c.Log.Warn("a RADIUS server answers without Message-Authenticator: its answers can be forged (CVE-2024-3596)",
			slog.String("server", p.server.Name))
	}
}

// junk counts octets that are no answer.
func (p *peer) junk(why error) {
	p.client.c.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_validator_radius_junk_total{server=%q,reason=%q}", p.server.Name, why)).Inc()
	if p.health.tellJunk(p.client.c.Now()) {
		p.client.c.Log.Warn("what is no answer came from a RADIUS server's address", slog.String("server", p.server.Name), slog.String("reason", why.Error()))
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
	for k, p := range c.peers {
		if c.c.Now().Sub(p.lastUsed()) > unusedFor && len(p.room) == 0 {
			delete(c.peers, k)
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
