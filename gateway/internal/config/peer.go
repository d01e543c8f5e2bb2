package config

import (
	"time"

	"google.golang.org/grpc"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
)

// defaultTimeout is how long another service may take for an answer.
const defaultTimeout = config.Duration(5 * time.Second)

// maxTimeout is what the mesh allows a call at most.
const maxTimeout = config.Duration(30 * time.Second)

// Peer is another service that this process calls.
type Peer struct {
	Target  string          `toml:"target" doc:"Address and port of the service, such as 127.0.0.1:9501, or those of several replicas, comma-separated: calls go to all of them in turn, except to those that do not serve. A name stands for all of its addresses."`
	Name    string          `toml:"name" doc:"Mesh name that the service's certificate has to carry."`
	Timeout config.Duration `toml:"timeout" doc:"How long an answer may take, 200 ms to 30 s."`
}

// Dial connects to the service as creds say who this process is.
func (p Peer) Dial(creds *mesh.TLS) (*grpc.ClientConn, error) {
	return mesh.Dial(mesh.DialConfig{TLS: creds, Target: p.Target, ServerName: p.Name, Timeout: time.Duration(p.Timeout)})
}

// Check reports an address that cannot be dialled and a timeout that no call can meet.
func (p Peer) Check(r *config.Report) {
	if _, err := mesh.Targets(p.Target); err != nil {
		r.Add("target", `has to be an address and a port, such as "127.0.0.1:9501", or several, comma-separated: %v`, err)
	}
	if p.Name == "" {
		r.Add("name", "is missing")
	}
	if p.Timeout < config.Duration(200*time.Millisecond) || p.Timeout > maxTimeout {
		r.Add("timeout", "is %s, but has to be between 200ms and %s", p.Timeout, maxTimeout)
	}
}
