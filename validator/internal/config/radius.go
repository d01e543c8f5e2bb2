package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// RADIUS is a [[radius]] table.
type RADIUS struct {
	Servers   []string    `toml:"servers" doc:"HOST or HOST:PORT of the servers, the first choice first: 1812 where there is no port, 2083 with transport = \"tls\". Another is asked only when one is down, and never about a password that has been sent."`
	Filter    string      `toml:"filter" doc:"LDAP filter for the accounts whose passwords these servers check, such as (objectClass=person) for all; those that the directory links to a server of their own excepted. Empty: the table only says how to talk to servers that the directory names."`
	Secret    config.Path `toml:"secret" doc:"File with the secret shared with the servers, at least 16 octets; with transport = \"udp\". Left out for servers whose secret the directory has."`
	Transport string      `toml:"transport" doc:"udp, or tls for RadSec (RFC 6614)."`

	AllowUnsigned bool            `toml:"allow_unsigned" doc:"Accepts answers without Message-Authenticator over UDP: only for old servers on a network that nobody else is on, for they can be forged (CVE-2024-3596)."`
	CA            config.Path     `toml:"ca" doc:"PEM file with the CAs of the servers' certificates; with transport = \"tls\"."`
	Certificate   config.Path     `toml:"certificate" doc:"The validator's certificate for the servers, PEM; with transport = \"tls\"."`
	Key           config.Path     `toml:"key" doc:"Private key of that certificate, PEM."`
	Timeout       config.Duration `toml:"timeout" doc:"How long a server may take altogether, for accounts of filter, 1s to 25s."`
	Retries       int             `toml:"retries" doc:"How often a request is sent again within that time, 0 to 10."`
}

// The transports of RADIUS.
const (
	udp = "udp"
	tcp = "tls"
)

const minSecret = 16

// SetDefaults sets what a table need not say: FreeIPA's defaults for timeout and retries.
func (s *RADIUS) SetDefaults() {
	s.Transport, s.Timeout, s.Retries = udp, config.Duration(15*time.Second), 3
}

// Check reports what does not go together.
func (s *RADIUS) Check(r *config.Report) {
	if len(s.Servers) == 0 {
		r.Add("servers", "is missing")
	}
	if s.Filter != "" {
		if _, err := ldap.CompileFilter(s.Filter); err != nil {
			r.Add("filter", "is not an LDAP filter (RFC 4515): %s", err)
		}
	}
	switch s.Transport {
	case udp:
		if s.Filter != "" {
			needFile(r, "secret", s.Secret)
		}
		for key, path := range map[string]config.Path{"ca": s.CA, "certificate": s.Certificate, "key": s.Key} {
			if path != "" {
				r.Add(key, `means nothing with transport = "udp"`)
			}
		}
	case tcp:
		needFile(r, "ca", s.CA)
		needFile(r, "certificate", s.Certificate)
		needFile(r, "key", s.Key)
		if s.Secret != "" {
			r.Add("secret", `means nothing with transport = "tls": it is "radsec" there (RFC 6614 section 2.3)`)
		}
		if s.AllowUnsigned {
			r.Add("allow_unsigned", `means nothing with transport = "tls"`)
		}
	default:
		r.Add("transport", `has to be "udp" or "tls", not %q`, s.Transport)
	}
	if t := time.Duration(s.Timeout); t < time.Second || t > 25*time.Second {
		r.Add("timeout", "has to be between 1s and 25s, not %s", s.Timeout)
	}
	if s.Retries < 0 || s.Retries > 10 {
		r.Add("retries", "has to be between 0 and 10, not %d", s.Retries)
	}
}

// Proxies opens the files of all [[radius]] tables.
func (c *Config) Proxies() ([]login.Proxy, error) {
	proxies := make([]login.Proxy, 0, len(c.RADIUS))
	for _, s := range c.RADIUS {
		p, err := s.open()
		if err != nil {
			return nil, fmt.Errorf("opening [[radius]] %s: %w", strings.Join(s.Servers, ", "), err)
		}
		proxies = append(proxies, p)
	}
	return proxies, nil
}

func (s *RADIUS) open() (login.Proxy, error) {
	server := radius.Server{AllowUnsigned: s.AllowUnsigned}
	if s.Secret != "" {
		var err error
		if server.Secret, err = secret.ReadFile(string(s.Secret)); err != nil {
			return login.Proxy{}, err
		}
		if server.Secret.Len() < minSecret {
			return login.Proxy{}, fmt.Errorf("the secret has %d octets: at least %d are needed (RFC 2865 section 3)", server.Secret.Len(), minSecret)
		}
	}
	port := login.PortUDP
	if s.Transport == tcp {
		var err error
		if server.TLS, err = s.tls(); err != nil {
			return login.Proxy{}, err
		}
		port = login.PortTLS
	}
	p := login.Proxy{Filter: s.Filter, Target: radius.Target{Timeout: time.Duration(s.Timeout), Retries: s.Retries}}
	for _, address := range s.Servers {
		server.Address = login.WithPort(address, port)
		server.Name = server.Address
		p.Target.Servers = append(p.Target.Servers, server)
	}
	return p, nil
}

func (s *RADIUS) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(string(s.CA))
	if err != nil {
		return nil, fmt.Errorf("reading the CAs: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the CAs: %s holds no certificate", s.CA)
	}
	pair, err := tls.LoadX509KeyPair(string(s.Certificate), string(s.Key))
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}, nil
}

// RADIUSClient is the [radius_client] table.
type RADIUSClient struct {
	NASIdentifier string `toml:"nas_identifier" doc:"What the validator calls itself (NAS-Identifier); empty for the name of the machine."`
	Separator     string `toml:"challenge_separator" doc:"Where a server asks a second question (Access-Challenge): what stands in a password before the answer to it, 1 to 8 printable octets. Empty: such logins are refused. A password with it is always cut there."`
}

// Check reports names that no packet can carry.
func (c *RADIUSClient) Check(r *config.Report) {
	if len(c.NASIdentifier) > 253 {
		r.Add("nas_identifier", "has %d octets: at most 253 fit (RFC 2865 section 5)", len(c.NASIdentifier))
	}
	if c.Separator != "" {
		needText(r, "challenge_separator", c.Separator)
	}
	if len(c.Separator) > 8 {
		r.Add("challenge_separator", "has %d octets: at most 8", len(c.Separator))
	}
}
