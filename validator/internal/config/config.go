// Package config holds what validator.toml says.
//
// cmd/validator loads it through services/config before anything is opened; what the values
// mean is in the packages that they are given to.
package config

import (
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// Config is the file validator.toml.
type Config struct {
	Mesh          Mesh           `toml:"mesh" doc:"How other services reach the validator."`
	Assertion     Assertion      `toml:"assertion" doc:"The statements in which the signer is told who asks."`
	State         State          `toml:"state" doc:"The record of tokens and of what became of credentials."`
	OTP           OTP            `toml:"otp" doc:"Enrolment tokens."`
	Directory     Directory      `toml:"directory" doc:"The LDAP directory with the accounts, FreeIPA's or another; without servers no account can enrol by its password."`
	OneTime       OneTime        `toml:"one_time" doc:"How one-time codes that were used are remembered."`
	RADIUS        []RADIUS       `toml:"radius" doc:"RADIUS servers, a table for each group of servers that share their tokens: for accounts of a directory that names none, or with what the directory cannot say of a server that it names."`
	Client        RADIUSClient   `toml:"radius_client" doc:"The validator as a RADIUS client."`
	GSSAPI        GSSAPI         `toml:"gssapi" doc:"Kerberos tickets by HTTP Negotiate, checked against a keytab."`
	Certificates  Certificates   `toml:"certificates" doc:"Certificates of the authority itself, by which their holders renew them."`
	Manufacturers []Manufacturer `toml:"manufacturer" doc:"Other authorities whose certificates prove devices, a table for each."`
	OTPD          OTPD           `toml:"otpd" doc:"The socket on which a KDC has one-time passwords checked, as by FreeIPA's ipa-otpd."`
	Throttle      Throttle       `toml:"throttle" doc:"How many credentials may be refused. All validators of a database count together."`
	Labels        []Label        `toml:"label" doc:"What proves an identity, a table for each EST label; under other labels nothing does."`
	Ops           run.OpsConfig  `toml:"ops" doc:"The listener for operators: /healthz, /readyz, /metrics."`
	Log           run.LogConfig  `toml:"log" doc:"The log on standard error."`
}

// Mesh is the [mesh] table.
type Mesh struct {
	mesh.Config
	Listen string              `toml:"listen" doc:"Address and port on which other services are answered."`
	Allow  map[string][]string `toml:"allow" doc:"For each gRPC service of the validator the mesh names that may call it; an empty list allows nobody. Nobody may call both Authenticator and TokenAdmin."`
}

// Assertion is the [assertion] table.
type Assertion struct {
	Key      config.Path `toml:"key" doc:"Ed25519 private key that signs assertions, PKCS#8 PEM, as 'validator key init' makes it. Must not be accessible to other users."`
	KeyID    string      `toml:"key_id" doc:"Id of the key: the key_id under which the signer's configuration has its public half."`
	Audience string      `toml:"audience" doc:"Name of the certification authority that may accept the assertions: [ca] name of the signer."`
}

// State is the [state] table.
type State struct {
	URL    config.Database `toml:"url" doc:"Database: sqlite:PATH for one validator, postgres://… for several; to another machine with sslmode=verify-full (and sslrootcert)."`
	MACKey config.Path     `toml:"mac_key" doc:"File with 32 octets in hexadecimal, the key of the MAC that every row which authorises something carries. With another key the stored tokens are worthless."`

	CheckpointFile config.Path `toml:"checkpoint_file" doc:"File that this validator keeps its newest audit checkpoint in, one for each validator, on another disk or in another backup than the database: a database that was set back behind it is not used. Made when it is not there."`
}

// OTP is the [otp] table.
type OTP struct {
	Enabled       bool            `toml:"enabled" doc:"Whether enrolment tokens are accepted and made. While it is false those that exist can be listed and revoked."`
	HashAlgorithm token.Algorithm `toml:"hash_algorithm" doc:"How new tokens are hashed for storage: sha256-hmac, argon2id or bcrypt. Tokens that are stored keep theirs."`
	TokenLength   int             `toml:"token_length" doc:"Octets of randomness in a new token, 16 to 64."`
	MaxUses       uint32          `toml:"max_uses" doc:"Certificates that a token is good for when the request for it does not say, 1 to 10000."`
	Validity      config.Duration `toml:"validity" doc:"How long a token is good for when the request for it does not say, 1m to 3653d."`
	Realm         string          `toml:"realm" doc:"Realm of the identities that a token proves; the signer's [[validator]] realms have to name it."`
	IndexKey      config.Path     `toml:"index_key" doc:"File with 32 octets in hexadecimal, the key under which tokens are found and, by sha256-hmac, verified. With another key the stored tokens are worthless."`
	MatchUsername token.Match     `toml:"match_username" doc:"Whether the user name of HTTP Basic has to be the token's client_id: if-present, required or ignored."`

	MaxFailures     int64          `toml:"max_failures" doc:"Refused tokens under one user name from one network behind which more are not looked at."`
	FailureWindow   config.Seconds `toml:"failure_window" doc:"Seconds in which max_failures are counted, from the first of them on."`
	LockoutDuration config.Seconds `toml:"lockout_duration" doc:"Seconds for which that name is refused from that network then."`
}

// Label is a [[label]] table.
type Label struct {
	Name      string      `toml:"name" doc:"EST label (RFC 7030 section 3.2.2), the gateway's default label included."`
	Basic     authn.Basic `toml:"basic" doc:"What HTTP Basic may hold under this label: token (an enrolment token), directory (an account's password with its one-time code), token-then-directory (by the form of the password), or none."`
	Negotiate bool        `toml:"negotiate" doc:"Whether Kerberos tickets are accepted under this label."`

	Certificate   bool            `toml:"certificate" doc:"Whether a certificate of the authority, presented in TLS, is accepted under this label. It comes before tickets, and those before HTTP Basic."`
	RenewExpired  config.Duration `toml:"renew_expired" doc:"How long after its end such a certificate is still accepted, at most 90d. The signer's profile has to say so too."`
	Manufacturers []string        `toml:"manufacturers" doc:"Names of the [[manufacturer]] tables whose certificates are accepted under this label."`

	AcceptPassword bool                 `toml:"accept_password" doc:"Whether an account's password alone is enough where its settings ask for no second factor. The assertion then carries no indicator."`
	DirectoryCheck authn.DirectoryCheck `toml:"directory_check" doc:"Whether the client_id of an enrolment token, or the principal of a ticket or certificate, has to be an account of the directory that may log in: none, if-reachable (not while the directory does not answer) or required. Where it is looked up, what the directory says of a ticket's client is asserted: uid, cn, mail, groups, managed hosts. Accounts that prove themselves by a password are always looked up."`
}

// SetDefaults sets what a table need not say.
func (l *Label) SetDefaults() { l.DirectoryCheck = authn.CheckNone }

// Default returns the configuration before a file is read.
func Default() *Config {
	return &Config{
		Mesh: Mesh{Listen: "127.0.0.1:9501"},
		OTP: OTP{
			Enabled:       true,
			HashAlgorithm: token.SHA256HMAC,
			TokenLength:   20,
			MaxUses:       1,
			Validity:      config.Duration(week),
			MatchUsername: token.MatchIfPresent,

			MaxFailures: 10, FailureWindow: 300, LockoutDuration: 900,
		},
		Directory: defaultDirectory(),
		Throttle:  defaultThrottle(),
		GSSAPI:    defaultGSSAPI(),
		OTPD:      OTPD{Timeout: config.Duration(15 * time.Second)},
		Ops:       run.OpsConfig{Listen: "127.0.0.1:9602"},
		Log:       run.LogConfig{Level: "info"},
	}
}

// LabelRules returns what proves an identity, label by label.
func (c *Config) LabelRules() map[string]authn.Rule {
	rules := make(map[string]authn.Rule, len(c.Labels))
	for _, l := range c.Labels {
		rule := authn.Rule{Basic: l.Basic, AcceptPassword: l.AcceptPassword, Negotiate: l.Negotiate, Check: l.DirectoryCheck}
		if l.Certificate {
			rule.Certificates.Authorities = append(rule.Certificates.Authorities, clientcert.Own)
		}
		rule.Certificates.Authorities = append(rule.Certificates.Authorities, l.Manufacturers...)
		rule.Certificates.Grace = time.Duration(l.RenewExpired)
		rules[l.Name] = rule
	}
	return rules
}
