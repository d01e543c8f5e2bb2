package mesh_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/estuary-pki/estuary/services/mesh"
)

func TestTargets(t *testing.T) {
	good := map[string][]string{
		"127.0.0.1:9501":                    {"127.0.0.1:9501"},
		" a.test:1 ,\t[::1]:2,b-c_d.test:3": {"a.test:1", "[::1]:2", "b-c_d.test:3"},
		"a:1,a:2,b:1":                       {"a:1", "a:2", "b:1"},
		"[fe80::1%eth0]:65535":              {"[fe80::1%eth0]:65535"},
	}
	for list, want := range good {
		if got, err := mesh.Targets(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
	for list, says := range map[string]string{
		"": `"" is not`, "a:1,": `"" is not`, ",a:1": `"" is not`, "a:1,,b:1": `"" is not`,
		"a": `"a" is not`, ":1": `":1" is not`, "a:1 b:2": `"a:1 b:2" is not`, "a b:1": `"a b:1" is not`,
		"a:1;b:2": `"a:1;b:2" is not`, "::1:2": `"::1:2" is not`, "[::1]": `"[::1]" is not`, "http://a:1": `"http://a:1" is not`,
		"a:": `"a:" has no port`, "a:0": `"a:0" has no port`, "a:65536": `"a:65536" has no port`, "b:1,a:https": `"a:https" has no port`,
		"a:1,b:1, a:1": `"a:1" stands there twice`, "a.test:1,A.TEST:1": `"A.TEST:1" stands there twice`,
	} {
		if got, err := mesh.Targets(list); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %q, %v, want %q", list, got, err, says)
		}
	}
}

// told is what a resolver tells gRPC.
type told struct {
	resolver.ClientConn
	mu     sync.Mutex
	states []string // guarded by mu
	errs   []error  // guarded by mu
	refuse error    // guarded by mu; the answer to a state
}

func (c *told) UpdateState(s resolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, a := range s.Addresses {
		all = append(all, a.Addr)
	}
	c.states = append(c.states, strings.Join(all, " "))
	return c.refuse
}

func (c *told) ReportError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, err)
}

// take returns the states since it was last called, and how many errors.
func (c *told) take() (states []string, errs int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	states, errs = c.states, len(c.errs)
	c.states, c.errs = nil, nil
	return states, errs
}

// expect fails the test unless gRPC was told exactly these states, and no error.
func (c *told) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	if states, errs := c.take(); !slices.Equal(states, want) || errs != 0 {
		t.Errorf("%s: states %q and %d errors, want %q", when, states, errs, want)
	}
}

// hosts is a name server.
type hosts struct {
	mu    sync.Mutex
	names map[string][]string // guarded by mu
	asked int                 // guarded by mu
}

func (h *hosts) lookup(ctx context.Context, host string) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("without a time-out")
	}
	if found, ok := h.names[host]; ok {
		return found, nil
	}
	return nil, errors.New("no such host")
}

func (h *hosts) set(host string, addresses ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names == nil {
		h.names = map[string][]string{}
	}
	h.names[host] = addresses
}

func (h *hosts) questions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

func resolve(t *testing.T, h *hosts, targets ...string) (resolver.Resolver, *told) {
	t.Helper()
	cc := &told{}
	r, err := mesh.Resolve(targets, h.lookup, cc)
	if err != nil {
		t.Fatal(err)
	}
	return r, cc
}

// Addresses are used as they are, all of them at once: a call between the first and the
// second would know only one server.
func TestResolveAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{}
		r, cc := resolve(t, h, "192.0.2.1:1", "[2001:db8::1]:2", "192.0.2.1:3")
		defer r.Close()
		cc.expect(t, "start", "192.0.2.1:1 [2001:db8::1]:2 192.0.2.1:3")
		r.ResolveNow(resolver.ResolveNowOptions{})
		time.Sleep(time.Hour)
		cc.expect(t, "later")
		if n := h.questions(); n != 0 {
			t.Errorf("asked %d times for the name of an address", n)
		}
	})
}

// Names are looked up again when gRPC asks, at most every 30 s.
func TestResolveAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{}
		h.set("a.test", "192.0.2.2", "192.0.2.1", "2001:db8::1")
		r, cc := resolve(t, h, "a.test:5")
		defer r.Close()
		cc.expect(t, "start", "192.0.2.1:5 192.0.2.2:5 [2001:db8::1]:5")
		h.set("a.test", "192.0.2.2", "192.0.2.3")
		time.Sleep(mesh.ResolveEvery * 10)
		cc.expect(t, "unasked")
		r.ResolveNow(resolver.ResolveNowOptions{})
		cc.expect(t, "asked", "192.0.2.2:5 192.0.2.3:5")

		h.set("a.test", "192.0.2.4")
		before := h.questions()
		for range 29 {
			r.ResolveNow(resolver.ResolveNowOptions{})
			time.Sleep(time.Second)
		}
		cc.expect(t, "asked within 30 s")
		time.Sleep(time.Second)
		cc.expect(t, "after 30 s", "192.0.2.4:5")
		if n := h.questions() - before; n != 1 {
			t.Errorf("looked up %d times in 30 s", n)
		}
		h.set("a.test", "192.0.2.4", "192.0.2.4")
		time.Sleep(mesh.ResolveEvery)
		r.ResolveNow(resolver.ResolveNowOptions{})
		cc.expect(t, "the same again")
	})
}

// A host that cannot be resolved leaves the others usable, keeps what it had, and is tried
// again without being asked.
func TestResolveWithFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{}
		h.set("a.test", "192.0.2.1")
		h.set("empty.test")
		r, cc := resolve(t, h, "a.test:5", "b.test:6", "192.0.2.1:5", "empty.test:8", "192.0.2.9:7")
		defer r.Close()
		// a.test adds no address, but a place in the order.
		synctest.Wait()
		cc.mu.Lock()
		last := cc.states[len(cc.states)-1]
		cc.mu.Unlock()
		if last != "192.0.2.1:5 192.0.2.9:7" {
			t.Errorf("%q at the start", last)
		}
		if _, errs := cc.take(); errs != 0 {
			t.Errorf("%d errors although two hosts are known", errs)
		}
		h.set("b.test", "192.0.2.2")
		time.Sleep(time.Second)
		cc.expect(t, "a second later", "192.0.2.1:5 192.0.2.2:6 192.0.2.9:7")
		h.mu.Lock()
		delete(h.names, "b.test")
		h.mu.Unlock()
		time.Sleep(time.Hour)
		cc.expect(t, "unknown again")
		h.set("empty.test", "192.0.2.3")
		time.Sleep(mesh.ResolveEvery)
		cc.expect(t, "the last one is there", "192.0.2.1:5 192.0.2.2:6 192.0.2.3:8 192.0.2.9:7")
	})
}

// gRPC hears of an error when there is no address at all; retries become rarer.
func TestResolveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{}
		r, cc := resolve(t, h, "a.test:5", "b.test:5")
		defer r.Close()
		synctest.Wait()
		if states, errs := cc.take(); states != nil || errs != 1 {
			t.Errorf("%q and %d errors at the start", states, errs)
		}
		time.Sleep(time.Minute + time.Millisecond) // after 1, 3, 7, 15 and 31 s
		if states, errs := cc.take(); states != nil || errs != 5 {
			t.Errorf("%q and %d errors in a minute", states, errs)
		}
		h.set("b.test", "192.0.2.2")
		time.Sleep(time.Second)
		cc.expect(t, "one is there", "192.0.2.2:5")
	})
}

// A state that gRPC does not take is offered again.
func TestResolveRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cc := &told{refuse: errors.New("not now")}
		r, err := mesh.Resolve([]string{"192.0.2.1:1"}, (&hosts{}).lookup, cc)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cc.expect(t, "start", "192.0.2.1:1")
		cc.mu.Lock()
		cc.refuse = nil
		cc.mu.Unlock()
		time.Sleep(time.Second)
		cc.expect(t, "a second later", "192.0.2.1:1")
		time.Sleep(time.Hour)
		cc.expect(t, "then")
	})
}

// A connection that is closed ends a lookup that hangs.
func TestResolveCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cc := &told{}
		hang := func(ctx context.Context, _ string) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r, err := mesh.Resolve([]string{"a.test:1", "192.0.2.1:1"}, hang, cc)
		if err != nil {
			t.Fatal(err)
		}
		cc.expect(t, "while a lookup hangs", "192.0.2.1:1")
		start := time.Now()
		r.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("closing took %v", took)
		}
		cc.expect(t, "closed")
	})
}
