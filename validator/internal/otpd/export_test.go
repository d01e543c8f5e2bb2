package otpd

import (
	"context"
	"net"
)

// MaxPerConn is how many requests of one connection are answered at once.
const MaxPerConn = maxPerConn

// RememberMost is how many requests are remembered.
const RememberMost = rememberMost

// Decode is decode, for the fuzz target.
func Decode(octets []byte) (user, password string, err error) {
	p, err := decode(octets)
	if err != nil {
		return "", "", err
	}
	return p.user, string(p.password.Reveal()), nil
}

// Serve is serve, for connections that need no time.
func (s *Server) Serve(ctx context.Context, conn net.Conn) { s.serve(ctx, conn) }
