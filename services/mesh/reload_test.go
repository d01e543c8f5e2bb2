package mesh_test

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

func chmod(t *testing.T, path config.Path, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(string(path), mode); err != nil {
		t.Fatal(err)
	}
}

// rig is a server and a client of which a test changes the files.
type rig struct {
	addr           string
	serverSet      *metrics.Set
	serverLog      *logText
	server, client mesh.Config
	clientTLS      *mesh.TLS
}

func newRig(t *testing.T, ca *meshtest.CA) *rig {
	t.Helper()
	r := &rig{
		serverSet: metrics.NewSet(), serverLog: &logText{},
		server: ca.Cert(t, meshtest.Validator), client: ca.Cert(t, meshtest.Admin),
	}
	serverTLS, err := mesh.LoadTLS(r.server, r.serverLog.logger(), r.serverSet)
	if err != nil {
		t.Fatal(err)
	}
	if r.clientTLS, err = mesh.LoadTLS(r.client, slog.New(slog.DiscardHandler), metrics.NewSet()); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, serverTLS, map[string][]string{tokenAdmin: {meshtest.Admin}, health: {meshtest.Admin}}, tokens{list: answer})
	r.addr = run(t, s)
	return r
}

// fresh makes a new connection, and a call on it.
func (r *rig) fresh(t *testing.T) error {
	t.Helper()
	conn, err := mesh.Dial(mesh.DialConfig{TLS: r.clientTLS, Target: r.addr, ServerName: meshtest.Validator, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return call(t, conn)
}

func call(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	_, err := validatorv1.NewTokenAdminClient(conn).ListTokens(t.Context(), &validatorv1.ListTokensRequest{})
	return err
}

// Certificates and authorities of both ends are exchanged for those of a new authority while
// an old connection goes on.
func TestReload(t *testing.T) {
	old, next := meshtest.New(t), meshtest.New(t)
	r := newRig(t, old)
	kept, err := mesh.Dial(mesh.DialConfig{TLS: r.clientTLS, Target: r.addr, ServerName: meshtest.Validator, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	if err := call(t, kept); err != nil {
		t.Fatal(err)
	}

	next.Write(t, r.server, meshtest.Leaf{DNS: []string{meshtest.Validator}})
	if err := r.fresh(t); err == nil {
		t.Fatal("the server still believes the old authority, or the client believes the new one")
	}
	next.Write(t, r.client, meshtest.Leaf{DNS: []string{meshtest.Admin}})
	if err := r.fresh(t); err != nil {
		t.Errorf("both ends have the new authority: %v", err)
	}
	if err := call(t, kept); err != nil {
		t.Errorf("the old connection was lost: %v", err)
	}
	if n := r.serverLog.count("mesh certificate loaded"); n != 1 {
		t.Errorf("%d reloads logged", n)
	}
}

// Both authorities in one file is how one is exchanged for the other without a gap.
func TestReloadBothAuthorities(t *testing.T) {
	old, next := meshtest.New(t), meshtest.New(t)
	r := newRig(t, old)
	both := append(old.PEM(), next.PEM()...)
	steps := []func(){
		func() { write(t, r.server.CA, both) },
		func() { write(t, r.client.CA, both) },
		func() {
			next.Write(t, r.server, meshtest.Leaf{DNS: []string{meshtest.Validator}})
			write(t, r.server.CA, both)
		},
		func() { next.Write(t, r.client, meshtest.Leaf{DNS: []string{meshtest.Admin}}) },
		func() { write(t, r.server.CA, next.PEM()) },
	}
	for i, step := range steps {
		step()
		if err := r.fresh(t); err != nil {
			t.Errorf("after step %d: %v", i, err)
		}
	}
}

func TestBadFileKeepsTheOld(t *testing.T) {
	ca := meshtest.New(t)
	bad := map[string]func(t *testing.T, c mesh.Config){
		"truncated certificate": func(t *testing.T, c mesh.Config) { truncate(t, c.Certificate) },
		"truncated key":         func(t *testing.T, c mesh.Config) { truncate(t, c.Key) },
		"truncated authority":   func(t *testing.T, c mesh.Config) { truncate(t, c.CA) },
		"empty authority":       func(t *testing.T, c mesh.Config) { write(t, c.CA, nil) },
		"key gone":              func(t *testing.T, c mesh.Config) { remove(t, c.Key) },
		"key open":              func(t *testing.T, c mesh.Config) { chmod(t, c.Key, 0o644) },
		"key of another":        func(t *testing.T, c mesh.Config) { write(t, c.Key, read(t, ca.Cert(t, "a.internal").Key)) },
		"two names": func(t *testing.T, c mesh.Config) {
			ca.Write(t, c, meshtest.Leaf{DNS: []string{meshtest.Validator, meshtest.Signer}})
		},
	}
	for name, spoil := range bad {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, ca)
			spoil(t, r.server)
			for range 3 {
				if err := r.fresh(t); err != nil {
					t.Fatalf("the old certificate did not stay: %v", err)
				}
			}
			if n := r.serverLog.count("mesh certificate not loaded"); n != 1 {
				t.Errorf("%d lines about one change", n)
			}
			if got := metric(r.serverSet, "estuary_mesh_reload_errors_total"); got != "1" {
				t.Errorf("%s reload errors", got)
			}
			if n := r.serverLog.count("PRIVATE KEY"); n != 0 {
				t.Error("key in the log")
			}
			chmodIfThere(r.server.Key)
			ca.Write(t, r.server, meshtest.Leaf{DNS: []string{meshtest.Validator}})
			if err := r.fresh(t); err != nil || r.serverLog.count("mesh certificate loaded") != 1 {
				t.Errorf("the good files were not loaded: %v", err)
			}
		})
	}
}

func TestExpiryMetric(t *testing.T) {
	set := metrics.NewSet()
	if _, err := mesh.LoadTLS(meshtest.New(t).Cert(t, meshtest.Signer), slog.New(slog.DiscardHandler), set); err != nil {
		t.Fatal(err)
	}
	if got := metric(set, "estuary_mesh_certificate_not_after_seconds"); len(got) < 10 {
		t.Errorf("end of validity %q", got)
	}
}

func write(t *testing.T, path config.Path, content []byte) {
	t.Helper()
	if err := os.WriteFile(string(path), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path config.Path) []byte {
	t.Helper()
	content, err := os.ReadFile(string(path))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func truncate(t *testing.T, path config.Path) {
	t.Helper()
	content := read(t, path)
	write(t, path, content[:len(content)/2])
}

func remove(t *testing.T, path config.Path) {
	t.Helper()
	if err := os.Remove(string(path)); err != nil {
		t.Fatal(err)
	}
}

// chmodIfThere closes a key that a case left open: writing a file keeps its mode.
func chmodIfThere(path config.Path) { _ = os.Chmod(string(path), 0o600) }
