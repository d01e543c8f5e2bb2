package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
)

// maxGrace bounds renew_expired.
const maxGrace = 90 * 24 * time.Hour

// Certificates is the [certificates] table.
type Certificates struct {
	TrustAnchors config.Path `toml:"trust_anchors" doc:"The authority's certificate, PEM; during a change of its key the old and the new one. Certificates that it issued prove who holds them. Read again when it changes."`
}

// Manufacturer is a [[manufacturer]] table.
type Manufacturer struct {
	Name         string               `toml:"name" doc:"How the manufacturers of a [[label]] call it."`
	TrustAnchors config.Path          `toml:"trust_anchors" doc:"Certificates of the authority, PEM. Read again when it changes. The signer's profile has to name their SHA-256 in certificate_anchors."`
	Realm        string               `toml:"realm" doc:"Realm of the devices that its certificates prove; the signer's [[validator]] realms have to name it."`
	Principal    clientcert.Attribute `toml:"principal" doc:"Attribute of the certificate's subject with the name of the device: serialNumber (as in IEEE 802.1AR) or commonName."`
}

// SetDefaults sets what a table need not say.
func (m *Manufacturer) SetDefaults() { m.Principal = clientcert.SerialNumber }

// Check reports what is missing.
func (m Manufacturer) Check(r *config.Report) {
	if m.Name == "" || m.Name == clientcert.Own || strings.TrimSpace(m.Name) != m.Name {
		r.Add("name", "has to be a word other than %q", clientcert.Own)
	}
	needFile(r, "trust_anchors", m.TrustAnchors)
	needText(r, "realm", m.Realm)
	if strings.Contains(m.Realm, "@") {
		r.Add("realm", "has an @")
	}
	if !slices.Contains(clientcert.Attributes, m.Principal) {
		r.Add("principal", "has to be serialNumber or commonName, not %q", string(m.Principal))
	}
}

// checkCertificates holds the labels against the authorities that there are.
func (c *Config) checkCertificates(r *config.Report) {
	names := map[string]bool{}
	for i, m := range c.Manufacturers {
		if names[m.Name] {
			r.Add("manufacturer["+strconv.Itoa(i)+"].name", "another manufacturer has this name")
		}
		names[m.Name] = true
	}
	for i, l := range c.Labels {
		at := "label[" + strconv.Itoa(i) + "]."
		if l.Certificate && c.Certificates.TrustAnchors == "" {
			r.Add(at+"certificate", "needs [certificates] trust_anchors")
		}
		for j, name := range l.Manufacturers {
			switch {
			case !names[name]:
				r.Add(at+"manufacturers", "there is no manufacturer %q", name)
			case slices.Contains(l.Manufacturers[:j], name):
				r.Add(at+"manufacturers", "holds %q twice", name)
			}
		}
		switch d := time.Duration(l.RenewExpired); {
		case d < 0 || d > maxGrace:
			r.Add(at+"renew_expired", "has to be at most %s", config.Duration(maxGrace))
		case d > 0 && !l.Certificate:
			r.Add(at+"renew_expired", "is for certificates of the authority: certificate is not set")
		}
	}
}

// Verifier returns what certificates are judged by, without log and metrics.
func (c *Config) Verifier() clientcert.Config {
	out := clientcert.Config{Authority: string(c.Certificates.TrustAnchors)}
	for _, m := range c.Manufacturers {
		out.Manufacturers = append(out.Manufacturers, clientcert.Manufacturer{
			Name: m.Name, Anchors: string(m.TrustAnchors), Realm: m.Realm, Principal: m.Principal,
		})
	}
	return out
}
