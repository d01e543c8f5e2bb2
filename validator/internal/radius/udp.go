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
	// portLife is how long a port is used: an answer can be forged by who knows it, where
	// answers need not be signed.
	portLife = time.Minute
	// portIdle is how long a port is kept for nothing.
	portIdle = 10 * time.Second
	// leastInterval is how far apart two sends are at least.
	leastInterval = time.Millisecond
	// writes is how often one send is tried: the first may only bring the error of an earlier
	// packet, and send nothing.
	writes = 3
)

var errClosed = errors.New("the client has been closed")

// errNoAnswer is the cause when the time has passed.
var errNoAnswer = errors.New("no answer in time")

// udp is a server over UDP: several ports, each for 256 requests. An identifier is not used
// again on a port: servers may take the second request for a copy (RFC 2865 section 3).
type udp struct {
	peer *peer
	// dialling is held by who opens a port: others wait for that port.
	dialling chan struct{}

	mu     sync.Mutex
	ports  []*port // guarded by mu
	closed bool    // guarded by mu
}

func newUDP(p *peer) *udp { return &udp{peer: p, dialling: make(chan struct{}, 1)} }

// port is one socket, connected to the server, on a port that the kernel chose by chance.
type port struct {
	conn  *net.UDPConn
	born  time.Time
	ended chan struct{} // closed when nothing is read any more

	// Of udp.mu:
	waiting map[byte]*waiting
	used    map[byte]struct{} // identifiers, those that wait among them
	last    time.Time
	retired bool
}

// waiting is a request whose answer has not come.
type waiting struct {
	packet *packet
	answer chan reply // holds one
}

// justNow returns the answer that came just before the end.
func (w *waiting) justNow() (reply, bool) {
	select {
	case answer := <-w.answer:
		return answer, true
	default:
		return reply{}, false
	}
}

func (u *udp) exchange(ctx context.Context, q question, plan schedule) (reply, error) {
	s := u.peer.server
	p, id, err := u.take(ctx)
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
	if err := ctx.Err(); err != nil {
		return reply{}, u.peer.unknown(false, err)
	}
	again := time.NewTicker(max(plan.interval, leastInterval))
	defer again.Stop()
	err := errNoAnswer
	sent := false
	for sends, over := 0, false; !over; sends++ {
		if sends < plan.sends {
			sent = p.write(w.packet.octets) || sent
		}
		select {
		case answer := <-w.answer:
			return answer, nil
		case <-ctx.Done():
			over = true
		case <-p.ended:
			over, err = true, errClosed
		case <-again.C:
		}
	}
	if answer, ok := w.justNow(); ok {
		return answer, nil
	}
	return reply{}, u.peer.unknown(sent, err)
}

// write tells whether the octets have left.
func (p *port) write(octets []byte) bool {
	for range writes {
		if _, err := p.conn.Write(octets); err == nil {
			return true
		}
	}
	return false
}

// take returns a port with an identifier on it; it opens one where all are full.
func (u *udp) take(ctx context.Context) (*port, byte, error) {
	if p, id, ok := u.free(); ok {
		return p, id, nil
	}
	select {
	case u.dialling <- struct{}{}:
		defer func() { <-u.dialling }()
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("waiting for a port: %w", ctx.Err())
	}
	if p, id, ok := u.free(); ok {
		return p, id, nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", u.peer.server.Address)
	if err != nil {
		return nil, 0, fmt.Errorf("opening a port: %w", err)
	}
	now := u.peer.client.c.Now()
	p := &port{
		conn: conn.(*net.UDPConn), born: now, //nolint:forcetypeassert // what "udp" dials
		ended: make(chan struct{}), waiting: map[byte]*waiting{}, used: map[byte]struct{}{},
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, 0, errors.Join(errClosed, conn.Close())
	}
	u.ports = append(u.ports, p)
	u.peer.client.running.Go(func() { u.read(p) })
	id, _ := p.claim(now)
	return p, id, nil
}

// free returns a port in use with a free identifier.
func (u *udp) free() (*port, byte, bool) {
	now := u.peer.client.c.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range u.ports {
		p.retired = p.retired || now.Sub(p.born) > portLife
		if p.retired {
			continue
		}
		if id, ok := p.claim(now); ok {
			return p, id, true
		}
		p.retired = true
	}
	return nil, 0, false
}

// claim takes an identifier that has not been used on the port. The caller holds udp.mu.
func (p *port) claim(now time.Time) (byte, bool) {
	id, ok := freeID(p.used)
	if ok {
		p.used[id], p.waiting[id] = struct{}{}, nil
		p.last = now
	}
	return id, ok
}

func (u *udp) give(p *port, id byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(p.waiting, id)
	if (p.retired || len(p.used) > 255) && len(p.waiting) == 0 {
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
	defer close(p.ended)
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
