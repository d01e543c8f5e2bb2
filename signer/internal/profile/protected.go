package profile

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/text/unicode/norm"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// Protected is the [protected] table: who and what gets no certificate here, whatever a
// validator asserts. It bounds what a taken validator can do.
type Protected struct {
	Principals []string `toml:"principals" doc:"Principals that get no certificate, in any case and form of letters: \"admin\" in every realm, \"admin@EXAMPLE.TEST\" in one. What stands before an @ or a / counts too."`
	Names      []string `toml:"names" doc:"Names that no certificate carries, each with its type: \"dns:ipa.example.test\". A wildcard that would match one is refused too, and so are addresses and URIs under it."`
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

// principal tells whether an identity is protected: by its principal, by what stands there
// before the realm or the instance, or by its uid. Letters of either case count as the same,
// and so do compatible characters (Unicode NFKC), because directories see it so.
func (p Protected) principal(id *assertionv1.Identity) bool {
	full, realm := norm.NFKC.String(id.GetPrincipal()), norm.NFKC.String(id.GetRealm())
	beforeRealm, _, _ := strings.Cut(full, "@")
	beforeInstance, _, _ := strings.Cut(full, "/")
	for _, protected := range p.Principals {
		protected = norm.NFKC.String(protected)
		for _, name := range []string{full, beforeRealm, beforeInstance, norm.NFKC.String(id.GetUid())} {
			if name != "" && (strings.EqualFold(protected, name) || strings.EqualFold(protected, name+"@"+realm)) {
				return true
			}
		}
	}
	return false
}

// name tells whether a certificate with these names or this subject would stand for
// something protected. Subjects count, because old software reads host names there, and so
// do the hosts within other names.
func (p Protected) name(names []csr.Name, subject []dn.Element) bool {
	for _, protected := range p.Names {
		_, value, _ := strings.Cut(protected, ":")
		for _, n := range names {
			for _, name := range []string{n.String(), hostOf(n)} {
				if strings.EqualFold(name, protected) || covers(name, protected) {
					return true
				}
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

// hostOf returns the host that a URI or a mail address names, written like a name of its
// own, "" where there is none.
func hostOf(n csr.Name) string {
	var host string
	switch n.Type {
	case csr.URI:
		u, err := url.Parse(n.Value)
		if err != nil {
			return "" // setNames refuses it
		}
		host = u.Hostname()
	case csr.Email:
		host = n.Value[strings.LastIndexByte(n.Value, '@')+1:]
	}
	if host == "" {
		return ""
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return string(csr.IP) + ":" + host
	}
	return string(csr.DNS) + ":" + host
}

// covers tells whether name is a wildcard that matches the protected one: its first label
// stands for exactly one (RFC 9525 section 6.3).
func covers(name, protected string) bool {
	below, wildcard := strings.CutPrefix(strings.ToLower(name), "dns:*.")
	value, dns := strings.CutPrefix(strings.ToLower(protected), "dns:")
	_, parent, _ := strings.Cut(value, ".")
	return wildcard && dns && parent == below
}
