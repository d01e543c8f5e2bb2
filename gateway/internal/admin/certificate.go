package admin

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/gateway/internal/config"
	"github.com/estuary-pki/estuary/services/reload"
	"github.com/estuary-pki/estuary/services/secret"
)

// files holds what the certificate files of [admin.tls] contain. Every handshake asks for
// it, and files that have changed are read then; when the new ones cannot be used the old
// ones stay, one line is logged for each change, and estuary_admin_reload_errors_total
// counts it.
type files struct {
	paths   config.AdminTLS
	require bool // a client certificate is the only credential
	configs *reload.Files[*tls.Config]
}

// openFiles reads the files for the first time.
func openFiles(c config.AdminAPI, log *slog.Logger, set *metrics.Set) (*files, error) {
	f := &files{paths: c.TLS, require: len(c.BearerToken.Tokens) == 0}
	failed := set.GetOrCreateCounter("estuary_admin_reload_errors_total")
	var err error
	f.configs, err = reload.Open(reload.Config[*tls.Config]{
		Paths: []string{string(f.paths.Certificate), string(f.paths.Key), string(f.paths.ClientCA)},
		Read:  f.read,
		Loaded: func(next *tls.Config) {
			log.Info("admin certificate loaded", slog.Time("not_after", next.Certificates[0].Leaf.NotAfter))
		},
		Kept: func(_ *tls.Config, err error) {
			failed.Inc()
			log.Error("admin certificate not loaded, the old one stays", slog.Any("error", err))
		},
	})
	if err != nil {
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
func (f *files) fresh() *tls.Config { return f.configs.Current() }

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
