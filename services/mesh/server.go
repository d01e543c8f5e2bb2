package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// ServerConfig is what a server needs. Every field is required.
type ServerConfig struct {
	// TLS is who the server is and whom it believes.
	TLS *TLS
	// Allow lists the mesh names of the peers that may call a service, by the service's full
	// name. Health (grpc.health.v1.Health) is a service like any other, and every client
	// needs it: without its answer a connection is not used. An empty list denies everybody.
	Allow map[string][]string
	// Log gets a line for each call.
	Log *slog.Logger
	// Metrics gets the estuary_mesh_… metrics.
	Metrics *metrics.Set
	// Audit is told of every call that the chain refuses as the peer's fault. It is called by
	// many goroutines; ctx lives for 5 s, whatever the caller does.
	Audit func(ctx context.Context, c Call)
}

// Server is a gRPC server of the mesh. It answers health from the start, with NOT_SERVING
// until SetServing is called.
type Server struct {
	config  ServerConfig
	grpc    *grpc.Server
	health  *health.Server
	panics  *metrics.Counter
	steps   []step
	grace   time.Duration
	stopped context.Context // ends health watches, which would otherwise outlive GracefulStop
	stop    context.CancelFunc

	// allowed holds the peers of every method. Filled before Serve, then only read.
	allowed  map[string]map[string]bool
	services map[string]bool // registered; filled before Serve
}

// NewServer returns a server that has the health service and waits for others.
func NewServer(c ServerConfig) (*Server, error) {
	if c.TLS == nil || c.Allow == nil || c.Log == nil || c.Metrics == nil || c.Audit == nil {
		return nil, errors.New("making mesh server: a field of its configuration is missing")
	}
	for service, peers := range c.Allow {
		for _, p := range peers {
			if err := checkName(p); err != nil {
				return nil, fmt.Errorf("reading allow-list of %s: %w", service, err)
			}
		}
	}
	s := &Server{
		config: c, health: health.NewServer(), grace: grace,
		panics:  c.Metrics.GetOrCreateCounter("estuary_mesh_panics_total"),
		allowed: map[string]map[string]bool{}, services: map[string]bool{},
	}
	s.steps = s.chain()
	s.stopped, s.stop = context.WithCancel(context.Background())
	creds := &handshaker{tls: c.TLS, log: c.Log, refused: c.Metrics.GetOrCreateCounter("estuary_mesh_handshakes_refused_total")}
	s.grpc = grpc.NewServer(append(serverOptions(),
		grpc.Creds(creds),
		grpc.StatsHandler(&guard{log: c.Log, cut: c.Metrics.GetOrCreateCounter("estuary_mesh_connections_cut_total"), now: time.Now}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		// Methods that do not exist go through the chain too, to be refused and recorded.
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Error(codes.Unimplemented, "there is no such method")
		}),
	)...)
	s.SetServing(false)
	healthpb.RegisterHealthServer(s, &watchable{Server: s.health, stopped: s.stopped})
	return s, nil
}

// RegisterService implements grpc.ServiceRegistrar. It is to be called before Serve.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
	s.services[desc.ServiceName] = true
	peers := map[string]bool{}
	for _, p := range s.config.Allow[desc.ServiceName] {
		peers[p] = true
	}
	for _, m := range desc.Methods {
		s.allowed["/"+desc.ServiceName+"/"+m.MethodName] = peers
	}
	for _, m := range desc.Streams {
		s.allowed["/"+desc.ServiceName+"/"+m.StreamName] = peers
	}
}

// SetServing tells clients, who watch this, whether to send calls here.
func (s *Server) SetServing(on bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if on {
		state = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
}

// Serve answers calls on ln until ctx ends; then it takes no new ones, waits up to 10 s for
// those that run, and returns nil. It closes ln. It returns an error at once when a service
// has no allow-list, or an allow-list no service. A Server serves once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if err := s.agree(); err != nil {
		return errors.Join(err, ln.Close())
	}
	defer s.stop()
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(ln) }() // ends with the server, below
	select {
	case err := <-served:
		s.grpc.Stop()
		return fmt.Errorf("serving the mesh on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.drain()
	return <-served
}

// drain stops the server: first clients are told to go elsewhere, then calls may finish.
func (s *Server) drain() {
	s.health.Shutdown()
	s.stop()
	done := make(chan struct{})
	go func() { // ends when the last handler returns, or with the process
		s.grpc.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(s.grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.config.Log.Warn("calls still run after the grace period: cancelling them", slog.Duration("grace", s.grace))
		s.grpc.Stop()
	}
}

// agree tells whether services and allow-lists name each other.
func (s *Server) agree() error {
	var wrong []string
	for _, service := range slices.Sorted(maps.Keys(s.services)) {
		if _, ok := s.config.Allow[service]; !ok {
			wrong = append(wrong, "service "+service+" has no allow-list")
		}
	}
	for _, service := range slices.Sorted(maps.Keys(s.config.Allow)) {
		if !s.services[service] {
			wrong = append(wrong, "allow-list of "+service+" has no such service")
		}
	}
	if wrong != nil {
		return errors.New("checking allow-lists of the mesh: " + strings.Join(wrong, "; "))
	}
	return nil
}

// watchable is the health service with watches that end when the server stops.
type watchable struct {
	*health.Server
	stopped context.Context
}

// Watch implements healthpb.HealthServer.
func (w *watchable) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(w.stopped, cancel)()
	return w.Server.Watch(req, &watch{stream, ctx})
}

type watch struct {
	grpc.ServerStreamingServer[healthpb.HealthCheckResponse]
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (w *watch) Context() context.Context { return w.ctx }
