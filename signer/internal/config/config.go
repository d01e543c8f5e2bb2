// Package config holds what signer.toml says.
//
// cmd/signer loads it through services/config before anything is opened. The tables of the
// authority and of the profiles belong to ca and profile; this package puts the file
// together and holds its parts against each other.
package config

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// Config is the file signer.toml.
type Config struct {
	Mesh       Mesh              `toml:"mesh" doc:"How other services reach the signer."`
	CA         ca.Config         `toml:"ca" doc:"The certification authority."`
	FormerCAs  []ca.Former       `toml:"former_ca" doc:"Authorities that issued before a change of the key, the newest first: they sign revocation lists and OCSP responses until they end."`
	Ledger     Ledger            `toml:"ledger" doc:"The record of what was issued."`
	CRL        CRL               `toml:"crl" doc:"The certificate revocation list."`
	OCSP       OCSP              `toml:"ocsp" doc:"Answers on single certificates (RFC 6960). They are signed by a key that lives in memory, whose certificate is renewed every few days."`
	Validators []Validator       `toml:"validator" doc:"The validators whose word counts, a table for each of their keys."`
	Protected  profile.Protected `toml:"protected" doc:"What gets no certificate, whatever a validator asserts."`
	Profiles   []profile.Profile `toml:"profile" doc:"What may be issued, a table for each EST label."`
	Ops        run.OpsConfig     `toml:"ops" doc:"The listener for operators: /healthz, /readyz, /metrics."`
	Log        run.LogConfig     `toml:"log" doc:"The log on standard error."`
}

// Mesh is the [mesh] table.
type Mesh struct {
	mesh.Config
	Listen string              `toml:"listen" doc:"Address and port on which other services are answered."`
	Allow  map[string][]string `toml:"allow" doc:"For each gRPC service of the signer the mesh names that may call it; an empty list allows nobody."`
}

// Ledger is the [ledger] table.
type Ledger struct {
	URL            config.Database `toml:"url" doc:"Database: sqlite:PATH for one signer, postgres://… for several; to another machine with sslmode=verify-full (and sslrootcert)."`
	MACKey         config.Path     `toml:"mac_key" doc:"File with the key that guards the rows against whoever can write to the database: 32 octets in hexadecimal, not readable by everybody."`
	CheckpointFile config.Path     `toml:"checkpoint_file" doc:"File that this signer keeps its newest audit checkpoint in, one for each signer, on another disk or in another backup than the database: a database that was set back behind it is not used. Made when it is not there."`
}

// CRL is the [crl] table.
type CRL struct {
	NextUpdate         config.Duration `toml:"next_update" doc:"How long a revocation list is good, 10m to 30d. A new one is made at the half of that, and whenever something is revoked."`
	DistributionPoints []string        `toml:"distribution_points" doc:"URLs that the list says it is found at (RFC 5280 section 5.2.5). Where there are any, crl_distribution_points of the profiles have to be among them, or clients refuse the list."`
}

// OCSP is the [ocsp] table.
type OCSP struct {
	NextUpdate config.Duration `toml:"next_update" doc:"How long a response is good, 5m to 2d: for so long clients and caches may go by it, and the gateway hands it out while no signer answers. The gateway asks anew after 15 s."`
}

// Validator is a [[validator]] table: one key of one validator.
type Validator struct {
	Name      string      `toml:"name" doc:"Mesh name of the validator."`
	KeyID     string      `toml:"key_id" doc:"Name of the key, the same as in the validator's [assertion] key_id."`
	PublicKey config.Path `toml:"public_key" doc:"File with its Ed25519 public key: PEM, or base64 of the 32 octets. Read again on SIGHUP."`
	NotAfter  time.Time   `toml:"not_after" doc:"When the key stops being believed."`
	Methods   []string    `toml:"methods" doc:"Kinds of proof that it may assert: token, ldap-otp, ldap-password, radius, negotiate, certificate."`
	Realms    []string    `toml:"realms" doc:"Realms whose identities it may assert."`

	MaxPerHour int64 `toml:"max_per_hour" doc:"Certificates that may be issued on the word of this key in an hour, by all signers of the ledger together: what a stolen key is worth. 0 for any number. Repeats do not count. Read again on SIGHUP."`
}

// Retired is a file with keys of validators that are not believed any more, or were believed
// for more than today, and with earlier certificates of the authority: for the checks of what
// was issued then.
type Retired struct {
	Validators  []Validator   `toml:"validator" doc:"As in signer.toml. A key_id that stands there too counts as it stands here."`
	Authorities []config.Path `toml:"authorities" doc:"Files with earlier certificates of the authority, PEM."`
}

// Default returns what holds where the file says nothing.
func Default() *Config {
	return &Config{
		Mesh: Mesh{Listen: "127.0.0.1:9502"},
		CRL:  CRL{NextUpdate: config.Duration(24 * time.Hour)},
		OCSP: OCSP{NextUpdate: config.Duration(time.Hour)},
		Ops:  run.OpsConfig{Listen: "127.0.0.1:9603"},
		Log:  run.LogConfig{Level: "info"},
	}
}

// PublicKeys reads the keys of the validators, for assertion.NewOpener.
func (c *Config) PublicKeys() ([]assertion.PublicKey, error) { return publicKeys(c.Validators) }

// PublicKeys reads the keys of the validators, for assertion.NewOpener.
func (r *Retired) PublicKeys() ([]assertion.PublicKey, error) { return publicKeys(r.Validators) }

func publicKeys(validators []Validator) ([]assertion.PublicKey, error) {
	keys := make([]assertion.PublicKey, 0, len(validators))
	for _, v := range validators {
		text, err := os.ReadFile(string(v.PublicKey))
		if err != nil {
			return nil, fmt.Errorf("opening public key of a validator: %w", err)
		}
		public, err := assertion.ParsePublicKey(string(text))
		if err != nil {
			return nil, fmt.Errorf("public key %s: %w", v.PublicKey, err)
		}
		methods, err := profile.Methods(v.Methods)
		if err != nil {
			return nil, fmt.Errorf("reading methods of key %s of validator %s: %w", v.KeyID, v.Name, err)
		}
		keys = append(keys, assertion.PublicKey{
			ID: v.KeyID, Issuer: v.Name, Key: public, NotAfter: v.NotAfter, Methods: methods, Realms: slices.Clone(v.Realms),
			MaxPerHour: v.MaxPerHour,
		})
	}
	return keys, nil
}
