package profile

import (
	"strings"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// Protected is the [protected] table: who and what gets no certificate here, whatever a
// validator asserts. It bounds what a taken validator can do.
type Protected struct {
	Principals []string `toml:"principals" doc:"Principals that get no certificate, in any case of letters: \"admin\" in every realm, \"admin@EXAMPLE.TEST\" in one."`
	Names      []string `toml:"names" doc:"Names that no certificate carries, each with its type: \"dns:ipa.example.test\". A wildcard name that would match one is refused too."`
}

// Check reports names that cannot be read.
func (p Protected) Check(r *config.Report) {
	for _, principal := range p.Principals {
		if strings.TrimSpace(principal) != principal || principal == "" {
			r.Add("principals", "%q is not a principal", principal)
		}
	}
	for _, name := range p.Names {
		if _, err := csr.ParseName(name); err != nil {
			r.Add("names", "%q: %s", name, err)
		}
	}
}

// principal tells whether an identity is protected. Letters of either case count as the
// same, because directories see it so.
func (p Protected) principal(id *assertionv1.Identity) bool {
	for _, protected := range p.Principals {
		for _, name := range []string{id.GetPrincipal(), id.GetUid()} {
			if name != "" && (strings.EqualFold(protected, name) || strings.EqualFold(protected, name+"@"+id.GetRealm())) {
				return true
			}
		}
	}
	return false
}

// name tells whether a certificate with these names or this subject would stand for
// something protected. Subjects count, because old software reads host names there.
func (p Protected) name(names []csr.Name, subject []dn.Element) bool {
	for _, protected := range p.Names {
		_, value, _ := strings.Cut(protected, ":")
		for _, n := range names {
			if strings.EqualFold(n.String(), protected) || covers(n.String(), protected) {
				return true
			}
		}
		for _, e := range subject {
			if strings.EqualFold(e.Value, value) || covers("dns:"+e.Value, protected) {
				return true
			}
		}
	}
	return false
}

// covers tells whether name is a wildcard that matches the protected one: its first label
// stands for exactly one (RFC 9525 section 6.3).
func covers(name, protected string) bool {
	below, wildcard := strings.CutPrefix(strings.ToLower(name), "dns:*.")
	value, dns := strings.CutPrefix(strings.ToLower(protected), "dns:")
	_, parent, _ := strings.Cut(value, ".")
	return wildcard && dns && parent == below
}
