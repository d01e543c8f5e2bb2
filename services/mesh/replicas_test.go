package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

// replica is one of several servers with the same name. It answers with its number.
type replica struct {
	ca     *meshtest.CA
	number string
	addr   string
	stop   func() // and waits until it has stopped
}

// start serves on addr until the test ends or stop is called.
func (r *replica) start(t *testing.T, addr string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	allow := map[string][]string{tokenAdmin: {meshtest.Admin}, health: {meshtest.Admin}}
	s := newServer(t, r.ca.TLS(t, meshtest.Validator), allow, tokens{
		list: func(context.Context, *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
			return &validatorv1.ListTokensResponse{NextPageToken: r.number}, nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		if err := s.Serve(ctx, ln); err != nil {
			t.Errorf("serving: %v", err)
		}
	}()
	r.addr, r.stop = ln.Addr().String(), func() { cancel(); <-done }
	t.Cleanup(r.stop)
}

func newReplica(t *testing.T, ca *meshtest.CA, number string) *replica {
	t.Helper()
	r := &replica{ca: ca, number: number}
	r.start(t, "127.0.0.1:0")
	return r
}

// dialAll connects to a list of targets and waits for a first connection.
func dialAll(t *testing.T, ca *meshtest.CA, targets ...string) *grpc.ClientConn {
	t.Helper()
	conn, err := mesh.Dial(mesh.DialConfig{
		TLS: ca.TLS(t, meshtest.Admin), Target: strings.Join(targets, ", "), ServerName: meshtest.Validator, Timeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	eventually(t, "a connection", func() bool { return conn.GetState() == connectivity.Ready })
	return conn
}

// who returns the number of the replica that answers a call.
func who(t *testing.T, conn *grpc.ClientConn) (string, error) {
	t.Helper()
	a, err := validatorv1.NewTokenAdminClient(conn).ListTokens(t.Context(), &validatorv1.ListTokensRequest{})
	return a.GetNextPageToken(), err
}

// round makes n calls, none of which may fail, and counts who answered.
func round(t *testing.T, conn *grpc.ClientConn, n int) map[string]int {
	t.Helper()
	answers := map[string]int{}
	for range n {
		number, err := who(t, conn)
		if err != nil {
			t.Errorf("a call failed: %v", err)
		}
		answers[number]++
	}
	return answers
}

// settle waits until exactly the named replicas share the calls, each equally.
func settle(t *testing.T, conn *grpc.ClientConn, numbers ...string) {
	t.Helper()
	eventually(t, "calls to "+strings.Join(numbers, ", "), func() bool { return equally(round(t, conn, 4*len(numbers)), 4, numbers...) })
}

func equally(answers map[string]int, each int, numbers ...string) bool {
	for _, number := range numbers {
		if answers[number] != each {
			return false
		}
	}
	return len(answers) == len(numbers)
}

// Calls go to all targets in turn; one that stops is left without a failed call, and used
// again within 3 s after it is back.
func TestReplicas(t *testing.T) {
	t.Parallel()
	ca := meshtest.New(t)
	one, two, three := newReplica(t, ca, "1"), newReplica(t, ca, "2"), newReplica(t, ca, "3")
	conn := dialAll(t, ca, one.addr, two.addr, three.addr)
	settle(t, conn, "1", "2", "3")
	if answers := round(t, conn, 30); !equally(answers, 10, "1", "2", "3") {
		t.Errorf("calls went to %v", answers)
	}

	stopped := make(chan struct{})
	go func() { two.stop(); close(stopped) }()
	for running := true; running; {
		round(t, conn, 1) // none fails while it stops
		select {
		case <-stopped:
			running = false
		default:
		}
	}
	settle(t, conn, "1", "3")
	if answers := round(t, conn, 30); answers["2"] != 0 || len(answers) != 2 {
		t.Errorf("after one has stopped, calls went to %v", answers)
	}

	time.Sleep(time.Second) // attempts to connect have become rarer
	two.start(t, two.addr)
	back := time.Now()
	settle(t, conn, "1", "2", "3")
	if took := time.Since(back); took > 3*time.Second {
		t.Errorf("used again only after %v", took)
	}
}

// Hosts that do not exist and ports where nobody listens cost nothing beside a good one.
func TestWrongTargets(t *testing.T) {
	t.Parallel()
	ca := meshtest.New(t)
	one, two := newReplica(t, ca, "1"), newReplica(t, ca, "2")
	gone := meshtest.Listen(t)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	conn := dialAll(t, ca, "no..such.host:1", one.addr, gone.Addr().String(), two.addr)
	settle(t, conn, "1", "2")
	if answers := round(t, conn, 30); !equally(answers, 15, "1", "2") {
		t.Errorf("calls went to %v", answers)
	}

	for _, target := range []string{"", "127.0.0.1", one.addr + ",", one.addr + "," + one.addr, one.addr + " " + two.addr} {
		_, err := mesh.Dial(mesh.DialConfig{TLS: ca.TLS(t, meshtest.Admin), Target: target, ServerName: meshtest.Validator, Timeout: time.Second})
		if err == nil || !strings.Contains(err.Error(), "dialling") {
			t.Errorf("target %q: %v", target, err)
		}
	}
	alone, err := mesh.Dial(mesh.DialConfig{TLS: ca.TLS(t, meshtest.Admin), Target: "no..such.host:1", ServerName: meshtest.Validator, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alone.Close() }()
	if _, err := who(t, alone); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "no..such.host") {
		t.Errorf("no host at all: %v", err)
	}
}

// A replica that dies without a word fails the calls that it had, and no later one.
func TestKilledReplica(t *testing.T) {
	t.Parallel()
	ca := meshtest.New(t)
	one, two := newReplica(t, ca, "1"), newReplica(t, ca, "2")
	front := newFront(t, two.addr)
	conn := dialAll(t, ca, one.addr, front.addr)
	settle(t, conn, "1", "2")
	front.kill()
	failed := 0
	for range 20 {
		if _, err := who(t, conn); err != nil {
			failed++
		}
	}
	if failed > 1 {
		t.Errorf("%d calls failed after the connection was reset", failed)
	}
	settle(t, conn, "1")
}

// front passes connections on to a server, and can vanish as a killed process does.
type front struct {
	addr string
	ln   net.Listener

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func newFront(t *testing.T, to string) *front {
	t.Helper()
	ln := meshtest.Listen(t)
	f := &front{addr: ln.Addr().String(), ln: ln}
	t.Cleanup(f.kill)
	go func() { // ends with kill
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			f.mu.Lock()
			f.conns = append(f.conns, in, out)
			f.mu.Unlock()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()  // ends with the connections
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }() // ends with the connections
		}
	}()
	return f
}

// kill resets every connection and lets nobody in.
func (f *front) kill() {
	_ = f.ln.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	f.conns = nil
}
