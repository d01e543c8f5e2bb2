package mesh

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/reload"
	"github.com/estuary-pki/estuary/services/secret"
)

// TLS holds the certificate, the key and the authorities of this process. Every handshake
// asks for the current ones: files that have changed are read then, all three together. When
// the new ones cannot be used, the old ones stay, one line is logged for each change of the
// files, and estuary_mesh_reload_errors_total counts it.
type TLS struct {
	files *reload.Files[*material]
}

// material is what the three files hold at one time. It is never changed.
type material struct {
	certificate tls.Certificate
	authorities *x509.CertPool
	name        string
}

// LoadTLS reads the files of c and checks that they belong together: the key is that of the
// certificate and closed to other users, the certificate has exactly one name, is valid now
// and comes from one of the authorities. The error is one line that names the file.
func LoadTLS(c Config, log *slog.Logger, set *metrics.Set) (*TLS, error) {
	if log == nil || set == nil {
		return nil, errors.New("loading mesh certificate: log or metrics missing")
	}
	failed := set.GetOrCreateCounter("estuary_mesh_reload_errors_total")
	files, err := reload.Open(reload.Config[*material]{
		Paths: []string{string(c.Certificate), string(c.Key), string(c.CA)},
		Read:  c.read,
		Loaded: func(fresh *material) {
			log.Info("mesh certificate loaded", slog.String("name", fresh.name),
				slog.Time("not_after", fresh.certificate.Leaf.NotAfter))
		},
		Kept: func(current *material, err error) {
			failed.Inc()
			log.Error("mesh certificate not loaded, the old one stays", slog.String("error", err.Error()),
				slog.Time("not_after", current.certificate.Leaf.NotAfter))
		},
	})
	if err != nil {
		return nil, err
	}
	t := &TLS{files: files}
	set.GetOrCreateGauge("estuary_mesh_certificate_not_after_seconds", func() float64 {
		return float64(t.material().certificate.Leaf.NotAfter.Unix())
	})
	return t, nil
}

// Name returns the mesh name of this process, from its certificate.
func (t *TLS) Name() string { return t.material().name }

// material returns what the files hold now, or held when they could last be used.
func (t *TLS) material() *material { return t.files.Current() }

// read returns what the files hold.
func (c Config) read() (*material, error) {
	chain, err := os.ReadFile(string(c.Certificate))
	if err != nil {
		return nil, fmt.Errorf("reading mesh certificate: %w", err)
	}
	authorities, err := os.ReadFile(string(c.CA))
	if err != nil {
		return nil, fmt.Errorf("reading mesh authorities: %w", err)
	}
	key, err := secret.ReadFile(string(c.Key))
	if err != nil {
		return nil, fmt.Errorf("reading mesh key: %w", err)
	}
	defer key.Wipe()
	m := &material{authorities: x509.NewCertPool()}
	if m.certificate, err = tls.X509KeyPair(chain, key.Reveal()); err != nil {
		return nil, fmt.Errorf("reading mesh certificate %s and key %s: %w", c.Certificate, c.Key, err)
	}
	if !m.authorities.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("reading mesh authorities %s: no certificate in PEM", c.CA)
	}
	if m.name, err = peerName(m.certificate.Leaf); err != nil {
		return nil, fmt.Errorf("reading mesh certificate %s: %w", c.Certificate, err)
	}
	if err := m.verify(); err != nil {
		return nil, fmt.Errorf("verifying mesh certificate %s against %s: %w", c.Certificate, c.CA, err)
	}
	return m, nil
}

// verify tells whether a peer with the same authorities would accept the certificate, so
// that files of two different meshes are found at start and not at the first call.
func (m *material) verify() error {
	between := x509.NewCertPool()
	for _, der := range m.certificate.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(c)
	}
	_, err := m.certificate.Leaf.Verify(x509.VerifyOptions{
		Roots: m.authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}
