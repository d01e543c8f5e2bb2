package config

import (
	"slices"
	"strconv"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// services are the gRPC services of the signer: each needs an allow-list, and no other can
// have one.
var services = []string{
	"estuary.signer.v1.Authority",
	"estuary.signer.v1.Issuer",
	"estuary.signer.v1.LedgerAdmin",
	"grpc.health.v1.Health",
}

// Check holds the parts of the file against each other.
func (c *Config) Check(r *config.Report) {
	if len(c.Validators) == 0 {
		r.Add("validator", "is missing: nobody's word would count")
	}
	if len(c.Profiles) == 0 {
		r.Add("profile", "is missing: nothing could be issued")
	}
	c.checkIssuer(r)
	ids, labels := map[string]bool{}, map[string]bool{}
	realms := map[string]bool{}
	for i, v := range c.Validators {
		if ids[v.KeyID] {
			r.Add(index("validator", i, "key_id"), "another key has this id")
		}
		ids[v.KeyID] = true
		for _, realm := range v.Realms {
			realms[realm] = true
		}
	}
	for i, p := range c.Profiles {
		if labels[p.Label] {
			r.Add(index("profile", i, "label"), "another profile has this label")
		}
		labels[p.Label] = true
		for _, realm := range p.Realms {
			if !realms[realm] {
				r.Add(index("profile", i, "realms"), "no validator may speak for the realm %q", realm)
			}
		}
	}
	c.checkDistributionPoints(r)
	c.checkFormer(r)
	profile.CheckRenews(c.Profiles, func(i int, key, format string, args ...any) {
		r.Add(index("profile", i, key), format, args...)
	})
	profile.CheckPKINIT(c.Profiles, func(i int, key, format string, args ...any) {
		r.Add(index("profile", i, key), format, args...)
	})
}

// checkDistributionPoints holds the profiles to what the list says of itself.
func (c *Config) checkDistributionPoints(r *config.Report) {
	if len(c.CRL.DistributionPoints) == 0 {
		return
	}
	for i, p := range c.Profiles {
		for _, url := range p.CRLDistributionPoints {
			if !slices.Contains(c.CRL.DistributionPoints, url) {
				r.Add(index("profile", i, "crl_distribution_points"), "%q is not among [crl] distribution_points: the list there would be refused", url)
			}
		}
	}
}

// checkFormer reports authorities that would stand at one address.
func (c *Config) checkFormer(r *config.Report) {
	names := map[string]bool{c.CA.Published(): true}
	for i, f := range c.FormerCAs {
		if names[f.PublishedAs] {
			r.Add(index("former_ca", i, "published_as"), "another authority is published as %q: a list can stand there once", f.PublishedAs)
		}
		names[f.PublishedAs] = true
		profile.CheckURLs(index("former_ca", i, "distribution_points"), f.DistributionPoints, r.Add)
	}
}

// Check reports what no list can have.
func (c CRL) Check(r *config.Report) {
	if d := time.Duration(c.NextUpdate); d < 10*time.Minute || d > 30*24*time.Hour {
		r.Add("next_update", "has to be between 10m and 30d, not %s", c.NextUpdate)
	}
	profile.CheckURLs("distribution_points", c.DistributionPoints, r.Add)
}

// Check reports what no response can have.
func (o OCSP) Check(r *config.Report) {
	if d := time.Duration(o.NextUpdate); d < 5*time.Minute || d > 2*24*time.Hour {
		r.Add("next_update", "has to be between 5m and 2d, not %s", o.NextUpdate)
	}
}

// checkIssuer keeps duties apart: who signs assertions must not present them, and who
// administers must not issue.
func (c *Config) checkIssuer(r *config.Report) {
	for _, peer := range c.Mesh.Allow["estuary.signer.v1.Issuer"] {
		if slices.ContainsFunc(c.Validators, func(v Validator) bool { return v.Name == peer }) {
			r.Add("mesh.allow", "%q is a validator: it must not call estuary.signer.v1.Issuer with what it has signed", peer)
		}
		if slices.Contains(c.Mesh.Allow["estuary.signer.v1.LedgerAdmin"], peer) {
			r.Add("mesh.allow", "%q may call estuary.signer.v1.LedgerAdmin: it must not call estuary.signer.v1.Issuer too", peer)
		}
	}
}

func index(list string, i int, key string) string {
	return list + "[" + strconv.Itoa(i) + "]." + key
}

// Check reports what is missing or cannot be listened on.
func (m *Mesh) Check(r *config.Report) {
	m.Config.Check(r)
	mesh.CheckServer(r, m.Listen, m.Allow, services)
}

// Check reports what is missing.
func (l Ledger) Check(r *config.Report) {
	if l.URL == "" {
		r.Add("url", "is missing")
	}
	if l.MACKey == "" {
		r.Add("mac_key", "is missing")
	}
	if l.CheckpointFile == "" {
		r.Add("checkpoint_file", "is missing: a ledger that was set back could not be told from a good one")
	}
}

// Check reports what is missing or cannot be used.
func (v Validator) Check(r *config.Report) {
	if v.Name == "" {
		r.Add("name", "is missing")
	}
	if v.KeyID == "" {
		r.Add("key_id", "is missing")
	}
	if v.PublicKey == "" {
		r.Add("public_key", "is missing")
	}
	if v.NotAfter.IsZero() {
		r.Add("not_after", "is missing: a key without an end is never exchanged")
	}
	if _, err := profile.Methods(v.Methods); err != nil {
		r.Add("methods", "%s", err)
	}
	if v.MaxPerHour < 0 {
		r.Add("max_per_hour", "is negative")
	}
	if len(v.Realms) == 0 {
		r.Add("realms", "is missing, or empty: nothing would be allowed")
	}
}
