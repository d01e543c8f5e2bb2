// Package certpath turns the certificates that a client presented in TLS into one that counts,
// or into the reason why it does not.
//
// The gateway asks it where connections need a certificate, the validator for every one that is
// to prove an identity. What a client can make it do is bounded: the number and size of the
// certificates and of their RSA keys.
package certpath

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/reload"
)

const (
	// MaxCertificates is how many certificates a client may present.
	MaxCertificates = 5
	// MaxOctets bounds them together.
	MaxOctets = 64 << 10
	// maxRSA is the largest RSA modulus, in bits, that is worth a verification.
	maxRSA = 4096
	// maxFile bounds a file of trust anchors, in octets.
	maxFile = 1 << 20
)

// The reasons why presented certificates do not count, fit for an audit.
var (
	ErrNone       = errors.New("no certificate was presented")
	ErrTooMany    = errors.New("more than 5 certificates, or 64 KiB of them, were presented")
	ErrUnreadable = errors.New("a presented certificate cannot be read")
	ErrKey        = errors.New("a presented certificate has an RSA key of more than 4096 bits, or no key of a known kind")
	ErrExpired    = errors.New("the presented certificate has expired")
	ErrEarly      = errors.New("the presented certificate is not valid yet")
	ErrUsage      = errors.New("the presented certificate is not for client authentication (extendedKeyUsage, RFC 5280 section 4.2.1.12)")
	ErrAuthority  = errors.New("the presented certificate is one of an authority")
	ErrUntrusted  = errors.New("the presented certificate was not issued by a trusted authority")
)

// Anchors are trusted certificates.
type Anchors struct {
	pool *x509.CertPool
	all  []*x509.Certificate
}

// NewAnchors returns Anchors.
func NewAnchors(all ...*x509.Certificate) *Anchors {
	a := &Anchors{pool: x509.NewCertPool(), all: all}
	for _, c := range all {
		a.pool.AddCert(c)
	}
	return a
}

// All returns them. They must not be changed.
func (a *Anchors) All() []*x509.Certificate { return a.all }

// maxHints bounds the names of authorities that a client is sent, in octets: a message of TLS has
// room for no more than 65,535 (RFC 8446 section 4.2.4).
const maxHints = 16 << 10

// Hints returns them for the names in a request for a certificate, which must not be changed, or
// nil where there are too many: clients then choose without.
func (a *Anchors) Hints() *x509.CertPool {
	size := 0
	for _, c := range a.all {
		size += len(c.RawSubject)
	}
	if size > maxHints {
		return nil
	}
	return a.pool
}

// ReadAnchors reads a PEM file with nothing but certificates of authorities, one at least.
func ReadAnchors(path string) (*Anchors, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading trust anchors: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("reading trust anchors: %s is larger than %d octets", path, maxFile)
	}
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading trust anchors: %w", err)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("reading trust anchors: %s holds a %s", path, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading trust anchors: certificate %d of %s: %w", len(all)+1, path, err)
		}
		if !c.IsCA || !c.BasicConstraintsValid {
			return nil, fmt.Errorf("reading trust anchors: certificate %d of %s (%s) is none of an authority (RFC 5280 section 4.2.1.9)", len(all)+1, path, c.Subject)
		}
		all = append(all, c)
	}
	if len(bytes.TrimSpace(rest)) > 0 || len(all) == 0 {
		return nil, fmt.Errorf("reading trust anchors: %s does not hold certificates in PEM alone", path)
	}
	return NewAnchors(all...), nil
}

// Watch reads a file of trust anchors, and again whenever it changes. A new one that cannot be
// used leaves the old in use; log gets a line for it, and failed counts it.
func Watch(path string, log *slog.Logger, failed *metrics.Counter) (*reload.Files[*Anchors], error) {
	return reload.Open(reload.Config[*Anchors]{
		Paths: []string{path},
		Read:  func() (*Anchors, error) { return ReadAnchors(path) },
		Loaded: func(a *Anchors) {
			log.Info("trust anchors loaded", slog.String("file", path), slog.Int("certificates", len(a.All())))
		},
		Kept: func(_ *Anchors, err error) {
			failed.Inc()
			log.Error("trust anchors not loaded, the old ones stay", slog.Any("err", err))
		},
	})
}

// Path is a certificate that counts.
type Path struct {
	// Leaf is the client's.
	Leaf *x509.Certificate
	// Anchor is the trusted one that its path ends in.
	Anchor *x509.Certificate
}

// AnchorSHA256 returns the hash over the DER of the anchor.
func (p Path) AnchorSHA256() [sha256.Size]byte { return sha256.Sum256(p.Anchor.Raw) }

// Parse reads presented certificates, leaf first, within the limits. Errors are those of this
// package.
func Parse(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 {
		return nil, ErrNone
	}
	size := 0
	for _, der := range ders {
		size += len(der)
	}
	if len(ders) > MaxCertificates || size > MaxOctets {
		return nil, ErrTooMany
	}
	var all []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, ErrUnreadable
		}
		all = append(all, c)
	}
	return all, nil
}

// Verify finds the path of presented certificates, leaf first, each certified by the next (RFC 5246
// section 7.4.2), to one of the anchors, at a time; one that ended less than grace ago counts as
// if it had not. Errors are those of this package.
//
// Names lead to an anchor, its key comes first, and the path is verified from there down: whoever
// has nothing that a trusted authority signed makes nobody use a key of their own choice.
func Verify(presented []*x509.Certificate, anchors *Anchors, at time.Time, grace time.Duration) (Path, error) {
	if err := within(presented); err != nil {
		return Path{}, err
	}
	leaf := presented[0]
	if leaf.IsCA {
		return Path{}, ErrAuthority
	}
	between, anchor := climb(presented, anchors)
	if anchor == nil {
		return Path{}, ErrUntrusted
	}
	if at.After(leaf.NotAfter) && !at.After(leaf.NotAfter.Add(grace)) {
		at = leaf.NotAfter
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	options.Roots.AddCert(anchor)
	for _, c := range between {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return Path{}, reason(leaf, options)
	}
	return Path{Leaf: leaf, Anchor: anchor}, nil
}

// within holds presented certificates to the limits.
func within(presented []*x509.Certificate) error {
	size := 0
	for _, c := range presented {
		size += len(c.Raw)
	}
	switch {
	case len(presented) == 0:
		return ErrNone
	case len(presented) > MaxCertificates, size > MaxOctets:
		return ErrTooMany
	}
	for _, c := range presented {
		if key, ok := c.PublicKey.(*rsa.PublicKey); c.PublicKey == nil || ok && key.N.BitLen() > maxRSA {
			return ErrKey
		}
	}
	return nil
}

// climb returns the anchor that the certificates lead to, and those between the first and it;
// no anchor where they lead to none.
func climb(presented []*x509.Certificate, anchors *Anchors) (between []*x509.Certificate, anchor *x509.Certificate) {
	for i, c := range presented {
		if i > 0 && !names(presented[i-1], c) {
			return nil, nil
		}
		if anchor = anchors.issuer(c); anchor == nil {
			continue
		}
		for j := i; j > 0; j-- {
			if presented[j-1].CheckSignatureFrom(presented[j]) != nil {
				return nil, nil
			}
		}
		return presented[1 : i+1], anchor
	}
	return nil, nil
}

// issuer returns the anchor that signed c, or nil.
func (a *Anchors) issuer(c *x509.Certificate) *x509.Certificate {
	for _, anchor := range a.all {
		if names(c, anchor) && c.CheckSignatureFrom(anchor) == nil {
			return anchor
		}
	}
	return nil
}

// names tells whether c says that issuer issued it.
func names(c, issuer *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, issuer.RawSubject) &&
		(len(c.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId))
}

// reason says why a certificate of a trusted authority does not verify: its time and its purpose
// are named where nothing else is wrong.
func reason(leaf *x509.Certificate, options x509.VerifyOptions) error {
	when := options.CurrentTime
	if when.After(leaf.NotAfter) {
		options.CurrentTime = leaf.NotAfter
	}
	if when.Before(leaf.NotBefore) {
		options.CurrentTime = leaf.NotBefore
	}
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	_, err := leaf.Verify(options)
	switch {
	case err != nil:
		return ErrUntrusted
	case when.After(leaf.NotAfter):
		return ErrExpired
	case when.Before(leaf.NotBefore):
		return ErrEarly
	}
	return ErrUsage
}
