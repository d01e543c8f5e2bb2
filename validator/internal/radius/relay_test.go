package radius_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"
)

// relay carries datagrams to a server from an address of its own, and back.
type relay struct {
	inner   *net.UDPConn
	server  *net.UDPAddr
	local   net.IP // the server sees it
	lose    int    // copies of each answer are lost
	running sync.WaitGroup

	mu      sync.Mutex
	outer   map[netip.AddrPort]*net.UDPConn // guarded by mu; by the client's port
	replies map[string]int                  // guarded by mu; how often each came
}

// newRelay starts a relay that loses so many copies of each answer.
func newRelay(t *testing.T, server, local string, lose int) *relay {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp4", server)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{server: to, local: net.ParseIP(local), lose: lose, outer: map[netip.AddrPort]*net.UDPConn{}, replies: map[string]int{}}
	if r.inner, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	r.running.Go(func() { r.there(t) })
	t.Cleanup(func() {
		_ = r.inner.Close()
		r.mu.Lock()
		for _, c := range r.outer {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.running.Wait()
	})
	return r
}

func (r *relay) address() string { return r.inner.LocalAddr().String() }

// answers returns how many came, and how many different ones.
func (r *relay) answers() (all, different int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.replies {
		all += n
	}
	return all, len(r.replies)
}

// ports returns the ports from which the server was asked.
func (r *relay) ports() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []int
	for _, c := range r.outer {
		all = append(all, c.LocalAddr().(*net.UDPAddr).Port) //nolint:forcetypeassert // of a UDPConn
	}
	return all
}

func (r *relay) there(t *testing.T) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := r.inner.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		r.mu.Lock()
		c := r.outer[from]
		if c == nil {
			if c, err = net.DialUDP("udp4", &net.UDPAddr{IP: r.local}, r.server); err != nil {
				r.mu.Unlock()
				t.Errorf("relaying: %v", err)
				return
			}
			r.outer[from] = c
			r.running.Go(func() { r.back(c, from) })
		}
		r.mu.Unlock()
		_, _ = c.Write(buffer[:n])
	}
}

func (r *relay) back(c *net.UDPConn, to netip.AddrPort) {
	buffer := make([]byte, 4096)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.replies[string(buffer[:n])]++
		drop := r.replies[string(buffer[:n])] <= r.lose
		r.mu.Unlock()
		if !drop {
			_, _ = r.inner.WriteToUDPAddrPort(buffer[:n], to)
		}
	}
}
