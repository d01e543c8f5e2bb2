// Package mesh turns a listener into a gRPC server, and an address into a gRPC client, that
// speak mutual TLS 1.3 with peers known by name.
//
// The commands of every service build one Server or one Dial connection from it; the generated
// stubs do the rest. A peer is the one DNS name in its certificate, and may call what the
// allow-list says and nothing else. Errors cross as package fault made them. Nothing here
// knows what the services do.
package mesh

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/estuary-pki/estuary/services/config"
)

// The limits of a connection. gRPC's own are made for the inside of one data centre and a
// trusted peer: 2³²−1 streams, 16 MiB of header, 4 MiB received and 2 GiB sent, 120 s to
// say hello. Both ends set all of them, so that a taken peer finds them on the other side.
const (
	// MaxMessage is the largest message, in octets, in both directions. Answers with a list
	// have to keep their pages below it.
	MaxMessage = 256 << 10
	// MaxCall is how long a call may run on the server, whatever the caller allows. A call
	// that comes without a deadline gets this one.
	MaxCall = 30 * time.Second

	// maxStreams is the number of calls at once on a connection. gRPC starts no more
	// handlers than this, which is what bounds a rapid reset (CVE-2023-44487).
	maxStreams = 128
	// maxHeader is the size of a header list, in octets as in RFC 9113 section 6.5.2.
	maxHeader = 16 << 10
	// maxHello is how long a connection may take for TCP accept, TLS and HTTP/2 preface.
	maxHello = 5 * time.Second
	// maxResets is how many calls a peer may cancel in a second before its connection is
	// cut. A healthy gateway cancels at most maxStreams when its clients vanish.
	maxResets = 1000
	// grace is how long a stopping server waits for the calls that run.
	grace = 10 * time.Second

	// pingEvery and pingTimeout find a dead server within 13 s; the first is the shortest
	// that gRPC's clients allow. minPing is below it, or the server would take the pings for
	// an attack and say GOAWAY.
	pingEvery   = 10 * time.Second
	pingTimeout = 3 * time.Second
	minPing     = 5 * time.Second
	// maxAge ends a connection, so that a peer proves its name again after certificates
	// were renewed, and load spreads over new servers; maxAgeGrace is for calls that run.
	maxAge      = 10 * time.Minute
	maxAgeGrace = 30 * time.Second
)

// Config is the part of a [mesh] table that says who this process is.
type Config struct {
	// Certificate is this process's certificate.
	Certificate config.Path `toml:"certificate" doc:"Certificate of this process towards the other services, PEM, leaf first. Its only subjectAltName is one DNS name, which the peers know it by. Read again when it changes."`
	// Key is the private key of Certificate.
	Key config.Path `toml:"key" doc:"Private key of the certificate, PEM. Must not be accessible to other users. Read again when it changes."`
	// CA holds the authorities that peers' certificates may come from.
	CA config.Path `toml:"ca" doc:"Certificates of the authorities whose certificates peers may present, PEM. Read again when it changes."`
}

// Check reports the keys that are missing.
func (c *Config) Check(r *config.Report) {
	for _, f := range []struct {
		key  string
		path config.Path
	}{{"certificate", c.Certificate}, {"key", c.Key}, {"ca", c.CA}} {
		if f.path == "" {
			r.Add(f.key, "names no file")
		}
	}
}

// CheckServer reports, under the keys listen and allow, an address that nobody can listen on
// and an allow-list that does not name exactly the gRPC services that a server has.
func CheckServer(r *config.Report, listen string, allow map[string][]string, services []string) {
	_, port, err := net.SplitHostPort(listen)
	if n, convErr := strconv.ParseUint(port, 10, 16); err != nil || convErr != nil || n == 0 && port != "0" {
		r.Add("listen", "%q is not an address and port such as 127.0.0.1:9501", listen)
	}
	for _, service := range slices.Sorted(maps.Keys(allow)) {
		if !slices.Contains(services, service) {
			r.Add("allow", "there is no service %q: %s", service, strings.Join(services, ", "))
		}
	}
	for _, service := range services {
		if _, ok := allow[service]; !ok {
			r.Add("allow", "%q is missing: name its callers, or none in an empty list", service)
		}
	}
}

// serverOptions are the limits of a server.
func serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.ConnectionTimeout(maxHello),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge:      maxAge,
			MaxConnectionAgeGrace: maxAgeGrace,
			Time:                  pingEvery,
			Timeout:               pingTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	}
}
