package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc/credentials"
)

// handshaker makes both ends of a mesh connection. It exists because gRPC's own credentials
// keep the client's authorities for ever, and take a peer for what it is called in any of
// its names.
type handshaker struct {
	tls        *TLS
	serverName string // whom a client expects; empty on a server

	log     *slog.Logger     // of a server
	refused *metrics.Counter // of a server
}

// link is what is known of one connection; handlers' contexts carry it as the AuthInfo.
type link struct {
	credentials.TLSInfo
	name   string // mesh name of the peer
	conn   net.Conn
	resets window
}

// ServerHandshake implements credentials.TransportCredentials. gRPC has set a deadline of
// maxHello on raw.
func (h *handshaker) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	m := h.tls.material()
	c := m.tlsConfig()
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = m.authorities
	c.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := peerName(s.PeerCertificates[0])
		return err
	}
	conn := tls.Server(raw, c)
	l, err := finish(context.Background(), conn)
	if err != nil {
		h.refused.Inc()
		if !errors.Is(err, io.EOF) { // a probe that only opens the port is no news
			h.log.Warn("mesh handshake refused", slog.String("address", raw.RemoteAddr().String()),
				slog.String("error", err.Error()))
		}
		return nil, nil, err
	}
	return conn, l, nil
}

// ClientHandshake implements credentials.TransportCredentials. The authority, which comes
// from name resolution, is not looked at: the configuration says whom to expect.
func (h *handshaker) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	m := h.tls.material()
	c := m.tlsConfig()
	c.ServerName = h.serverName
	c.RootCAs = m.authorities
	c.VerifyConnection = func(s tls.ConnectionState) error {
		name, err := peerName(s.PeerCertificates[0])
		if err == nil && name != h.serverName {
			err = fmt.Errorf("peer is %s, not %s", name, h.serverName)
		}
		return err
	}
	conn := tls.Client(raw, c)
	l, err := finish(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	return conn, l, nil
}

// Info implements credentials.TransportCredentials.
func (h *handshaker) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials. A handshaker is never changed.
func (h *handshaker) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (h *handshaker) OverrideServerName(string) error {
	return errors.New("the name of a mesh peer cannot be overridden")
}

// tlsConfig is what both ends have in common. It is made for one handshake: no tickets, so
// that every connection proves its name against the authorities of that moment.
func (m *material) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		Certificates:           []tls.Certificate{m.certificate},
		NextProtos:             []string{"h2"},
	}
}

// finish does the handshake and says who is at the other end. It closes conn on error.
func finish(ctx context.Context, conn *tls.Conn) (*link, error) {
	err := conn.HandshakeContext(ctx)
	state := conn.ConnectionState()
	if err == nil && state.NegotiatedProtocol != "h2" {
		err = errors.New("peer does not offer HTTP/2 by ALPN")
	}
	if err != nil {
		_ = conn.Close() // the handshake's error is the one to report
		return nil, err
	}
	name, err := peerName(state.PeerCertificates[0])
	if err != nil {
		_ = conn.Close() // as above
		return nil, err
	}
	return &link{
		TLSInfo: credentials.TLSInfo{
			State:          state,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		},
		name: name, conn: conn,
	}, nil
}

// peerName returns the name that a mesh certificate stands for: its subjectAltName has to be
// exactly one DNS name, so that no certificate can act as two peers.
func peerName(leaf *x509.Certificate) (string, error) {
	others := len(leaf.IPAddresses) + len(leaf.EmailAddresses) + len(leaf.URIs)
	if len(leaf.DNSNames) != 1 || others != 0 {
		return "", fmt.Errorf("certificate has %d DNS names and %d other names: a mesh certificate has exactly one DNS name",
			len(leaf.DNSNames), others)
	}
	return leaf.DNSNames[0], checkName(leaf.DNSNames[0])
}

// checkName tells whether name is a host name in lower case (RFC 1123 section 2.1); a
// wildcard is not.
func checkName(name string) error {
	ok := len(name) > 0 && len(name) <= 253
	for label := range strings.SplitSeq(name, ".") {
		rest := strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-")
		ok = ok && rest == "" && label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
	}
	if !ok {
		return fmt.Errorf("%q is not a mesh name: a DNS name in lower case without wildcard", name)
	}
	return nil
}
