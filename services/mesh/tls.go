package mesh

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sys/unix"

	"github.com/estuary-pki/estuary/services/secret"
)

// TLS holds the certificate, the key and the authorities of this process. Every handshake
// asks for the current ones: files that have changed are read then, all three together. When
// the new ones cannot be used, the old ones stay, one line is logged for each change of the
// files, and estuary_mesh_reload_errors_total counts it.
type TLS struct {
	config Config
	log    *slog.Logger
	failed *metrics.Counter

	mu      sync.Mutex
	current *material // guarded by mu
	seen    stamps    // guarded by mu; of the files when they were last read
	bad     bool      // guarded by mu; what was read last could not be used
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
	t := &TLS{
		config: c, log: log,
		failed: set.GetOrCreateCounter("estuary_mesh_reload_errors_total"),
		seen:   c.stamps(),
	}
	var err error
	if t.current, err = c.read(); err != nil {
		return nil, err
	}
	set.GetOrCreateGauge("estuary_mesh_certificate_not_after_seconds", func() float64 {
		return float64(t.material().certificate.Leaf.NotAfter.Unix())
	})
	return t, nil
}

// Name returns the mesh name of this process, from its certificate.
func (t *TLS) Name() string { return t.material().name }

// material returns what the files hold now, or held when they could last be used.
func (t *TLS) material() *material {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.config.stamps()
	// What was bad is read every time: a file that is written in two steps within one tick
	// of the file system's clock must not stay bad for ever.
	if seen == t.seen && !t.bad {
		return t.current
	}
	fresh, err := t.config.read()
	again := t.bad && seen == t.seen
	t.seen, t.bad = seen, err != nil
	switch {
	case err == nil:
		t.current = fresh
		t.log.Info("mesh certificate loaded", slog.String("name", fresh.name),
			slog.Time("not_after", fresh.certificate.Leaf.NotAfter))
	case !again:
		t.failed.Inc()
		t.log.Error("mesh certificate not loaded, the old one stays", slog.String("error", err.Error()),
			slog.Time("not_after", t.current.certificate.Leaf.NotAfter))
	}
	return t.current
}

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

// stamps tell whether files have changed since they were read. A file that is not there has
// the zero value.
type stamps [3]struct {
	device, inode uint64
	size          int64
	modified      time.Duration
	changed       time.Duration
}

func (c Config) stamps() stamps {
	var all stamps
	for i, path := range []string{string(c.Certificate), string(c.Key), string(c.CA)} {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			continue // reading it says why
		}
		s := &all[i]
		s.device, s.inode, s.size = st.Dev, st.Ino, st.Size
		s.modified, s.changed = time.Duration(st.Mtim.Nano()), time.Duration(st.Ctim.Nano())
	}
	return all
}
