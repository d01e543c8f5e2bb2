package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	_ "google.golang.org/grpc/health" // makes clients watch the health of their servers
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/estuary-pki/estuary/services/fault"
)

// serviceConfig spreads calls over all addresses of the target, leaves out servers that say
// they do not serve, and retries nothing: whether a call may be made twice is its caller's to
// know.
const serviceConfig = `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}`

// DialConfig is what a client needs. Every field is required.
type DialConfig struct {
	// TLS is who the client is and whom it believes.
	TLS *TLS
	// Target is "host:port", or several of them, comma-separated; see Targets. Calls go to all
	// their addresses in turn. Names are resolved by the system, again when a connection fails,
	// at most every 30 s; a host that cannot be resolved leaves the others usable.
	Target string
	// ServerName is the mesh name of the server.
	ServerName string
	// Timeout bounds each unary call; an earlier deadline of its context holds.
	Timeout time.Duration
}

// Dial returns a connection that is made in the background, to every address of the target,
// and made again whenever it is lost, at most 2 s after the server is back. Errors of calls
// are *fault.Error.
func Dial(c DialConfig) (*grpc.ClientConn, error) {
	if c.TLS == nil || c.Timeout <= 0 {
		return nil, fmt.Errorf("dialling %s: certificates or time-out missing", c.Target)
	}
	if err := checkName(c.ServerName); err != nil {
		return nil, fmt.Errorf("dialling %s: %w", c.Target, err)
	}
	targets, err := Targets(c.Target)
	if err != nil {
		return nil, fmt.Errorf("dialling %q: %w", c.Target, err)
	}
	names := &builder{targets: targets, lookup: net.DefaultResolver.LookupHost}
	chain := clientChain{timeout: c.Timeout}
	conn, err := grpc.NewClient(names.target(),
		grpc.WithResolvers(names),
		grpc.WithTransportCredentials(&handshaker{tls: c.TLS, serverName: c.ServerName}),
		grpc.WithAuthority(c.ServerName),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(), // a resolver has no say in it
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0), // the health of the server is to be known at any time
		grpc.WithMaxHeaderListSize(maxHeader),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: maxHello,
		}),
		grpc.WithUnaryInterceptor(chain.unary),
		grpc.WithStreamInterceptor(chain.stream),
	)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", c.Target, err)
	}
	conn.Connect()
	return conn, nil
}

// Probe asks the server behind conn whether it serves, for readiness checks. The error is a
// *fault.Error: Unavailable when it does not, or cannot be reached.
func Probe(ctx context.Context, conn *grpc.ClientConn) error {
	reply, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("asking %s for its health: %w", conn.Target(), err)
	}
	if reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fault.New(fault.Unavailable, "mesh.Probe", "", errors.New(conn.Target()+" does not serve"))
	}
	return nil
}
