package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// portUses and portLife are for how many requests, and for how long, a port is used: an
	// answer can be forged by who knows it, where answers need not be signed.
	portUses = 1000
	portLife = time.Minute
	// portIdle is how long a port is kept for nothing.
	portIdle = 10 * time.Second
	// leastInterval is how far apart two sends are at least.
	leastInterval = time.Millisecond
)

var errClosed = errors.New("the client has been closed")

// errNoAnswer is the cause when the time has passed.
var errNoAnswer = errors.New("no answer in time")

// udp is a server over UDP: several ports, each with up to 256 requests that wait.
type udp struct {
	peer *peer

	mu     sync.Mutex
	ports  []*port // guarded by mu
	closed bool    // guarded by mu
}

func newUDP(p *peer) *udp { return &udp{peer: p} }

// port is one socket, connected to the server, on a port that the kernel chose by chance.
type port struct {
	conn *net.UDPConn
	born time.Time

	// Of udp.mu:
	waiting map[byte]*waiting
	uses    int
	last    time.Time
	retired bool
}

// waiting is a request whose answer has not come.
type waiting struct {
	packet *packet
	answer chan reply // holds one
}

func (u *udp) exchange(ctx context.Context, q question, plan schedule) (reply, error) {
	s := u.peer.current()
	p, id, err := u.take(ctx, s)
	if err != nil {
		return reply{}, u.peer.unknown(false, err)
	}
	defer u.give(p, id)
	packet, err := q.encode(u.peer.client.c.NASIdentifier, s.Secret, id)
	if err != nil {
		return reply{}, u.peer.unknown(false, err)
	}
	packet.unsigned = s.AllowUnsigned
	w := &waiting{packet: packet, answer: make(chan reply, 1)}
	u.mu.Lock()
	p.waiting[id] = w
	u.mu.Unlock()
	return u.send(ctx, p, w, plan)
}

// send sends the same octets as the schedule says, until there is an answer or the time has
// passed. An error of a send is none: that nobody listens may be different a moment later.
func (u *udp) send(ctx context.Context, p *port, w *waiting, plan schedule) (reply, error) {
	again := time.NewTicker(max(plan.interval, leastInterval))
	defer again.Stop()
	for sent := 0; ; {
		if sent < plan.sends {
			_, _ = p.conn.Write(w.packet.octets)
			sent++
		}
		select {
		case answer := <-w.answer:
			return answer, nil
		case <-ctx.Done():
			return reply{}, u.peer.unknown(true, errNoAnswer)
		case <-again.C:
		}
	}
}

// take returns a port with an identifier on it; it makes one where all are full.
func (u *udp) take(ctx context.Context, s Server) (*port, byte, error) {
	now := u.peer.client.c.Now()
	u.mu.Lock()
	p, id, ok := u.free(now)
	u.mu.Unlock()
	if ok {
		return p, id, nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", s.Address)
	if err != nil {
		return nil, 0, fmt.Errorf("opening a port: %w", err)
	}
	p = &port{conn: conn.(*net.UDPConn), born: now, waiting: map[byte]*waiting{}} //nolint:forcetypeassert // what "udp" dials
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, 0, errors.Join(errClosed, conn.Close())
	}
	u.ports = append(u.ports, p)
	u.peer.client.running.Go(func() { u.read(p) })
	id, _ = u.claim(p, now)
	return p, id, nil
}

// free returns a port in use with a free identifier. The caller holds mu.
func (u *udp) free(now time.Time) (*port, byte, bool) {
	for _, p := range u.ports {
		p.retired = p.retired || p.uses >= portUses || now.Sub(p.born) > portLife
		if p.retired {
			continue
		}
		if id, ok := u.claim(p, now); ok {
			return p, id, true
		}
	}
	return nil, 0, false
}

// claim takes an identifier. The caller holds mu.
func (u *udp) claim(p *port, now time.Time) (byte, bool) {
	id, ok := freeID(p.waiting)
	if ok {
		p.waiting[id] = nil
		p.uses++
		p.last = now
	}
	return id, ok
}

func (u *udp) give(p *port, id byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(p.waiting, id)
	if p.retired && len(p.waiting) == 0 {
		u.drop(p)
	}
}

// drop closes a port. The caller holds mu.
func (u *udp) drop(p *port) {
	u.ports = slices.DeleteFunc(u.ports, func(o *port) bool { return o == p })
	_ = p.conn.Close()
}

// read hands answers to who waits for them, until the port is closed. What is no answer is
// counted, and changes nothing: anybody can send it.
func (u *udp) read(p *port) {
	buffer := make([]byte, maxPacket+1)
	for {
		n, err := p.conn.Read(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // ICMP says that nobody listens; it is the answer to one packet of ours
		case n < headerSize:
			u.peer.junk(errShort)
			continue
		}
		u.mu.Lock()
		w := p.waiting[buffer[1]]
		u.mu.Unlock()
		if w == nil {
			u.peer.junk(errIdentifier) // or the answer to a packet that was sent twice
			continue
		}
		answer, err := w.packet.check(buffer[:n])
		if err != nil {
			u.peer.junk(err)
			continue
		}
		select {
		case w.answer <- answer:
		default: // a second answer
		}
	}
}

func (u *udp) sweep(context.Context) {
	now := u.peer.client.c.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range slices.Clone(u.ports) {
		if len(p.waiting) == 0 && now.Sub(p.last) > portIdle {
			u.drop(p)
		}
	}
}

func (u *udp) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, p := range u.ports {
		_ = p.conn.Close()
	}
}
