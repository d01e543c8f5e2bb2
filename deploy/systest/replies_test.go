package systest_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestReliabilityLostReplies: a reply is lost on its way, at each hop in turn. The client
// asks again with the same key and token, and a request signed anew: there is one row in
// the ledger, and the client has its certificate. Another key gets 401.
func TestReliabilityLostReplies(t *testing.T) {
	t.Parallel()
	var validators, signers, gateways hop
	p := &proxies{ctx: context.WithoutCancel(t.Context())}
	t.Cleanup(func() { p.close(t) })
	c := planCluster(t, shape{gateways: 1, validators: 2, signers: 2, postgres: true})
	var towardsValidators, towardsSigners []string
	for _, address := range c.addresses("validator") {
		towardsValidators = append(towardsValidators, p.listen(t, &validators, address))
	}
	for _, address := range c.addresses("signer") {
		towardsSigners = append(towardsSigners, p.listen(t, &signers, address))
	}
	c.rewrite(c.node("gateway-1"), func(text string) string {
		return retarget(retarget(text, "validator", towardsValidators...), "signer", towardsSigners...)
	})
	c.start()
	url := estAt(p.listen(t, &gateways, c.addresses("gateway")[0]))

	each := full(300) / 3
	for _, h := range []struct {
		name string
		*hop
	}{{"validator", &validators}, {"signer", &signers}, {"gateway", &gateways}} {
		r := repeats{c: c, url: url, hop: h.hop, issuedBefore: h.name != "validator"}
		r.warm(t)
		for range each {
			r.round(t)
		}
		r.others(t)
		if r.issued < each*9/10 {
			t.Errorf("%s: only %d of %d lost replies were those of requests that had been served", h.name, r.issued, each)
		}
		tell(t, "%d times replies of the %s lost, %d of them after it had done its work: %d answered all the same, %d by the client's repeat; certificates other than the ledger's %d, rows too many %d, other keys served %d",
			each, h.name, r.issued, r.unnoticed, each-r.unnoticed-r.failed, r.different, r.rows, r.stolen)
	}
	v := c.look()
	v.judge(t, nil)
}

// repeats are rounds of one hop.
type repeats struct {
	c   *cluster
	url string
	hop *hop
	// issuedBefore: when the reply is lost, the certificate has been issued.
	issuedBefore bool

	served                                             []applicant
	unnoticed, issued, failed, different, rows, stolen int
}

// warm makes sure that every connection is there.
func (r *repeats) warm(t *testing.T) {
	t.Helper()
	for _, a := range r.c.applicants(4) {
		if _, _, err := r.c.persist(t.Context(), a, r.url); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *repeats) round(t *testing.T) {
	t.Helper()
	a := r.c.applicants(1)[0]
	r.served = append(r.served, a)
	// Every second time so many in a row that the gateway gives up asking again.
	lose := int64(1 + len(r.served)%2*3)
	r.hop.armed.Store(lose)
	first := r.c.enrol(t.Context(), r.url, a)
	if r.hop.armed.Swap(0) == lose {
		t.Errorf("no reply was lost: %v", first)
	}
	rows := r.c.look().of(a.name)
	if r.issuedBefore == (len(rows) == 1 && rows[0].state == stateIssued) || first.status == http.StatusOK {
		r.issued++
	}
	switch {
	case first.status == http.StatusOK && first.err == nil:
		r.unnoticed++ // the gateway has asked again
	case !first.retriable():
		t.Errorf("the reply was lost: %v", first)
	}
	der, _, err := r.c.persist(t.Context(), a, r.url)
	if err != nil {
		t.Error(err)
		r.failed++
		return
	}
	rows = r.c.look().of(a.name)
	if len(rows) != 1 {
		t.Errorf("%s has %d rows", a.name, len(rows))
		r.rows += len(rows) - 1
	}
	if len(rows) == 0 || !same(rows[0].certificate, der) || first.der != nil && !same(first.der, der) {
		t.Errorf("%s has another certificate than the ledger", a.name)
		r.different++
	}
}

// others has everybody's token offered with another key.
func (r *repeats) others(t *testing.T) {
	t.Helper()
	var mu sync.Mutex
	inLanes(16, len(r.served), func(i int) {
		a, err := r.served[i].withKey()
		got := r.c.enrol(t.Context(), r.url, a)
		mu.Lock()
		defer mu.Unlock()
		if err = errors.Join(err, got.err); err != nil || got.status != http.StatusUnauthorized {
			t.Errorf("another key with the token of %s: %v, %v", a.name, got, err)
		}
		if got.status == http.StatusOK {
			r.stolen++
		}
	})
}

// reply is the size of the smallest answer that counts as one, in octets: that of a health
// check and HTTP/2's own frames are smaller.
const reply = 250

// hop is where replies get lost: when armed, the next ones are not passed on, and their
// connections are reset. The server has done its work by then.
type hop struct{ armed atomic.Int64 }

// lose tells whether the reply that is there gets lost.
func (h *hop) lose() bool {
	for {
		n := h.armed.Load()
		if n == 0 {
			return false
		}
		if h.armed.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// proxies pass connections on.
type proxies struct {
	ctx       context.Context
	listeners []net.Listener
	running   sync.WaitGroup
	mu        sync.Mutex
	conns     []net.Conn // guarded by mu
}

// listen returns the address of a proxy to target.
func (p *proxies) listen(t *testing.T, h *hop, target string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(p.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.listeners = append(p.listeners, l)
	p.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			server, err := new(net.Dialer).DialContext(p.ctx, "tcp", target)
			if err != nil {
				_ = client.Close() // as if nobody listened
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			p.pass(h, client, server)
		}
	})
	return l.Addr().String()
}

// pass copies both ways until one end has gone.
func (p *proxies) pass(h *hop, client, server net.Conn) {
	var sent atomic.Int64 // pieces of the client; a handshake is two of them
	p.running.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			sent.Add(1)
			if err == nil {
				_, err = server.Write(buffer[:n])
			}
			if err != nil {
				_ = errors.Join(client.Close(), server.Close())
				return
			}
		}
	})
	p.running.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if n >= reply && sent.Load() > 2 && h.lose() {
				reset(client)
				reset(server)
				return
			}
			if n > 0 {
				_, err = client.Write(buffer[:n])
			}
			if err != nil {
				_ = errors.Join(client.Close(), server.Close())
				return
			}
		}
	})
}

// reset ends a connection with RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *proxies) close(t *testing.T) {
	t.Helper()
	for _, l := range p.listeners {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close() // most have gone
	}
	p.mu.Unlock()
	p.running.Wait()
}
