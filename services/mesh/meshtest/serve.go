package meshtest

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
)

// ServeConfig describes a server for a test.
type ServeConfig struct {
	// Name is the server's mesh name.
	Name string
	// Allow lists the peers of every registered service. Health is added for every peer that
	// a service of Estuary can be, unless it is listed.
	Allow map[string][]string
	// Register registers the services.
	Register func(grpc.ServiceRegistrar)
	// Audit is told of refused calls; nil drops them.
	Audit func(context.Context, mesh.Call)
	// Log gets the server's log; nil drops it.
	Log *slog.Logger
	// Metrics gets the server's metrics; nil drops them.
	Metrics *metrics.Set
}

// Server is a running server.
type Server struct {
	// Addr is where it listens, host:port.
	Addr string
	// Stop begins a graceful stop and returns when it is done; calling it is optional.
	Stop func()

	ca   *CA
	name string
}

// Serve runs a server on the loopback interface until the test ends.
func (ca *CA) Serve(t testing.TB, c ServeConfig) *Server {
	t.Helper()
	allow := map[string][]string{healthpb.Health_ServiceDesc.ServiceName: {Gateway, Admin, Validator, Signer}}
	maps.Copy(allow, c.Allow)
	sc := mesh.ServerConfig{TLS: ca.TLS(t, c.Name), Allow: allow, Log: c.Log, Metrics: c.Metrics, Audit: c.Audit}
	if sc.Log == nil {
		sc.Log = slog.New(slog.DiscardHandler)
	}
	if sc.Metrics == nil {
		sc.Metrics = metrics.NewSet()
	}
	if sc.Audit == nil {
		sc.Audit = func(context.Context, mesh.Call) {}
	}
	s, err := mesh.NewServer(sc)
	if err != nil {
		t.Fatal(err)
	}
	if c.Register != nil {
		c.Register(s)
	}
	s.SetServing(true)
	ln := Listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with the test, by Stop
		defer close(done)
		if err := s.Serve(ctx, ln); err != nil {
			t.Errorf("serving: %v", err)
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return &Server{Addr: ln.Addr().String(), Stop: stop, ca: ca, name: c.Name}
}

// Dial returns a connection to the server for the peer of that name.
func (s *Server) Dial(t testing.TB, peer string) *grpc.ClientConn {
	t.Helper()
	return s.DialAs(t, s.ca.TLS(t, peer))
}

// DialAs returns a connection to the server with the certificate of own.
func (s *Server) DialAs(t testing.TB, own *mesh.TLS) *grpc.ClientConn {
	t.Helper()
	conn, err := mesh.Dial(mesh.DialConfig{TLS: own, Target: s.Addr, ServerName: s.name, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Refused tells whether err is the allow-list of the mesh speaking: the peer itself may not
// make the call. To the caller such an error is Internal, because its own client has not
// been refused; a handler's refusal is Forbidden.
func Refused(err error) bool {
	return errors.Is(err, fault.Internal) && status.Code(err) == codes.PermissionDenied
}
