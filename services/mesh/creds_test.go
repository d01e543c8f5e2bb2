package mesh_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

// A client that Go's crypto/tls makes, without our own checks on its side.
func TestServerRefusesHandshake(t *testing.T) {
	ca, other := meshtest.New(t), meshtest.New(t)
	set := metrics.NewSet()
	log := &logText{}
	s := serve(t, ca, answer, func(c *meshtest.ServeConfig) { c.Metrics, c.Log = set, log.logger() })
	hour := time.Hour
	cases := []struct {
		name string
		from *meshtest.CA
		leaf *meshtest.Leaf
		max  uint16
		alpn []string
		ok   bool
	}{
		{name: "good", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}}, ok: true},
		{name: "no certificate"},
		{name: "other authority", from: other, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}}},
		{name: "expired", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}, NotBefore: time.Now().Add(-2 * hour), NotAfter: time.Now().Add(-hour)}},
		{name: "not yet valid", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}, NotBefore: time.Now().Add(hour), NotAfter: time.Now().Add(2 * hour)}},
		{name: "two names", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Gateway, meshtest.Admin}}},
		{name: "no name", from: ca, leaf: &meshtest.Leaf{}},
		{name: "a URI too", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}, URIs: []string{"spiffe://x/y"}}},
		{name: "wildcard", from: ca, leaf: &meshtest.Leaf{DNS: []string{"*.estuary.internal"}}},
		{name: "server certificate", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}},
		{name: "TLS 1.2", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}}, max: tls.VersionTLS12},
		{name: "no ALPN", from: ca, leaf: &meshtest.Leaf{DNS: []string{meshtest.Admin}}, alpn: []string{}},
	}
	refusals := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(ca.PEM())
			config := &tls.Config{RootCAs: roots, ServerName: meshtest.Validator, MaxVersion: c.max, NextProtos: []string{"h2"}}
			if c.alpn != nil {
				config.NextProtos = c.alpn
			}
			if c.leaf != nil {
				files := c.from.Issue(t, *c.leaf)
				own, err := tls.LoadX509KeyPair(string(files.Certificate), string(files.Key))
				if err != nil {
					t.Fatal(err)
				}
				config.Certificates = []tls.Certificate{own}
			}
			conn := tls.Client(dialTCP(t, s.Addr), config)
			err := conn.HandshakeContext(t.Context())
			if err == nil {
				// In TLS 1.3 the client is done before the server has seen its certificate.
				_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				_, err = conn.Read(make([]byte, 1))
			}
			if c.ok != (err == nil) {
				t.Errorf("error %v", err)
			}
			if c.ok && conn.ConnectionState().DidResume {
				t.Error("resumed")
			}
			if !c.ok {
				refusals++
				eventually(t, "log", func() bool { return log.count("mesh handshake refused") == refusals })
			}
		})
	}
	if got := metric(set, "estuary_mesh_handshakes_refused_total"); got != "11" {
		t.Errorf("%s refusals counted", got)
	}
}

func TestNoSessionTickets(t *testing.T) {
	ca := meshtest.New(t)
	s := serve(t, ca, answer)
	files := ca.Cert(t, meshtest.Admin)
	own, err := tls.LoadX509KeyPair(string(files.Certificate), string(files.Key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 {
		conn := tls.Client(dialTCP(t, s.Addr), &tls.Config{
			RootCAs: roots, ServerName: meshtest.Validator, NextProtos: []string{"h2"},
			Certificates: []tls.Certificate{own}, ClientSessionCache: cache,
		})
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if conn.ConnectionState().DidResume {
			t.Error("the second connection did not prove its name")
		}
	}
}

// A server that is not the one expected must not see a single call.
func TestClientRefusesServer(t *testing.T) {
	ca, other := meshtest.New(t), meshtest.New(t)
	cases := []struct {
		name   string
		client *mesh.TLS
		server string
	}{
		{"other name", ca.TLS(t, meshtest.Admin), meshtest.Signer},
		{"other authority", other.TLS(t, meshtest.Admin), meshtest.Validator},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, ca, answer)
			conn, err := mesh.Dial(mesh.DialConfig{TLS: c.client, Target: s.Addr, ServerName: c.server, Timeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
			if !errors.Is(err, fault.Unavailable) {
				t.Errorf("calling: %v", err)
			}
		})
	}
}

func TestLoadTLS(t *testing.T) {
	ca := meshtest.New(t)
	load := func(c mesh.Config) error {
		_, err := mesh.LoadTLS(c, slog.New(slog.DiscardHandler), metrics.NewSet())
		return err
	}
	good := ca.Cert(t, meshtest.Gateway)
	if err := load(good); err != nil {
		t.Fatal(err)
	}
	open, noFile, wrongKey, wrongCA := ca.Cert(t, meshtest.Gateway), good, good, good
	chmod(t, open.Key, 0o644)
	noFile.CA = "/nonexistent/ca.crt"
	wrongKey.Key = ca.Cert(t, meshtest.Gateway).Key
	wrongCA.CA = meshtest.New(t).Cert(t, meshtest.Gateway).CA
	noPEM := good
	noPEM.CA = good.Key
	cases := map[string]struct {
		c    mesh.Config
		says string
	}{
		"open key":      {open, string(open.Key) + " is open to everybody"},
		"no file":       {noFile, "/nonexistent/ca.crt"},
		"key of other":  {wrongKey, "private key does not match"},
		"CA of other":   {wrongCA, "unknown authority"},
		"no PEM":        {noPEM, "no certificate in PEM"},
		"two names":     {ca.Issue(t, meshtest.Leaf{DNS: []string{"a.internal", "b.internal"}}), "exactly one DNS name"},
		"expired":       {ca.Issue(t, meshtest.Leaf{DNS: []string{"a.internal"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}), "expired"},
		"nothing given": {mesh.Config{}, "reading mesh certificate"},
	}
	for name, c := range cases {
		err := load(c.c)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := mesh.LoadTLS(good, nil, metrics.NewSet()); err == nil {
		t.Error("loaded without a log")
	}
}

func TestConfigNeedsEveryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.toml")
	if err := os.WriteFile(path, []byte("[mesh]\nkey = \"mesh.key\""), 0o600); err != nil {
		t.Fatal(err)
	}
	var c struct {
		Mesh mesh.Config `toml:"mesh" doc:"x"`
	}
	err := config.Load(path, &c)
	for _, says := range []string{"mesh.certificate: names no file", "mesh.ca: names no file"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	if strings.Contains(fmt.Sprint(err), "mesh.key") || string(c.Mesh.Key) != filepath.Join(filepath.Dir(path), "mesh.key") {
		t.Errorf("key %s: %v", c.Mesh.Key, err)
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"gateway.estuary.internal", "a", "a-1.b"} {
		if err := mesh.CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	bad := []string{
		"", ".", "a.", ".a", "a..b", "A.b", "*.b", "-a.b", "a-.b", "a_b", "a b", "ä.b", "a\n", "10.0.0.1:80",
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
	}
	for _, name := range bad {
		if mesh.CheckName(name) == nil {
			t.Errorf("%q accepted", name)
		}
	}
	if err := mesh.CheckName(strings.Repeat("a.", 126) + "a"); err != nil {
		t.Errorf("253 octets: %v", err)
	}
}

func TestDialRefuses(t *testing.T) {
	own := meshtest.New(t).TLS(t, meshtest.Gateway)
	good := mesh.DialConfig{TLS: own, Target: "127.0.0.1:1", ServerName: meshtest.Signer, Timeout: time.Second}
	changes := map[string]func(*mesh.DialConfig){
		"no certificate": func(c *mesh.DialConfig) { c.TLS = nil },
		"no port":        func(c *mesh.DialConfig) { c.Target = "signer.estuary.internal" },
		"no host":        func(c *mesh.DialConfig) { c.Target = ":9443" },
		"no name":        func(c *mesh.DialConfig) { c.ServerName = "" },
		"wildcard":       func(c *mesh.DialConfig) { c.ServerName = "*.estuary.internal" },
		"no time-out":    func(c *mesh.DialConfig) { c.Timeout = 0 },
	}
	for name, change := range changes {
		c := good
		change(&c)
		if conn, err := mesh.Dial(c); err == nil {
			_ = conn.Close()
			t.Errorf("%s: dialled", name)
		}
	}
	conn, err := mesh.Dial(good)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := mesh.Probe(ctx, conn); !errors.Is(err, fault.Unavailable) {
		t.Errorf("probing a closed port: %v", err)
	}
}
