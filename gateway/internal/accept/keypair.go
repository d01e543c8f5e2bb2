package accept

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/secret"
)

// maxCertificates bounds the certificate file, in octets.
const maxCertificates = 256 << 10

// keyPair is the server's certificate and key. Every handshake asks for the current ones:
// files that have changed are read then, both together. When the new ones cannot be used,
// the old ones stay, one line is logged for each change of the files, and
// estuary_gateway_certificate_reload_errors_total counts it.
type keyPair struct {
	certificate, key string
	log              *slog.Logger
	failed           *metrics.Counter
	now              func() time.Time

	mu     sync.Mutex // guards what follows
	loaded *loadedPair
	seen   stamps // of the files when they were last read
	bad    error  // why they could not be used then
}

// loadedPair is what the files held at one time. It is never changed.
type loadedPair struct {
	certificate tls.Certificate
	fingerprint [sha256.Size]byte // of the leaf
	endPoint    []byte            // tls-server-end-point of the leaf; nil where it has none
}

// stamps tell whether a file may have changed.
type stamps [2]struct {
	modified time.Time
	size     int64
}

func loadKeyPair(certificate, key string, log *slog.Logger, set *metrics.Set, now func() time.Time) (*keyPair, error) {
	p := &keyPair{
		certificate: certificate, key: key, log: log, now: now,
		failed: set.GetOrCreateCounter("estuary_gateway_certificate_reload_errors_total"),
	}
	p.seen = p.stat()
	var err error
	if p.loaded, err = p.read(); err != nil {
		return nil, err
	}
	set.GetOrCreateGauge("estuary_gateway_certificate_not_after_seconds", func() float64 {
		return float64(p.current().certificate.Leaf.NotAfter.Unix())
	})
	return p, nil
}

// current returns what the files hold now, or held when they could last be used.
func (p *keyPair) current() *loadedPair {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.stat()
	// What was bad is read every time: a file that is written in two steps within one tick
	// of the file system's clock must not stay bad for ever.
	if seen == p.seen && p.bad == nil {
		return p.loaded
	}
	fresh, err := p.read()
	again := p.bad != nil && seen == p.seen
	p.seen, p.bad = seen, err
	switch {
	case err == nil:
		p.loaded = fresh
		p.log.Info("server certificate loaded", slog.Time("not_after", fresh.certificate.Leaf.NotAfter))
	case !again:
		p.failed.Inc()
		p.log.Error("server certificate not loaded, the old one stays", slog.Any("err", err),
			slog.Time("not_after", p.loaded.certificate.Leaf.NotAfter))
	}
	return p.loaded
}

// check returns what an operator has to know of the certificate.
func (p *keyPair) check() error {
	leaf := p.current().certificate.Leaf
	p.mu.Lock()
	defer p.mu.Unlock()
	switch now := p.now(); {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the server certificate ended on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the server certificate begins on %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case p.bad != nil:
		return fmt.Errorf("the old server certificate is in use: %w", p.bad)
	}
	return nil
}

// stat returns the stamps of both files; those of a missing file are zero.
func (p *keyPair) stat() stamps {
	var s stamps
	for i, name := range []string{p.certificate, p.key} {
		if info, err := os.Stat(name); err == nil {
			s[i].modified, s[i].size = info.ModTime(), info.Size()
		}
	}
	return s
}

func (p *keyPair) read() (*loadedPair, error) {
	info, err := os.Stat(p.certificate)
	if err != nil {
		return nil, fmt.Errorf("reading server certificate: %w", err)
	}
	if info.Size() > maxCertificates {
		return nil, fmt.Errorf("reading server certificate: %s is larger than %d octets", p.certificate, maxCertificates)
	}
	chain, err := os.ReadFile(p.certificate)
	if err != nil {
		return nil, fmt.Errorf("reading server certificate: %w", err)
	}
	key, err := secret.ReadFile(p.key)
	if err != nil {
		return nil, fmt.Errorf("reading server key: %w", err)
	}
	defer key.Wipe()
	pair, err := tls.X509KeyPair(chain, key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("reading server certificate %s and key %s: %w", p.certificate, p.key, err)
	}
	return &loadedPair{
		certificate: pair,
		fingerprint: sha256.Sum256(pair.Leaf.Raw),
		endPoint:    serverEndPoint(pair.Leaf),
	}, nil
}
