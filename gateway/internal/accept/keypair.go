package accept

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/reload"
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
	now              func() time.Time
	files            *reload.Files[*loadedPair]
}

// loadedPair is what the files held at one time. It is never changed.
type loadedPair struct {
	certificate tls.Certificate
	fingerprint [sha256.Size]byte // of the leaf
	endPoint    []byte            // tls-server-end-point of the leaf; nil where it has none
}

func loadKeyPair(certificate, key string, log *slog.Logger, set *metrics.Set, now func() time.Time) (*keyPair, error) {
	p := &keyPair{certificate: certificate, key: key, now: now}
	failed := set.GetOrCreateCounter("estuary_gateway_certificate_reload_errors_total")
	var err error
	p.files, err = reload.Open(reload.Config[*loadedPair]{
		Paths: []string{certificate, key},
		Read:  p.read,
		Loaded: func(fresh *loadedPair) {
			log.Info("server certificate loaded", slog.Time("not_after", fresh.certificate.Leaf.NotAfter))
		},
		Kept: func(current *loadedPair, err error) {
			failed.Inc()
			log.Error("server certificate not loaded, the old one stays", slog.Any("err", err),
				slog.Time("not_after", current.certificate.Leaf.NotAfter))
		},
	})
	if err != nil {
		return nil, err
	}
	set.GetOrCreateGauge("estuary_gateway_certificate_not_after_seconds", func() float64 {
		return float64(p.current().certificate.Leaf.NotAfter.Unix())
	})
	return p, nil
}

// current returns what the files hold now, or held when they could last be used.
func (p *keyPair) current() *loadedPair { return p.files.Current() }

// check returns what an operator has to know of the certificate.
func (p *keyPair) check() error {
	leaf, bad := p.current().certificate.Leaf, p.files.Bad()
	switch now := p.now(); {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the server certificate ended on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the server certificate begins on %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case bad != nil:
		return fmt.Errorf("the old server certificate is in use: %w", bad)
	}
	return nil
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
