package login

import (
	"net"
	"strings"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// The ports of RADIUS: RFC 2865 section 3 and RFC 6614 section 2.1.
const (
	PortUDP = "1812"
	PortTLS = "2083"
)

// WithPort returns HOST, HOST:PORT, [IPv6] or [IPv6]:PORT with the port where there is none.
func WithPort(server, port string) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.TrimSuffix(strings.TrimPrefix(server, "["), "]"), port)
}

// known returns the server that the directory names: with what the configuration says of
// it, if anything. A name without a port is that of a configured server on any port.
func (l *Login) known(named string) radius.Server {
	address := WithPort(named, PortUDP)
	for _, p := range l.c.Proxies {
		for _, s := range p.Target.Servers {
			_, port, err := net.SplitHostPort(s.Address)
			if err == nil && (s.Address == address || s.Address == WithPort(named, port)) {
				return s
			}
		}
	}
	return radius.Server{Name: address, Address: address}
}
