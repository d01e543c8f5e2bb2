package accept

import (
	"net"
	"net/netip"
	"sync"

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
		network := networkOf(raw.RemoteAddr())
		if l.counts.enter(network) {
			return &conn{Conn: raw, leave: sync.OnceFunc(func() { l.counts.leave(network) })}, nil
		}
		_ = raw.Close() // refused: nobody to tell
	}
}

// conn is a connection below TLS that counts until it is closed.
type conn struct {
	net.Conn
	leave func()
	// endPoint is the tls-server-end-point of the handshake; written by it and read by the
	// requests behind it, all in the connection's own goroutine.
	endPoint []byte
}

// Close closes the connection and gives its place free.
func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// counts is how many connections there are.
type counts struct {
	connections, perAddress int // limits
	full, crowded           *metrics.Counter

	mu    sync.Mutex // guards what follows
	total int
	by    map[netip.Prefix]int
}

func newCounts(l Limits, set *metrics.Set) *counts {
	c := &counts{
		connections: l.Connections, perAddress: l.PerAddress,
		full:    set.GetOrCreateCounter(`estuary_gateway_connections_refused_total{reason="connections"}`),
		crowded: set.GetOrCreateCounter(`estuary_gateway_connections_refused_total{reason="connections_per_address"}`),
		by:      map[netip.Prefix]int{},
	}
	set.GetOrCreateGauge("estuary_gateway_connections", func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.total)
	})
	return c
}

// enter takes a place, if there is one.
func (c *counts) enter(network netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.total >= c.connections:
		c.full.Inc()
		return false
	case c.by[network] >= c.perAddress:
		c.crowded.Inc()
		return false
	}
	c.total++
	c.by[network]++
	return true
}

// leave gives a place back.
func (c *counts) leave(network netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	c.by[network]--
	if c.by[network] == 0 {
		delete(c.by, network)
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
