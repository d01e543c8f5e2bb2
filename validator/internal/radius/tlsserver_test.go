package radius_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

const radsec = "radsec"

// authority makes certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	pair := a.issue(t, a.certificate)
	a.certificate, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey) //nolint:forcetypeassert // made below
	a.pool.AddCert(a.certificate)
	return a
}

// issue signs a certificate; the authority's own, too.
func (a *authority) issue(t *testing.T, c *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.certificate, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) leaf(t *testing.T, use x509.ExtKeyUsage, address string) tls.Certificate {
	t.Helper()
	return a.issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.ParseIP(address)},
	})
}

// tlsServer is a server of RadSec whose behaviour is a test's.
type tlsServer struct {
	config  *tls.Config
	address string
	handle  func(c *tlsConn, packet []byte)
	client  *tls.Config
	running sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // guarded by mu
	conns    []*tlsConn   // guarded by mu; open ones
	accepted int          // guarded by mu; connections
	packets  [][]byte     // guarded by mu
	faults   []error      // guarded by mu; records that hold something else than one packet
}

type tlsConn struct {
	*tls.Conn
	server *tlsServer
}

// newTLSServer starts a server; handle is called for each packet, one after the other on
// each connection.
func newTLSServer(t *testing.T, handle func(c *tlsConn, packet []byte), change ...func(*tls.Config)) *tlsServer {
	t.Helper()
	ca := newAuthority(t)
	s := &tlsServer{handle: handle, address: "127.0.0.1:0"}
	s.config = &tls.Config{
		MinVersion: tls.VersionTLS12, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{ca.leaf(t, x509.ExtKeyUsageServerAuth, "127.0.0.1")},
	}
	for _, f := range change {
		f(s.config)
	}
	s.client = &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: ca.pool,
		Certificates: []tls.Certificate{ca.leaf(t, x509.ExtKeyUsageClientAuth, "127.0.0.9")},
	}
	s.start(t)
	t.Cleanup(func() {
		s.stop()
		for _, err := range s.faults {
			t.Error(err)
		}
	})
	return s
}

// start listens, under the same address if it is not the first time.
func (s *tlsServer) start(t *testing.T) {
	t.Helper()
	l, err := tls.Listen("tcp", s.address, s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.mu.Lock()
	s.listener = l
	s.mu.Unlock()
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := &tlsConn{conn.(*tls.Conn), s} //nolint:forcetypeassert // what tls.Listen accepts
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.accepted++
			s.mu.Unlock()
			s.running.Go(c.run)
		}
	})
}

// stop ends listener and connections.
func (s *tlsServer) stop() {
	s.mu.Lock()
	_ = s.listener.Close()
	for _, c := range s.conns {
		_ = c.NetConn().Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// run reads records: crypto/tls never returns octets of two by one Read.
func (c *tlsConn) run() {
	defer func() {
		_ = c.NetConn().Close()
		c.server.mu.Lock()
		c.server.conns = slices.DeleteFunc(c.server.conns, func(o *tlsConn) bool { return o == c })
		c.server.mu.Unlock()
	}()
	for {
		buffer := make([]byte, 16<<10)
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		p := buffer[:n]
		s := c.server
		s.mu.Lock()
		if n < 20 || int(binary.BigEndian.Uint16(p[2:])) != n {
			s.faults = append(s.faults, errors.New("a TLS record that is not one packet"))
		}
		s.packets = append(s.packets, p)
		s.mu.Unlock()
		if n >= 20 {
			s.handle(c, p)
		}
	}
}

func (c *tlsConn) send(octets []byte) { _, _ = c.Write(octets) }

// dribble sends each octet in a TLS record of its own.
func (c *tlsConn) dribble(octets []byte) {
	for i := range octets {
		c.send(octets[i : i+1])
	}
}

func (s *tlsServer) target(timeout time.Duration) radius.Target {
	return radius.Target{Timeout: timeout, Retries: 3, Servers: []radius.Server{
		{Name: s.address, Address: s.address, Secret: text("not used"), TLS: s.client},
	}}
}

// counts returns how many connections were made, how many are open, and how many packets of
// a code came.
func (s *tlsServer) counts(code byte) (accepted, open, packets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.packets {
		if p[0] == code {
			packets++
		}
	}
	return s.accepted, len(s.conns), packets
}

// verdict is the code for a request: even numbers with the right password are accepted, and
// so is Status-Server.
func verdict(t *testing.T, packet []byte) byte {
	t.Helper()
	if packet[0] == statusServer {
		return accessAccept
	}
	user, password := datagram{octets: packet}.read(t, radsec)
	if number(user)%2 == 0 && password == "password of "+user {
		return accessAccept
	}
	return accessReject
}

// drain reads what the other side sends until it ends.
func drain(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
