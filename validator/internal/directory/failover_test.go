package directory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// replicas starts n servers with alice and returns them with a client.
func replicas(t *testing.T, n int) ([]*scripted, *directory.Client, *buffer) {
	t.Helper()
	var servers []*scripted
	var urls []string
	for range n {
		s := listen(t, "")
		s.search = people(person("alice", nil))
		servers, urls = append(servers, s), append(urls, s.url())
	}
	config, log := settings(urls...)
	return servers, client(t, config), log
}

func TestUsersArePinned(t *testing.T) {
	_, d, _ := replicas(t, 3)
	first := map[string]int{}
	for i := range 300 {
		name := fmt.Sprint("user", i)
		order := directory.Pinned(d, name)
		if again := directory.Pinned(d, strings.ToUpper(name)); len(order) != 3 || again[0] != order[0] {
			t.Errorf("%s: %q, then %q", name, order, again)
		}
		first[order[0]]++
	}
	for url, n := range first {
		if n < 60 || n > 140 {
			t.Errorf("%d of 300 users at %s", n, url)
		}
	}
	for range 20 {
		if _, err := d.Bind(t.Context(), user, hidden("x"), directory.BindOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBindsStayAtOneReplica(t *testing.T) {
	servers, d, _ := replicas(t, 3)
	for range 20 {
		if _, err := d.Bind(t.Context(), user, hidden("x"), directory.BindOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	used := 0
	for _, s := range servers {
		if n := len(s.tried()); n == 20 {
			used++
		} else if n != 0 {
			t.Errorf("%d binds at one server", n)
		}
	}
	if used != 1 {
		t.Errorf("%d servers had all binds", used)
	}
}

// A lost server is stepped over within the call, for a bind only while nothing has been sent,
// and is back within two seconds of its return.
func TestFailOverAndReturn(t *testing.T) {
	servers, d, log := replicas(t, 2)
	running(t, d)
	home := servers[0]
	if directory.Pinned(d, "alice")[0] != home.url() {
		home = servers[1]
	}
	if _, err := d.Find(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	path := home.listener.Addr().String()
	home.stop()
	for range 3 {
		if _, err := d.Find(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if b, err := d.Bind(t.Context(), user, hidden("x"), directory.BindOptions{}); err != nil || !b.Accepted {
			t.Errorf("%+v, %v", b, err)
		}
	}
	if err := d.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "1 of 2") || !strings.Contains(err.Error(), home.url()) {
		t.Errorf("readiness: %v", err)
	}
	listen(t, path)
	returned := time.Now()
	for d.Check(t.Context()) != nil {
		if time.Since(returned) > 2*time.Second {
			t.Fatal("the server is not taken back")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := directory.Pinned(d, "alice")[0]; got != home.url() {
		t.Errorf("alice is at %s", got)
	}
	if lost, back := strings.Count(log.String(), "is lost"), strings.Count(log.String(), "has returned"); lost != 1 || back != 1 {
		t.Errorf("%d losses and %d returns in the log:\n%s", lost, back, log.String())
	}
}

// The home server hangs before anything is sent: the other one answers in time. It hangs after
// that: nobody else gets the password.
func TestHangingServer(t *testing.T) {
	hanging := (&scripted{listener: listenerAt(troubled(t, "unix", mute))}).url()
	good := listen(t, "")
	good.search = people(person("alice", nil))
	config, _ := settings(hanging, good.url())
	config.Timeout = time.Second
	for i := range 20 { // until one is pinned to the hanging server
		name := fmt.Sprint("alice", i)
		d := client(t, config)
		if directory.Pinned(d, name)[0] != hanging {
			continue
		}
		good.search = people(person(name, nil))
		begin := time.Now()
		if _, err := d.Find(t.Context(), name); err != nil || time.Since(begin) > 700*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := d.Check(t.Context()); err == nil {
			t.Error("the server is not marked down")
		}
		d = client(t, config)
		_, err := d.Bind(t.Context(), directory.Entry{DN: alice, Principal: name}, hidden("x"), directory.BindOptions{})
		var unknown *directory.Unknown
		if !errors.As(err, &unknown) || !unknown.Sent || len(good.tried()) != 0 {
			t.Errorf("%v, %q", err, good.tried())
		}
		return
	}
	t.Fatal("nobody is pinned to the first server")
}

func TestBusyServer(t *testing.T) {
	servers, d, _ := replicas(t, 2)
	for i, s := range servers {
		if s.url() == directory.Pinned(d, "alice")[0] {
			s.search = func(string, string) answer { return answer{code: 51 + int64(i)} }
		}
	}
	if _, err := d.Find(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	if d.Check(t.Context()) == nil {
		t.Error("the busy server is not marked down")
	}
}

func TestAllDown(t *testing.T) {
	servers, d, _ := replicas(t, 2)
	for _, s := range servers {
		s.stop()
	}
	for _, call := range calls {
		if err := call.do(t.Context(), d); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", call.name, err)
		}
	}
	begin := time.Now()
	for range 100 {
		_, err := d.Bind(t.Context(), user, hidden("x"), directory.BindOptions{})
		var unknown *directory.Unknown
		if !errors.As(err, &unknown) || unknown.Sent || !strings.Contains(err.Error(), "every directory server is down") {
			t.Errorf("%v", err)
		}
	}
	if took := time.Since(begin); took > 100*time.Millisecond {
		t.Errorf("100 refusals took %v", took)
	}
	if err := d.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "every directory server is down") {
		t.Errorf("readiness: %v", err)
	}
}

// A caller in a hurry does not get a server marked down.
func TestHurry(t *testing.T) {
	s := listen(t, "")
	s.search = func(string, string) answer { time.Sleep(50 * time.Millisecond); return answer{} }
	config, _ := settings(s.url())
	d := client(t, config)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.Find(ctx, "alice"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// Whoever waits for a connection of a server that is lost meanwhile waits no longer.
func TestQueueOfLostServer(t *testing.T) {
	config, _ := settings((&scripted{listener: listenerAt(troubled(t, "unix", mute))}).url())
	config.Timeout, config.Pool = time.Second, 1
	d := client(t, config)
	var all sync.WaitGroup
	all.Go(func() { _, _ = d.Find(t.Context(), "alice") })
	time.Sleep(600 * time.Millisecond)
	begin := time.Now()
	if _, err := d.Find(t.Context(), "bob"); !errors.Is(err, fault.Unavailable) || time.Since(begin) > 400*time.Millisecond+slack {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	all.Wait()
}

func TestPool(t *testing.T) {
	s := listen(t, "")
	var at, most atomic.Int64
	find := people(person("alice", nil))
	s.search = func(base, filter string) answer {
		n := at.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			continue
		}
		time.Sleep(time.Millisecond)
		at.Add(-1)
		return find(base, filter)
	}
	config, _ := settings(s.url())
	d := client(t, config)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if _, err := d.Find(t.Context(), "alice"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s.dialled() > config.Pool || most.Load() > int64(config.Pool) || directory.Idle(d, time.Hour) > config.Pool {
		t.Errorf("%d connections, %d searches at once", s.dialled(), most.Load())
	}
	// All have been closed by the server: one call finds out and goes on.
	dialled := s.dialled()
	s.cut()
	if _, err := d.Find(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	if n := s.dialled(); n != dialled+1 {
		t.Errorf("%d new connections", n-dialled)
	}
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if n := directory.Idle(d, time.Nanosecond); n != 0 {
		t.Errorf("%d idle connections are kept", n)
	}
}

// Connections that nobody has used for half a minute are closed, and not used again.
func TestIdleConnections(t *testing.T) {
	servers, d, _ := replicas(t, 1)
	find := func() {
		t.Helper()
		if _, err := d.Find(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
	}
	find()
	directory.Age(d, 20*time.Second)
	find()
	if n := servers[0].dialled(); n != 1 {
		t.Errorf("%d connections for two searches", n)
	}
	directory.Age(d, time.Minute)
	find()
	if n := servers[0].dialled(); n != 2 {
		t.Errorf("%d connections, want a second for the third search", n)
	}
	directory.Age(d, time.Minute)
	running(t, d)
	for begin := time.Now(); directory.Idle(d, time.Hour) != 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 3*time.Second {
			t.Fatal("Run closes no idle connection")
		}
	}
}
