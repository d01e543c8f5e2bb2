package directory

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/services/reload"
	"github.com/estuary-pki/estuary/services/secret"
)

// The keys of [directory] that an error can name.
const (
	keyServers     = "servers"
	keyCA          = "ca"
	keyCertificate = "certificate"
	keyBindDN      = "bind_dn"
	keyPassword    = "password_file"
	keyBaseDN      = "base_dn"
	keyRealm       = "realm"
	keyAttribute   = "principal_attribute"
	keyControl     = "otp_required_control"
	keyEvidence    = "otp_evidence"
	keyTimeout     = "timeout"
	keyPool        = "pool"
)

// SettingError tells that a key of [directory] is wrong.
type SettingError struct {
	// Key is its name.
	Key string
	// Server is the URL of the server that shows it; empty when the configuration does alone.
	Server string
	// Err says what is wrong and what to do.
	Err error
}

// Error returns key, server and cause.
func (e *SettingError) Error() string {
	if e.Server == "" {
		return fmt.Sprintf("[directory] %s: %v", e.Key, e.Err)
	}
	return fmt.Sprintf("[directory] %s: %s: %v", e.Key, e.Server, e.Err)
}

// Unwrap returns the cause.
func (e *SettingError) Unwrap() error { return e.Err }

func setting(key, format string, args ...any) error {
	return &SettingError{Key: key, Err: fmt.Errorf(format, args...)}
}

// check returns the servers, or what is wrong with the configuration.
func (c Config) check() ([]address, error) {
	if len(c.Servers) == 0 {
		return nil, setting(keyServers, "there is none")
	}
	var addresses []address
	for i, text := range c.Servers {
		a, err := parseAddress(text)
		if err != nil {
			return nil, setting(keyServers, "%.120q: %w", text, err)
		}
		if slices.Contains(c.Servers[:i], text) {
			return nil, setting(keyServers, "%.120q stands there twice", text)
		}
		addresses = append(addresses, a)
	}
	switch {
	case c.Timeout <= 0 || c.Timeout > time.Minute:
		return nil, setting(keyTimeout, "%v is not more than nothing and at most 1m", c.Timeout)
	case c.Pool < 1 || c.Pool > 64:
		return nil, setting(keyPool, "%d is not 1 to 64", c.Pool)
	case c.Realm == "" || strings.ContainsAny(c.Realm, "@/\\ \x00"):
		return nil, setting(keyRealm, "%.80q is not the name of a realm", c.Realm)
	case !attributeName(c.PrincipalAttribute):
		return nil, setting(keyAttribute, "%.80q is not the name of an attribute", c.PrincipalAttribute)
	}
	if c.Evidence != "" {
		if _, err := ldap.CompileFilter(c.Evidence); err != nil {
			return nil, setting(keyEvidence, "it is not a filter (RFC 4515): %w", err)
		}
	}
	if c.BaseDN != "" {
		if _, err := parseDN(c.BaseDN); err != nil {
			return nil, setting(keyBaseDN, "%w", err)
		}
	}
	return addresses, c.checkAccount(addresses)
}

// checkAccount tells whether there is a way to bind as the service account everywhere.
func (c Config) checkAccount(addresses []address) error {
	if (c.Certificate == "") != (c.Key == "") {
		return setting(keyCertificate, "certificate and key are only of use together")
	}
	if c.BindDN == "" {
		if c.Password.Len() != 0 {
			return setting(keyBindDN, "there is a password and nobody whose it is")
		}
		for _, a := range addresses {
			if a.transport != local && c.Certificate == "" {
				return setting(keyBindDN, "%s needs a service account, or a certificate for SASL EXTERNAL", a.url)
			}
		}
		return nil
	}
	if _, err := parseDN(c.BindDN); err != nil {
		return setting(keyBindDN, "%w", err)
	}
	if password(c.Password) != nil {
		return setting(keyPassword, "%w", password(c.Password))
	}
	return nil
}

// maxPassword is far above every password that a directory holds.
const maxPassword = 4096

// password tells why no bind may be tried with it. An empty one would be an anonymous bind,
// which succeeds (RFC 4513 section 5.1.2); some servers end a password at NUL.
func password(p secret.Bytes) error {
	switch {
	case p.Len() == 0:
		return errors.New("the password is empty")
	case p.Len() > maxPassword:
		return fmt.Errorf("the password has more than %d octets", maxPassword)
	case slices.Contains(p.Reveal(), 0):
		return errors.New("the password contains NUL")
	}
	return nil
}

// attributeName tells whether text is an attribute type, without options (RFC 4512 section
// 2.5): neither "*" nor "+" nor a list.
func attributeName(text string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return text != "" && len(text) <= 255 && strings.Trim(text, letters+"0123456789-.") == "" &&
		!strings.HasPrefix(text, "-") && !strings.HasPrefix(text, ".")
}

// openTLS reads the files for TLS; later changes are seen by the next connection.
func (c Config) openTLS(addresses []address) (*reload.Files[*tls.Config], error) {
	if !slices.ContainsFunc(addresses, func(a address) bool { return a.transport != local }) {
		return nil, nil // no server needs any
	}
	failed := c.Metrics.GetOrCreateCounter("estuary_validator_directory_reload_errors_total")
	return reload.Open(reload.Config[*tls.Config]{
		Paths:  []string{c.CA, c.Certificate, c.Key},
		Read:   c.readTLS,
		Loaded: func(*tls.Config) { c.Log.Info("certificates for the directory loaded") },
		Kept: func(_ *tls.Config, err error) {
			failed.Inc()
			c.Log.Error("certificates for the directory not loaded, the old ones stay", slog.String("error", err.Error()))
		},
	})
}

func (c Config) readTLS() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	if c.CA != "" {
		authorities, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, setting(keyCA, "reading it: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, setting(keyCA, "%s: no certificate in PEM", c.CA)
		}
	}
	if c.Certificate == "" {
		return t, nil
	}
	chain, err := os.ReadFile(c.Certificate)
	if err != nil {
		return nil, setting(keyCertificate, "reading it: %w", err)
	}
	key, err := secret.ReadFile(c.Key)
	if err != nil {
		return nil, setting(keyCertificate, "reading its key: %w", err)
	}
	defer key.Wipe()
	pair, err := tls.X509KeyPair(chain, key.Reveal())
	if err != nil {
		return nil, setting(keyCertificate, "reading %s and %s: %w", c.Certificate, c.Key, err)
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}
