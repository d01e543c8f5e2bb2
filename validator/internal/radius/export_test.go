package radius

import (
	"context"

	"github.com/estuary-pki/estuary/services/secret"
)

// Sweep does what Run does every second.
func (c *Client) Sweep(ctx context.Context) { c.sweep(ctx) }

// Sockets returns how many ports or connections are open to servers.
func (c *Client) Sockets() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, p := range c.peers {
		switch way := p.way.(type) {
		case *udp:
			way.mu.Lock()
			n += len(way.ports)
			way.mu.Unlock()
		case *stream:
			way.mu.Lock()
			n += len(way.conns)
			way.mu.Unlock()
		}
	}
	return n
}

// NewPacket returns a request whose header is given, to be asked for answers.
func NewPacket(id byte, authenticator [16]byte, key []byte, unsigned bool) *Packet {
	p, err := question{user: "olga", password: secret.New([]byte("x"))}.encode("test", secret.New(key), id)
	if err != nil {
		panic(err)
	}
	copy(p.octets[4:], authenticator[:])
	p.unsigned = unsigned
	return &Packet{p}
}

// Packet is a request.
type Packet struct{ p *packet }

// Octets returns the request.
func (p *Packet) Octets() []byte { return p.p.octets }

// Check returns the code of an answer, whether it was signed, and its State.
func (p *Packet) Check(octets []byte) (code byte, signed bool, state []byte, err error) {
	r, err := p.p.check(octets)
	return r.code, r.signed, r.state, err
}
