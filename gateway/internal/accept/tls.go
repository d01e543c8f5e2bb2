package accept

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
)

// tlsConfig returns the configuration that every handshake starts from. The certificate is
// chosen in forHello, because only there the connection is known on a resumed session too.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, // libest and strongSwan 5.9 know no other
		MaxVersion: tls.VersionTLS13,
		// Forward secret and authenticated only; these are for TLS 1.2, that of 1.3 is fixed.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		// No P-521: it costs 7 ms a handshake.
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
		NextProtos:       []string{"http/1.1"},
		ClientAuth:       tls.NoClientCert,
		// strongSwan reads a reply with two TLS reads: records must not start small.
		DynamicRecordSizingDisabled: true,
		GetConfigForClient:          s.forHello,
	}
}

// forHello puts the current certificate into the handshake and notes its hash with the
// connection. A session that was made under another certificate is not resumed: the
// channel binding of a resumed session is that of its first handshake.
func (s *Server) forHello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	current := s.pair.current()
	if raw, ok := hello.Conn.(*conn); ok {
		raw.endPoint = current.endPoint
	}
	config := s.tlsConfig()
	config.GetConfigForClient = nil
	config.Certificates = []tls.Certificate{current.certificate}
	s.auth.set(config, s.now)
	config.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, current.fingerprint[:])
		return s.base.EncryptTicket(state, session)
	}
	config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := s.base.DecryptTicket(ticket, state)
		if err != nil || session == nil {
			return nil, err
		}
		for _, extra := range session.Extra {
			if bytes.Equal(extra, current.fingerprint[:]) {
				return session, nil
			}
		}
		return nil, nil
	}
	return config, nil
}

type connKey struct{}

// withConn puts the connection below TLS into the context of its requests.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(*tls.Conn); ok {
		return context.WithValue(ctx, connKey{}, over.NetConn())
	}
	return ctx
}

// endPointOf returns the hash of the certificate that the request's connection was made with.
func endPointOf(r *http.Request) []byte {
	raw, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		return nil
	}
	return raw.endPoint
}
