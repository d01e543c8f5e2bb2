package config

import (
	"net"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	"github.com/estuary-pki/estuary/gateway/internal/est"
	"github.com/estuary-pki/estuary/gateway/internal/problem"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
)

// Gateway is the file gateway.toml.
type Gateway struct {
	TLS       GatewayTLS    `toml:"tls" doc:"The listener for EST clients."`
	EST       EST           `toml:"est" doc:"The EST service."`
	Label     []Label       `toml:"label" doc:"Labels that are served, beside the default one: the segment before the operation in a URL (RFC 7030 section 3.2.2)."`
	Refusal   Refusal       `toml:"refusal" doc:"How refused credentials are answered."`
	Limits    Limits        `toml:"limits" doc:"What a client may take of the gateway."`
	Publish   Publish       `toml:"publish" doc:"Revocation list and certificate of the authority for everybody, by plain HTTP: GET /crl/NAME.crl and /ca/NAME.crt, with the signer's [ca] name; OCSP at /ocsp."`
	Mesh      mesh.Config   `toml:"mesh" doc:"Who the gateway is towards the other services."`
	Validator Peer          `toml:"validator" doc:"Where credentials are checked."`
	Signer    Peer          `toml:"signer" doc:"Where certificates are issued."`
	Ops       run.OpsConfig `toml:"ops" doc:"The listener for operators: /healthz, /readyz, /metrics."`
	Log       run.LogConfig `toml:"log" doc:"The log on standard error."`
}

// GatewayTLS is the [tls] table.
type GatewayTLS struct {
	Listen      string      `toml:"listen" doc:"Address and port for EST clients; all of the machine's addresses where the address is empty."`
	Certificate config.Path `toml:"certificate" doc:"Certificate towards EST clients, PEM, leaf first, with the chain they need. Read again when it changes."`
	Key         config.Path `toml:"key" doc:"Private key of the certificate, PEM. Must not be accessible to other users. Read again when it changes."`
	ClientAuth  ClientAuth  `toml:"client_auth" doc:"Client certificates. Those of the authority itself are known from the signer."`
}

// ClientAuth is the [tls.client_auth] table.
type ClientAuth struct {
	TrustAnchors config.Path `toml:"trust_anchors" doc:"Certificates of other authorities, PEM, whose certificates clients may present, such as a manufacturer's; empty for none. Read again when it changes. Whether they prove anything is the validator's to say."`
	Mode         accept.Mode `toml:"mode" doc:"optional (a client is asked for a certificate and may do without), required_for_reenroll (as optional, but on /simpleenroll it does not count), required (no connection without one that is valid, for /cacerts neither; one that has expired is refused, whatever renew_expired says) or none (clients are not asked, and /simplereenroll is not served)."`
}

// Check reports an unknown mode.
func (c *ClientAuth) Check(r *config.Report) {
	if !slices.Contains(accept.Modes, c.Mode) {
		r.Add("mode", "has to be optional, required_for_reenroll, required or none, not %q", string(c.Mode))
	}
	if c.Mode == accept.ModeNone && c.TrustAnchors != "" {
		r.Add("trust_anchors", "means nothing: the mode is none")
	}
}

// EST is the [est] table.
type EST struct {
	DefaultLabel string `toml:"default_label" doc:"Label that a request without one counts for. It need not stand among the [[label]] tables."`
}

// Label is a [[label]] table.
type Label struct {
	Name   string     `toml:"name" doc:"The label: letters, digits and - . _ ~, not the name of an EST operation."`
	Base64 est.Layout `toml:"base64" doc:"Layout of base64 in replies: lines (64 columns, which libest needs), oneline (which strongSwan before 5.9.11 needs), or auto: oneline for requests without User-Agent, lines for others."`
}

// Refusal is the [refusal] table.
type Refusal struct {
	Floor config.Duration `toml:"floor" doc:"A refused credential is answered on the first half second of the clock after this time, at most 10s. Has to be longer than the slowest check of a credential takes."`
}

// Limits is the [limits] table.
type Limits struct {
	Connections           int             `toml:"connections" doc:"Connections at once, 1 to 100000. For one more the one is closed that has sent nothing for the longest time since it was opened, or the new one where all have sent something. Each can take 135 KiB of memory while a request arrives: 3072 take 410 MiB."`
	ConnectionsPerAddress int             `toml:"connections_per_address" doc:"Connections at once from one IPv4 address or IPv6 network of 64 bits; more are closed at once."`
	ReadHeaderTimeout     config.Duration `toml:"read_header_timeout" doc:"How long the TLS handshake may take, and then again a request from its first octet to the last of its body; 100 ms to 60 s."`
	RequestTimeout        config.Duration `toml:"request_timeout" doc:"How long the answer to a request may take, 1 s to 60 s."`
	IdleTimeout           config.Duration `toml:"idle_timeout" doc:"How long a connection may wait for its next request, 1 s to 10 m."`
}

// Publish is the [publish] table.
type Publish struct {
	Listen string `toml:"listen" doc:"Address and port, such as \":8080\"; empty for no such listener."`
}

// Check reports an address that is none.
func (p *Publish) Check(r *config.Report) {
	if p.Listen == "" {
		return
	}
	if _, port, err := net.SplitHostPort(p.Listen); err != nil || port == "" {
		r.Add("listen", `has to be an address and a port, such as ":8080"`)
	}
}

// DefaultGateway returns what holds where the file says nothing.
func DefaultGateway() *Gateway {
	return &Gateway{
		TLS:     GatewayTLS{Listen: ":8443", ClientAuth: ClientAuth{Mode: accept.ModeOptional}},
		EST:     EST{DefaultLabel: "device"},
		Refusal: Refusal{Floor: config.Duration(1500 * time.Millisecond)},
		Limits: Limits{
			Connections: 3072, ConnectionsPerAddress: 256,
			ReadHeaderTimeout: config.Duration(5 * time.Second),
			RequestTimeout:    config.Duration(20 * time.Second),
			IdleTimeout:       config.Duration(30 * time.Second),
		},
		Validator: Peer{Name: "validator.estuary.internal", Timeout: defaultTimeout},
		Signer:    Peer{Name: "signer.estuary.internal", Timeout: defaultTimeout},
		Ops:       run.OpsConfig{Listen: "127.0.0.1:9600"},
		Log:       run.LogConfig{Level: "info"},
	}
}

// Check reports what concerns several tables.
func (g *Gateway) Check(r *config.Report) {
	if g.TLS.Listen == g.Ops.Listen {
		r.Add("ops.listen", "is the address of the EST listener")
	}
	if g.Publish.Listen != "" && (g.Publish.Listen == g.TLS.Listen || g.Publish.Listen == g.Ops.Listen) {
		r.Add("publish.listen", "is the address of another listener")
	}
	for i, label := range g.Label {
		if slices.ContainsFunc(g.Label[:i], func(l Label) bool { return l.Name == label.Name }) {
			r.Add("label", "%s stands there twice", label.Name)
		}
	}
	if whole := g.Validator.Timeout + g.Signer.Timeout; g.Limits.RequestTimeout < whole {
		r.Add("limits.request_timeout", "is %s, but the timeouts of validator and signer take %s together", g.Limits.RequestTimeout, whole)
	}
}

// Check reports keys that are missing.
func (t *GatewayTLS) Check(r *config.Report) {
	if _, port, err := net.SplitHostPort(t.Listen); err != nil || port == "" {
		r.Add("listen", `has to be an address and a port, such as ":8443"`)
	}
	if t.Certificate == "" {
		r.Add("certificate", "is missing")
	}
	if t.Key == "" {
		r.Add("key", "is missing")
	}
}

// Check reports a label that cannot stand in a URL.
func (e *EST) Check(r *config.Report) {
	if err := est.CheckLabel(e.DefaultLabel); err != nil {
		r.Add("default_label", "%v", err)
	}
}

// SetDefaults sets what a new [[label]] table need not say.
func (l *Label) SetDefaults() { l.Base64 = est.LayoutAuto }

// Check reports a label that cannot stand in a URL and an unknown layout.
func (l *Label) Check(r *config.Report) {
	if err := est.CheckLabel(l.Name); err != nil {
		r.Add("name", "%v", err)
	}
	if !l.Base64.Valid() {
		r.Add("base64", "has to be auto, lines or oneline, not %q", l.Base64)
	}
}

// Check reports a floor that no reply could keep.
func (f *Refusal) Check(r *config.Report) {
	if d := time.Duration(f.Floor); d > problem.MaxFloor {
		r.Add("floor", "is %s, but has to be at most %s", f.Floor, config.Duration(problem.MaxFloor))
	}
}

// Check reports limits without sense.
func (l *Limits) Check(r *config.Report) {
	if l.Connections < 1 || l.Connections > 100_000 {
		r.Add("connections", "is %d, but has to be between 1 and 100000", l.Connections)
	}
	if l.ConnectionsPerAddress < 1 || l.ConnectionsPerAddress > l.Connections {
		r.Add("connections_per_address", "is %d, but has to be between 1 and connections", l.ConnectionsPerAddress)
	}
	for _, d := range []struct {
		key        string
		value      config.Duration
		low, upper time.Duration
	}{
		{"read_header_timeout", l.ReadHeaderTimeout, 100 * time.Millisecond, time.Minute},
		{"request_timeout", l.RequestTimeout, time.Second, time.Minute},
		{"idle_timeout", l.IdleTimeout, time.Second, 10 * time.Minute},
	} {
		if v := time.Duration(d.value); v < d.low || v > d.upper {
			r.Add(d.key, "is %s, but has to be between %s and %s", d.value, config.Duration(d.low), config.Duration(d.upper))
		}
	}
}

// Labels returns the labels that are served: those of the file, and the default one.
func (g *Gateway) Labels() []est.Label {
	labels := []est.Label{}
	for _, l := range g.Label {
		labels = append(labels, est.Label{Name: l.Name, Layout: l.Base64})
	}
	if !slices.ContainsFunc(labels, func(l est.Label) bool { return l.Name == g.EST.DefaultLabel }) {
		labels = append(labels, est.Label{Name: g.EST.DefaultLabel, Layout: est.LayoutAuto})
	}
	return labels
}

// Accept returns the limits as the listener takes them.
func (l *Limits) Accept() accept.Limits {
	return accept.Limits{
		Connections: l.Connections, PerAddress: l.ConnectionsPerAddress,
		Read: time.Duration(l.ReadHeaderTimeout), Request: time.Duration(l.RequestTimeout),
		Idle: time.Duration(l.IdleTimeout),
	}
}
