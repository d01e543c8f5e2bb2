package accept

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// listener gives out connections within the limits and closes the others at once: a client
// learns nothing from it and costs no handshake.
type listener struct {
	net.Listener
	counts *counts
}

// Accept returns the next connection that is within the limits.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, network: networkOf(raw.RemoteAddr()), counts: l.counts}
		room, evicted := l.counts.enter(c)
		if evicted != nil {
			_ = evicted.Conn.Close() // whoever reads from it closes it again
		}
		if room {
			return c, nil
		}
		_ = raw.Close() // refused: nobody to tell
	}
}

// conn is a connection below TLS that counts until it is closed.
type conn struct {
	net.Conn
	network netip.Prefix
	counts  *counts
	spoke   atomic.Bool

	silent *list.Element // guarded by counts.mu; its place among those that have sent nothing yet
	left   bool          // guarded by counts.mu
	// endPoint is the tls-server-end-point of the handshake; written by it and read by the
	// requests behind it, all in the connection's own goroutine.
	endPoint []byte
}

// Read reads, and notes that the client has sent something.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.spoke.Swap(true) {
		c.counts.heard(c)
	}
	return n, err
}

// Close closes the connection and gives its place free.
func (c *conn) Close() error {
	c.counts.leave(c)
	return c.Conn.Close()
}

// counts is how many connections there are.
type counts struct {
	connections, perAddress int // limits
	full, crowded, evicted  *metrics.Counter

	mu     sync.Mutex // guards what follows
	total  int
	by     map[netip.Prefix]int
	silent list.List // of *conn: those that have sent nothing yet, the oldest first
}

func newCounts(l Limits, set *metrics.Set) *counts {
	c := &counts{
		connections: l.Connections, perAddress: l.PerAddress,
		full:    set.GetOrCreateCounter(`estuary_gateway_connections_refused_total{reason="connections"}`),
		crowded: set.GetOrCreateCounter(`estuary_gateway_connections_refused_total{reason="connections_per_address"}`),
		evicted: set.GetOrCreateCounter("estuary_gateway_connections_evicted_total"),
		by:      map[netip.Prefix]int{},
	}
	set.GetOrCreateGauge("estuary_gateway_connections", func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.total)
	})
	return c
}

// enter takes a place, if there is one. Where all are taken, that of the connection which has
// sent nothing for the longest time becomes free: connecting costs next to nothing, and those who
// only do that shall not keep out those who want something. The caller closes it.
func (c *counts) enter(next *conn) (room bool, evicted *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.silent.Front()
	switch {
	case c.total >= c.connections && oldest == nil:
		c.full.Inc()
		return false, nil
	case c.by[next.network] >= c.perAddress:
		c.crowded.Inc()
		return false, nil
	case c.total >= c.connections:
		evicted = oldest.Value.(*conn)
		c.free(evicted)
		c.evicted.Inc()
	}
	c.total++
	c.by[next.network]++
	next.silent = c.silent.PushBack(next)
	return true, evicted
}

// heard notes that a connection has sent something.
func (c *counts) heard(one *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.speaks(one)
}

// leave gives a place back, once.
func (c *counts) leave(one *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free(one)
}

// free is leave, by who holds mu.
func (c *counts) free(one *conn) {
	if one.left {
		return
	}
	one.left = true
	c.speaks(one)
	c.total--
	c.by[one.network]--
	if c.by[one.network] == 0 {
		delete(c.by, one.network)
	}
}

// speaks is heard, by who holds mu.
func (c *counts) speaks(one *conn) {
	if one.silent != nil {
		c.silent.Remove(one.silent)
		one.silent = nil
	}
}

// networkOf returns whom connections from addr count for: an IPv4 address, or the 64 bits
// of an IPv6 network, within which a client can choose addresses as it likes.
func networkOf(addr net.Addr) netip.Prefix {
	parsed, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := parsed.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	network, _ := ip.Prefix(bits) // the number of bits fits
	return network
}
