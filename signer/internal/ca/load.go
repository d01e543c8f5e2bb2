package ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
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
	PublishedAs string      `toml:"published_as" doc:"Name of the authority below /crl/ and /ca/, where it is not its name. A new key takes a new one: the addresses in certificates of the former key stay that one's."`
	Announce    config.Path `toml:"announce" doc:"Further certificates for /cacerts, PEM, while the key changes: the next certificate, or the former, and those that tie the two (RFC 7030 section 4.1.3), as 'signer ca next' makes them; empty for none."`
}

// Published returns the name below /crl/ and /ca/.
func (c Config) Published() string { return cmp.Or(c.PublishedAs, c.Name) }

// Former is a [[former_ca]] table: an authority that issues no more, but signs revocation lists
// and OCSP responses for what it issued.
type Former struct {
	PublishedAs string      `toml:"published_as" doc:"Its name below /crl/ and /ca/: what stands in the addresses of its certificates."`
	Certificate config.Path `toml:"certificate" doc:"Its certificate, PEM. Behind its end the table means nothing, and can go."`
	Key         config.Path `toml:"key" doc:"Its private key, as [ca] key."`
	Passphrase  config.Path `toml:"passphrase" doc:"File with the passphrase of the key; empty when the key is not encrypted."`
	Chain       config.Path `toml:"chain" doc:"The certificates above it, as [ca] chain."`

	DistributionPoints []string `toml:"distribution_points" doc:"URLs of its revocation list, as [crl] distribution_points."`
}

// Check reports what is missing.
func (f Former) Check(r *config.Report) {
	if !validName(f.PublishedAs) {
		r.Add("published_as", "has to be 1 to 64 letters, digits, dots and hyphens")
	}
	if f.Certificate == "" {
		r.Add("certificate", "is missing")
	}
	if f.Key == "" {
		r.Add("key", "is missing")
	}
}

// config returns it as an authority of a name.
func (f Former) config(name string) Config {
	return Config{Name: name, Certificate: f.Certificate, Key: f.Key, Passphrase: f.Passphrase, Chain: f.Chain}
}

// LoadFormer opens a former authority, which has to have another key than the current one. It
// is nil behind its end: none of its certificates is valid any more.
func LoadFormer(ctx context.Context, f Former, current *Authority, now time.Time, log *slog.Logger) (*Authority, error) {
	own, err := ReadCertificate(f.config(current.Name))
	if err != nil {
		return nil, err
	}
	if now.After(own.NotAfter) {
		log.LogAttrs(ctx, slog.LevelWarn, "a former authority has ended: its [[former_ca]] table can go",
			slog.String("certificate", string(f.Certificate)), slog.Time("not_after", own.NotAfter))
		return nil, nil
	}
	if bytes.Equal(own.SubjectKeyId, current.Certificate.SubjectKeyId) {
		return nil, fmt.Errorf("certificate %s of a former authority is for the key of the current one", f.Certificate)
	}
	return Load(ctx, f.config(current.Name), now, slog.New(slog.DiscardHandler))
}

// ReadAnnounced reads the file of Config.Announce; nothing where there is none. All have to be
// certificates of authorities, each signed by its own key or by that of one in the file or among
// known: what nobody could verify helps no client.
func ReadAnnounced(c Config, known []*x509.Certificate) ([]*x509.Certificate, error) {
	if c.Announce == "" {
		return nil, nil
	}
	all, err := readPEM(string(c.Announce))
	if err != nil {
		return nil, err
	}
	for i, one := range all {
		if !one.IsCA || !one.BasicConstraintsValid {
			return nil, fmt.Errorf("certificate %d of %s (%s) is none of an authority", i+1, c.Announce, one.Subject)
		}
		if issuerOf(one, append(slices.Clone(known), all...)) < 0 {
			return nil, fmt.Errorf("certificate %d of %s (%s): its issuer %q is neither in the file nor the authority", i+1, c.Announce, one.Subject, one.Issuer)
		}
	}
	return all, nil
}

// Check reports what is missing.
func (c Config) Check(r *config.Report) {
	if !validName(c.Name) {
		r.Add("name", "has to be 1 to 64 letters, digits, dots and hyphens")
	}
	if c.PublishedAs != "" && !validName(c.PublishedAs) {
		r.Add("published_as", "has to be 1 to 64 letters, digits, dots and hyphens")
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
