package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/estuary-pki/estuary/services/config"
)

// AdminAPI is the [admin] section of admin.toml.
type AdminAPI struct {
	Listen      string      `toml:"listen" doc:"Address and port of the admin API, HTTPS."`
	TLS         AdminTLS    `toml:"tls" doc:"Certificate of the admin API, and the certificates of administrators."`
	BearerToken AdminBearer `toml:"bearer_token" doc:"Bearer tokens of administrators. A request has to carry one of them or a client certificate."`
}

// AdminTLS is the [admin.tls] section.
type AdminTLS struct {
	Certificate config.Path `toml:"certificate" doc:"Certificate of the admin API, PEM, leaf first. Read again when it changes."`
	Key         config.Path `toml:"key" doc:"Private key of the certificate, PEM. Must not be accessible to other users. Read again when it changes."`
	ClientCA    config.Path `toml:"client_ca" doc:"Certificates of the authorities that administrators' client certificates come from, PEM. Without it no client certificate is asked for. Read again when it changes."`
	ClientNames []string    `toml:"client_names" doc:"DNS names or common names of those client certificates that are administrators', exactly. They have every scope."`
}

// AdminBearer is the [admin.bearer_token] section.
type AdminBearer struct {
	Tokens []AdminToken `toml:"tokens" doc:"One entry per bearer token."`
}

// AdminToken lets the holder of a bearer token in.
type AdminToken struct {
	TokenHash   TokenHash   `toml:"token_hash" doc:"SHA-256 of the token, as \"admin token new\" prints it: \"sha256:\" and 64 hexadecimal digits."`
	HashFile    config.Path `toml:"token_hash_file" doc:"File with that, instead of token_hash; \"admin setup\" makes it together with a token."`
	Description string      `toml:"description" doc:"Who holds the token; the actor in the audit."`
	Scopes      []Scope     `toml:"scopes" doc:"What the holder may do: \"otp:write\" makes and revokes enrolment tokens, \"otp:read\" lists them, \"certs:read\" reads the ledger, \"certs:write\" revokes certificates."`
}

// Scope is something that an administrator may do.
type Scope string

// The scopes.
const (
	ScopeOTPWrite  Scope = "otp:write"
	ScopeOTPRead   Scope = "otp:read"
	ScopeCertsRead Scope = "certs:read"

	ScopeCertsWrite Scope = "certs:write"
)

// Scopes returns every scope.
func Scopes() []Scope { return []Scope{ScopeOTPWrite, ScopeOTPRead, ScopeCertsRead, ScopeCertsWrite} }

// TokenHash is the SHA-256 of a bearer token.
type TokenHash [sha256.Size]byte

const tokenHashPrefix = "sha256:"

// UnmarshalText reads "sha256:" and 64 hexadecimal digits.
func (h *TokenHash) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), tokenHashPrefix)
	sum, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sum) != len(h) {
		return errors.New(`has to be "sha256:" and 64 hexadecimal digits`)
	}
	copy(h[:], sum)
	return nil
}

// String returns what UnmarshalText reads; nothing for the zero value.
func (h TokenHash) String() string {
	if h == (TokenHash{}) {
		return ""
	}
	return tokenHashPrefix + hex.EncodeToString(h[:])
}

// ReadHashes reads the hashes that stand in files; the error names the file. A hash that two
// tokens have is refused: the audit could not tell their holders apart.
func (b *AdminBearer) ReadHashes() error {
	holders := map[TokenHash]string{}
	for i := range b.Tokens {
		t := &b.Tokens[i]
		if err := t.readHash(); err != nil {
			return fmt.Errorf("reading the hash of a bearer token: %w", err)
		}
		if other, ok := holders[t.TokenHash]; ok {
			return fmt.Errorf("the bearer tokens of %q and %q have the same hash", other, t.Description)
		}
		holders[t.TokenHash] = t.Description
	}
	return nil
}

func (t *AdminToken) readHash() error {
	if t.HashFile == "" {
		return nil
	}
	text, err := os.ReadFile(string(t.HashFile))
	if err != nil {
		return err
	}
	if err := t.TokenHash.UnmarshalText(bytes.TrimSpace(text)); err != nil {
		return fmt.Errorf("%s %w", t.HashFile, err)
	}
	return nil
}

// Check reports an API that nobody, or not everybody meant, could use.
func (a AdminAPI) Check(r *config.Report) {
	if _, port, err := net.SplitHostPort(a.Listen); err != nil || port == "" {
		r.Add("listen", `has to be an address and a port, such as "localhost:9443"`)
	}
	if a.TLS.ClientCA == "" && len(a.BearerToken.Tokens) == 0 {
		r.Add("", "lets nobody in: set client_ca under [admin.tls], tokens under [admin.bearer_token], or both")
	}
	hashes, names := map[TokenHash]bool{}, map[string]bool{}
	for _, name := range a.TLS.ClientNames {
		names[name] = true
	}
	for _, t := range a.BearerToken.Tokens {
		if hashes[t.TokenHash] && t.TokenHash != (TokenHash{}) {
			r.Add("bearer_token.tokens", "has the token hash %s twice", t.TokenHash)
		}
		if t.Description != "" && names[t.Description] {
			r.Add("bearer_token.tokens", "has the description %q, which another token or client name has", t.Description)
		}
		hashes[t.TokenHash], names[t.Description] = true, true
	}
}

// Check reports files that are missing and names that could not match.
func (t AdminTLS) Check(r *config.Report) {
	if t.Certificate == "" {
		r.Add("certificate", "is missing")
	}
	if t.Key == "" {
		r.Add("key", "is missing")
	}
	switch {
	case t.ClientCA != "" && len(t.ClientNames) == 0:
		r.Add("client_names", "is missing: client_ca alone lets nobody in")
	case t.ClientCA == "" && len(t.ClientNames) > 0:
		r.Add("client_names", "does nothing without client_ca")
	}
	for _, name := range t.ClientNames {
		if name == "" || strings.Contains(name, "*") {
			r.Add("client_names", "has %q, but takes whole names only", name)
		}
	}
}

// Check reports a token without hash, holder or purpose.
func (t AdminToken) Check(r *config.Report) {
	switch {
	case t.HashFile != "" && t.TokenHash != (TokenHash{}):
		r.Add("token_hash_file", "goes without token_hash")
	case t.HashFile == "" && t.TokenHash == (TokenHash{}):
		r.Add("token_hash", `is missing: "admin token new" makes a token and its hash`)
	}
	if t.Description == "" || len(t.Description) > 200 {
		r.Add("description", "has to be 1 to 200 octets long: the audit names the holder by it")
	}
	if len(t.Scopes) == 0 {
		r.Add("scopes", "is missing")
	}
	for i, s := range t.Scopes {
		if !slices.Contains(Scopes(), s) {
			r.Add("scopes", "has %q; there are %q", s, Scopes())
		} else if slices.Contains(t.Scopes[:i], s) {
			r.Add("scopes", "has %q twice", s)
		}
	}
}
