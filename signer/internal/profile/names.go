package profile

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/csr"
)

// oidSubjectAltName is RFC 5280 section 4.2.1.6.
const oidSubjectAltName = "2.5.29.17"

// entitled returns the names that an identity may have in a certificate, in canonical form
// and in the order of the assertion, each once. Other names log people in: there are none but
// those that are made here of a user's principal, whatever a token allows.
func (r *rule) entitled(a *assertionv1.Assertion) ([]csr.Name, error) {
	var texts, kerberos []string
	id := a.GetIdentity()
	switch id.GetKind() {
	case assertionv1.IdentityKind_IDENTITY_KIND_DEVICE:
		texts = a.GetToken().GetAllowedNames()
	case assertionv1.IdentityKind_IDENTITY_KIND_HOST, assertionv1.IdentityKind_IDENTITY_KIND_SERVICE:
		_, host, found := strings.Cut(id.GetPrincipal(), "/")
		if !found {
			return nil, forbid("the principal names no host")
		}
		texts = prefixed("dns:", append([]string{host}, id.GetManagedHosts()...))
	case assertionv1.IdentityKind_IDENTITY_KIND_USER:
		var err error
		if kerberos, err = r.kerberosNamesOf(id); err != nil {
			return nil, err
		}
		texts = append(prefixed("email:", id.GetMail()), kerberos...)
	}
	var names []csr.Name
	for _, text := range texts {
		name, err := csr.ParseName(text)
		switch {
		case err != nil:
			return nil, forbid("a name of the identity cannot stand in a certificate: %s", err)
		case name.Type == csr.Other && !slices.Contains(kerberos, text):
			return nil, forbid("names of type other are not issued but for users")
		case name.Wildcard() && id.GetKind() != assertionv1.IdentityKind_IDENTITY_KIND_DEVICE:
			return nil, forbid("%s is not the name of a host", short(name.Value))
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

func prefixed(prefix string, values []string) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		out = append(out, prefix+v)
	}
	return out
}

// chooseNames returns the names for the certificate. A name of the request counts only if it
// is literally one of those that the identity is entitled to: a wildcard among them stands
// for itself, not for what it would match.
func (r *rule) chooseNames(a *assertionv1.Assertion, request *csr.Request) ([]csr.Name, error) {
	may, err := r.entitled(a)
	if err != nil {
		return nil, err
	}
	if r.SAN == sanNone {
		may = nil
	}
	var asked []csr.Name
	for _, name := range request.Names() {
		switch {
		case slices.Contains(may, name):
			asked = append(asked, name)
		case r.CSRNames == refuse:
			return nil, forbid("the request asks for the name %s, which this identity may not have under this label", short(name.String()))
		}
	}
	if r.SAN == sanRequested {
		return asked, nil
	}
	return may, nil
}

// setNames puts names into the template.
func setNames(t *x509.Certificate, names []csr.Name) error {
	for _, name := range names {
		kind, value, _ := strings.Cut(name.String(), ":")
		switch kind {
		case "dns":
			t.DNSNames = append(t.DNSNames, value)
		case "email":
			t.EmailAddresses = append(t.EmailAddresses, value)
		case "ip":
			ip := net.ParseIP(value)
			if ip == nil {
				return fmt.Errorf("%q is not an address", value)
			}
			t.IPAddresses = append(t.IPAddresses, ip)
		case "uri":
			u, err := url.Parse(value)
			if err != nil || u.String() != value {
				return forbid("the URI %s would change in a certificate", short(value))
			}
			t.URIs = append(t.URIs, u)
		case string(csr.Other): // setOtherNames writes them
		default:
			return forbid("names of type %s are not issued", short(kind))
		}
	}
	return setOtherNames(t, names)
}

// short makes a name fit for a message.
func short(s string) string { return fmt.Sprintf("%.80q", s) }
