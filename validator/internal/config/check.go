package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/label"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/serve"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

const (
	week    = 7 * 24 * time.Hour
	maxText = 255 // octets of a realm, a key id and an audience
)

var (
	authenticator = validatorv1.Authenticator_ServiceDesc.ServiceName
	tokenAdmin    = validatorv1.TokenAdmin_ServiceDesc.ServiceName
	// services are the gRPC services of the validator: each needs an allow-list, and no
	// other can have one.
	services = []string{authenticator, tokenAdmin, "grpc.health.v1.Health"}
)

// Check holds the parts of the file against each other.
func (c *Config) Check(r *config.Report) {
	if len(c.Labels) == 0 {
		r.Add("label", "is missing: no credential would be accepted")
	}
	seen := map[string]bool{}
	for i, l := range c.Labels {
		if seen[l.Name] {
			r.Add("label["+strconv.Itoa(i)+"].name", "another label has this name")
		}
		seen[l.Name] = true
		if l.Basic.Directory() && !c.Directory.Used() {
			r.Add("label["+strconv.Itoa(i)+"].basic", "%q needs [directory] servers", string(l.Basic))
		}
		if l.DirectoryCheck != authn.CheckNone && !c.Directory.Used() {
			r.Add("label["+strconv.Itoa(i)+"].directory_check", "%q needs [directory] servers", string(l.DirectoryCheck))
		}
		if l.Negotiate && !c.GSSAPI.Enabled {
			r.Add("label["+strconv.Itoa(i)+"].negotiate", "needs [gssapi] enabled")
		}
	}
	c.checkCertificates(r)
	c.checkLogins(r)
}

// checkLogins holds what belongs to logins against whether there is a directory.
func (c *Config) checkLogins(r *config.Report) {
	if c.Directory.Used() {
		if n := len(c.OneTime.SpendKeys); n < 1 || n > login.MaxKeys {
			r.Add("one_time.spend_keys", "has to name one file, or two while the key is being changed, not %d", n)
		}
		return
	}
	if len(c.RADIUS) > 0 {
		r.Add("radius", "needs [directory] servers: an account's identity comes from there")
	}
	if c.OTPD.Listen != "" {
		r.Add("otpd.listen", "needs [directory] servers")
	}
}

// Check reports what is missing, and a peer that could give itself a token.
func (m *Mesh) Check(r *config.Report) {
	m.Config.Check(r)
	mesh.CheckServer(r, m.Listen, m.Allow, services)
	for _, peer := range m.Allow[authenticator] {
		if slices.Contains(m.Allow[tokenAdmin], peer) {
			r.Add("allow", "%q may call both Authenticator and TokenAdmin: a taken gateway could make itself a token", peer)
		}
	}
}

// Check reports what is missing.
func (a Assertion) Check(r *config.Report) {
	needFile(r, "key", a.Key)
	needText(r, "key_id", a.KeyID)
	needText(r, "audience", a.Audience)
}

// Check reports what is missing.
func (s State) Check(r *config.Report) {
	if s.URL == "" {
		r.Add("url", "is missing")
	}
	needFile(r, "mac_key", s.MACKey)
	needFile(r, "checkpoint_file", s.CheckpointFile)
}

// Check reports what no token can have, and what is missing while tokens are accepted.
func (o OTP) Check(r *config.Report) {
	if !slices.Contains(token.Algorithms, o.HashAlgorithm) {
		r.Add("hash_algorithm", "has to be sha256-hmac, argon2id or bcrypt, not %q", string(o.HashAlgorithm))
	}
	if !slices.Contains(token.Matches, o.MatchUsername) {
		r.Add("match_username", "has to be if-present, required or ignored, not %q", string(o.MatchUsername))
	}
	if o.TokenLength < token.MinOctets || o.TokenLength > token.MaxOctets {
		r.Add("token_length", "has to be between %d and %d, not %d", token.MinOctets, token.MaxOctets, o.TokenLength)
	}
	if o.MaxUses < 1 || o.MaxUses > serve.MaxUses {
		r.Add("max_uses", "has to be between 1 and %d, not %d", serve.MaxUses, o.MaxUses)
	}
	if d := time.Duration(o.Validity); d < time.Minute || d > serve.MaxValidity {
		r.Add("validity", "has to be between 1m and %s, not %s", config.Duration(serve.MaxValidity), o.Validity)
	}
	needPositive(r, map[string]int64{
		"max_failures": o.MaxFailures, "failure_window": int64(o.FailureWindow), "lockout_duration": int64(o.LockoutDuration),
	})
	if o.Enabled {
		needText(r, "realm", o.Realm)
		needFile(r, "index_key", o.IndexKey)
	}
}

// Check reports a name that no URI can carry, and rules that do not exist.
func (l Label) Check(r *config.Report) {
	switch {
	case l.Name == "":
		r.Add("name", "is missing")
	case len(l.Name) > label.Max || !label.Plain(l.Name):
		r.Add("name", "has to be 1 to %d letters, digits and any of -._~, not %q", label.Max, l.Name)
	}
	if !slices.Contains(authn.Basics, l.Basic) {
		r.Add("basic", `has to be "token", "directory", "token-then-directory" or "none", not %q`, string(l.Basic))
	}
	if !slices.Contains(authn.Checks, l.DirectoryCheck) {
		r.Add("directory_check", `has to be "none", "if-reachable" or "required", not %q`, string(l.DirectoryCheck))
	}
	if l.AcceptPassword && (l.Basic == authn.BasicToken || l.Basic == authn.BasicNone) {
		r.Add("accept_password", `means nothing with basic = %q`, string(l.Basic))
	}
	if l.DirectoryCheck != authn.CheckNone && l.Basic == authn.BasicDirectory && !l.Negotiate {
		r.Add("directory_check", `is for enrolment tokens and tickets: with basic = "directory" every account is looked up`)
	}
	if l.Basic == authn.BasicNone && !l.Negotiate {
		r.Add("basic", `"none" needs negotiate = true: no credential would be accepted`)
	}
}

func needPositive(r *config.Report, values map[string]int64) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] < 1 {
			r.Add(key, "has to be at least 1, not %d", values[key])
		}
	}
}

func needFile(r *config.Report, key string, path config.Path) {
	if path == "" {
		r.Add(key, "names no file")
	}
}

func needText(r *config.Report, key, text string) {
	switch {
	case text == "":
		r.Add(key, "is missing")
	case len(text) > maxText || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.Add(key, "has to be 1 to %d printable octets", maxText)
	}
}
