package admin

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/gateway/internal/config"
	"github.com/estuary-pki/estuary/services/secret"
)

// files holds what the certificate files of [admin.tls] contain. Every handshake asks for
// it, and files that have changed are read then; when the new ones cannot be used the old
// ones stay, one line is logged for each change, and estuary_admin_reload_errors_total
// counts it.
type files struct {
	paths   config.AdminTLS
	require bool // a client certificate is the only credential
	log     *slog.Logger
	failed  *metrics.Counter

	mu      sync.Mutex
	current *tls.Config    // guarded by mu; never changed once it is here
	seen    [3]fs.FileInfo // guarded by mu; of the files when current was read
	bad     [3]fs.FileInfo // guarded by mu; of the files that were last found unusable
}

// openFiles reads the files for the first time.
func openFiles(c config.AdminAPI, log *slog.Logger, set *metrics.Set) (*files, error) {
	f := &files{
		paths:   c.TLS,
		require: len(c.BearerToken.Tokens) == 0,
		log:     log,
		failed:  set.GetOrCreateCounter("estuary_admin_reload_errors_total"),
	}
	f.seen = f.stat()
	var err error
	if f.current, err = f.read(); err != nil {
		return nil, err
	}
	set.GetOrCreateGauge("estuary_admin_certificate_not_after_seconds", func() float64 {
		return float64(f.fresh().Certificates[0].Leaf.NotAfter.Unix())
	})
	return f, nil
}

// serverConfig returns what a listener needs.
func (f *files) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return f.fresh(), nil
		},
	}
}

// fresh returns the configuration for one handshake.
func (f *files) fresh() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.stat()
	if same(seen, f.seen) {
		return f.current
	}
	next, err := f.read()
	if err != nil {
		if !same(seen, f.bad) {
			f.failed.Inc()
			f.log.Error("admin certificate not loaded, the old one stays", slog.Any("error", err))
			f.bad = seen
		}
		return f.current
	}
	f.log.Info("admin certificate loaded", slog.Time("not_after", next.Certificates[0].Leaf.NotAfter))
	f.current, f.seen = next, seen
	return next
}

// read returns the configuration that the files make.
func (f *files) read() (*tls.Config, error) {
	chain, err := os.ReadFile(string(f.paths.Certificate))
	if err != nil {
		return nil, fmt.Errorf("reading admin certificate: %w", err)
	}
	key, err := secret.ReadFile(string(f.paths.Key))
	if err != nil {
		return nil, fmt.Errorf("reading admin key: %w", err)
	}
	defer key.Wipe()
	pair, err := tls.X509KeyPair(chain, key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("reading admin certificate %s and key %s: %w", f.paths.Certificate, f.paths.Key, err)
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"},
		// A resumed session would keep the client certificate of an authority that has been
		// taken away meanwhile.
		SessionTicketsDisabled: true,
	}
	if f.paths.ClientCA == "" {
		return c, nil
	}
	authorities, err := os.ReadFile(string(f.paths.ClientCA))
	if err != nil {
		return nil, fmt.Errorf("reading admin client authorities: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if f.require {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if !c.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("reading admin client authorities %s: no certificate in PEM", f.paths.ClientCA)
	}
	return c, nil
}

// stat returns what tells whether the files have changed; nil where there is no file, and
// reading it says why.
func (f *files) stat() [3]fs.FileInfo {
	var all [3]fs.FileInfo
	for i, path := range []string{string(f.paths.Certificate), string(f.paths.Key), string(f.paths.ClientCA)} {
		if info, err := os.Stat(path); err == nil {
			all[i] = info
		}
	}
	return all
}

func same(a, b [3]fs.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}
