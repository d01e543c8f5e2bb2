package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// WarnBefore is how long before the end of its certificate an authority is loaded with a
// warning: a new one takes weeks where other people sign it.
const WarnBefore = 90 * 24 * time.Hour

// maxPEM bounds a file of certificates, in octets.
const maxPEM = 256 << 10

// Config is the [ca] table: where the authority lies.
type Config struct {
	Name        string      `toml:"name" doc:"Name of the authority: the audience of the assertions that it accepts, and the name of its revocation list."`
	Certificate config.Path `toml:"certificate" doc:"The authority's certificate, PEM."`
	Key         config.Path `toml:"key" doc:"Its private key, PKCS#8 in PEM, plain or encrypted; P-256, P-384, Ed25519 or RSA of 2048 bits and more. Not readable by everybody."`
	Passphrase  config.Path `toml:"passphrase" doc:"File with the passphrase of the key; empty when the key is not encrypted."`
	Chain       config.Path `toml:"chain" doc:"The certificates above the authority's, PEM, each one's issuer behind it, up to a self-signed root; empty when the authority is a root itself."`
}

// Check reports what is missing.
func (c Config) Check(r *config.Report) {
	if !validName(c.Name) {
		r.Add("name", "has to be 1 to 64 letters, digits, dots and hyphens")
	}
	if c.Certificate == "" {
		r.Add("certificate", "is missing")
	}
	if c.Key == "" {
		r.Add("key", "is missing")
	}
}

// validName holds names to what can stand in the path of a URL.
func validName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64 && s[0] != '.'
}

// ReadCertificate returns the authority's own certificate, also one that has ended: for who
// checks what it issued.
func ReadCertificate(c Config) (*x509.Certificate, error) {
	own, err := readPEM(string(c.Certificate))
	if err != nil {
		return nil, err
	}
	if len(own) != 1 {
		return nil, fmt.Errorf("certificate %s: %d certificates in it: exactly one is wanted, the others belong into chain", c.Certificate, len(own))
	}
	return own[0], nil
}

// Load opens the authority that c describes, checks everything about it at the time now, and
// warns in the log when its certificate ends within WarnBefore. Errors name the file.
func Load(ctx context.Context, c Config, now time.Time, log *slog.Logger) (*Authority, error) {
	signer, err := openKey(c)
	if err != nil {
		return nil, err
	}
	own, err := ReadCertificate(c)
	if err != nil {
		return nil, err
	}
	var above []*x509.Certificate
	if c.Chain != "" {
		if above, err = readPEM(string(c.Chain)); err != nil {
			return nil, err
		}
	}
	a, err := New(c.Name, append([]*x509.Certificate{own}, above...), signer, now)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", c.Certificate, err)
	}
	if left := a.Certificate.NotAfter.Sub(now); left < WarnBefore {
		log.LogAttrs(ctx, slog.LevelWarn, "the authority's certificate ends soon",
			slog.String("certificate", string(c.Certificate)), slog.Time("not_after", a.Certificate.NotAfter), slog.Duration("left", left))
	}
	return a, nil
}

func openKey(c Config) (*key.File, error) {
	passphrase, err := readPassphrase(c)
	if err != nil {
		return nil, err
	}
	defer passphrase.Wipe()
	return key.OpenFile(string(c.Key), passphrase)
}

func readPassphrase(c Config) (secret.Bytes, error) {
	if c.Passphrase == "" {
		return secret.Bytes{}, nil
	}
	passphrase, err := secret.ReadFile(string(c.Passphrase))
	if err == nil && passphrase.Len() == 0 {
		err = fmt.Errorf("passphrase %s is empty", c.Passphrase)
	}
	return passphrase, err
}

// readPEM reads a file of at least one certificate and nothing else.
func readPEM(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening certificate: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return nil, fmt.Errorf("reading certificate %s: %w", path, err)
	}
	certificates, err := parsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	return certificates, nil
}

func parsePEM(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && len(certificates) > 0 && len(bytes.TrimSpace(text)) == 0:
			return certificates, nil
		case block == nil:
			return nil, errors.New("not a PEM file of certificates")
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("PEM type %.40q, not CERTIFICATE", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading certificate %d of the file: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, c)
		text = rest
	}
}
