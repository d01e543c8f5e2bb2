package mesh_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

const health = "grpc.health.v1.Health"

func serverConfig(own *mesh.TLS, allow map[string][]string) mesh.ServerConfig {
	return mesh.ServerConfig{
		TLS: own, Allow: allow, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Audit: func(context.Context, mesh.Call) {},
	}
}

// newServer returns a server with the token service that answers health from the start.
func newServer(t *testing.T, own *mesh.TLS, allow map[string][]string, impl tokens) *mesh.Server {
	t.Helper()
	s, err := mesh.NewServer(serverConfig(own, allow))
	if err != nil {
		t.Fatal(err)
	}
	validatorv1.RegisterTokenAdminServer(s, impl)
	s.SetServing(true)
	return s
}

// run serves until the test ends and returns the address.
func run(t *testing.T, s *mesh.Server) string {
	t.Helper()
	ln := meshtest.Listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return ln.Addr().String()
}

// A mistake in the allow-lists stops the start.
func TestAllowListsAndServicesAgree(t *testing.T) {
	own := meshtest.New(t).TLS(t, meshtest.Validator)
	cases := map[string]struct {
		allow map[string][]string
		says  string
	}{
		"service without list": {map[string][]string{health: nil}, "service " + tokenAdmin + " has no allow-list"},
		"health without list":  {map[string][]string{tokenAdmin: nil}, "service " + health + " has no allow-list"},
		"list without service": {map[string][]string{health: nil, tokenAdmin: nil, "estuary.X": nil}, "allow-list of estuary.X has no such service"},
	}
	for name, c := range cases {
		s := newServer(t, own, c.allow, tokens{list: answer})
		ln := meshtest.Listen(t)
		err := s.Serve(t.Context(), ln)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ln.Accept(); err == nil {
			t.Errorf("%s: the listener is still open", name)
		}
	}
	if _, err := mesh.NewServer(serverConfig(own, map[string][]string{health: {"*"}})); err == nil {
		t.Error("a wildcard in an allow-list")
	}
	if _, err := mesh.NewServer(mesh.ServerConfig{TLS: own}); err == nil {
		t.Error("a server of nothing")
	}
}

func TestGracefulStop(t *testing.T) {
	ca := meshtest.New(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		close(entered)
		<-leave
		return answer(ctx, r)
	})
	conn := s.Dial(t, meshtest.Admin)
	result := make(chan error, 1)
	go func() { result <- call(t, conn) }()
	<-entered
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	eventually(t, "client hears of it", func() bool { return conn.GetState() != connectivity.Ready })
	select {
	case <-stopped:
		t.Error("the server did not wait for the call")
	case <-time.After(100 * time.Millisecond):
	}
	if err := call(t, s.Dial(t, meshtest.Admin)); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a new call while stopping: %v", err)
	}
	close(leave)
	if err := <-result; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
	select {
	case <-stopped:
	case <-time.After(2 * time.Second):
		t.Error("the server goes on although no call runs: a health watch holds it")
	}
}

// A call that does not end, not even when it is cancelled, holds the server for the grace
// period and no longer.
func TestStopIsBounded(t *testing.T) {
	ca := meshtest.New(t)
	const grace = 300 * time.Millisecond
	entered, leave := make(chan struct{}), make(chan struct{})
	s := newServer(t, ca.TLS(t, meshtest.Validator), map[string][]string{tokenAdmin: {meshtest.Admin}, health: {meshtest.Admin}},
		tokens{list: func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
			close(entered)
			<-leave
			return answer(ctx, r)
		}})
	defer close(leave)
	s.SetGrace(grace)
	ln := meshtest.Listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	conn, err := mesh.Dial(mesh.DialConfig{TLS: ca.TLS(t, meshtest.Admin), Target: ln.Addr().String(), ServerName: meshtest.Validator, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	result := make(chan error, 1)
	go func() { result <- call(t, conn) }()
	<-entered
	start := time.Now()
	cancel()
	select {
	case err := <-served:
		if took := time.Since(start); err != nil || took < grace {
			t.Errorf("stopped after %v, %v", took, err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the server does not stop")
	}
	if err := <-result; !errors.Is(err, fault.Unavailable) {
		t.Errorf("the call that was cut off: %v", err)
	}
}

// A watch by a client that ignores GOAWAY must not hold the server for the grace period.
func TestStopEndsWatches(t *testing.T) {
	ca := meshtest.New(t)
	s := serve(t, ca, answer)
	watch, err := healthpb.NewHealthClient(s.Dial(t, meshtest.Admin)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", r, err)
	}
	start := time.Now()
	s.Stop()
	if took := time.Since(start); took > mesh.Grace/2 {
		t.Errorf("stopping took %v", took)
	}
	for err == nil {
		_, err = watch.Recv()
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Errorf("the stream ended with %T: %v", err, err)
	}
}

// A server that says it does not serve gets no calls, and is asked again by itself.
func TestHealth(t *testing.T) {
	t.Parallel()
	ca := meshtest.New(t)
	s := newServer(t, ca.TLS(t, meshtest.Validator), map[string][]string{
		tokenAdmin: {meshtest.Admin}, health: {meshtest.Admin},
	}, tokens{list: answer})
	s.SetServing(false)
	addr := run(t, s)
	dial := func(peer string) error {
		conn, err := mesh.Dial(mesh.DialConfig{TLS: ca.TLS(t, peer), Target: addr, ServerName: meshtest.Validator, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		eventually(t, "state", func() bool { return conn.GetState() == connectivity.TransientFailure })
		if err := call(t, conn); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", peer, err)
		}
		s.SetServing(true)
		defer s.SetServing(false)
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if err = mesh.Probe(t.Context(), conn); err == nil {
				return nil
			}
		}
		return err
	}
	if err := dial(meshtest.Admin); err != nil {
		t.Errorf("serving again: %v", err)
	}
	if err := dial(meshtest.Gateway); err == nil {
		t.Error("a peer that may not ask for health uses the server")
	}
}
