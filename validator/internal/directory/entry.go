package directory

import (
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
)

// described are the attributes that an Entry is made of. Operational ones, as some of them are
// in some servers, come only when they are named.
var described = []string{
	"objectClass", "krbCanonicalName", "uid", "cn", "mail", "memberOf", "ipaUserAuthType",
	"ipatokenRadiusConfigLink", "ipatokenRadiusUserName", "nsAccountLock",
	"krbPrincipalExpiration", "krbPasswordExpiration", "krbPwdPolicyReference",
}

// values returns the values of an attribute, whose name has no case.
func values(e *ldap.Entry, attribute string) []string {
	var all []string
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, attribute) {
			all = append(all, a.Values...)
		}
	}
	return all
}

// only returns the value of an attribute that can have one. Several, which a schema forbids,
// come as a text that is no value.
func only(e *ldap.Entry, attribute string) string {
	switch all := values(e, attribute); len(all) {
	case 0:
		return ""
	case 1:
		return all[0]
	}
	return severalValues
}

// severalValues is no DN, no name of a user, no time and no number.
const severalValues = "\x00several values"

// describe makes an Entry of what the server returned, without the managed hosts. The error is
// ErrNotFound when the canonical principal is not of this realm, ErrAmbiguous when it is of two
// kinds.
func (c *Client) describe(found *ldap.Entry) (Entry, error) {
	if _, err := parseDN(found.DN); err != nil {
		return Entry{}, err
	}
	e := Entry{DN: found.DN, Realm: c.c.Realm}
	var ok bool
	if e.Kind, ok = kindOf(values(found, "objectClass")); !ok {
		return Entry{}, ErrAmbiguous
	}
	if e.Principal, ok = c.canonical(values(found, c.c.PrincipalAttribute), values(found, "krbCanonicalName")); !ok {
		c.unreadable(found.DN, "krbCanonicalName")
		return Entry{}, ErrNotFound
	}
	e.UID, e.CN = preferred(values(found, "uid"), e.Principal), preferred(values(found, "cn"), "")
	e.Mail = values(found, "mail")
	e.Groups = c.groups(found)
	for _, t := range values(found, "ipaUserAuthType") {
		e.AuthTypes = append(e.AuthTypes, strings.ToLower(t))
	}
	e.RADIUSLink, e.RADIUSUser = only(found, "ipatokenRadiusConfigLink"), only(found, "ipatokenRadiusUserName")
	e.PolicyDN = only(found, "krbPwdPolicyReference")
	e.Locked = locked(values(found, "nsAccountLock"))
	e.PrincipalExpires = c.expiry(found, "krbPrincipalExpiration")
	e.PasswordExpires = c.expiry(found, "krbPasswordExpiration")
	return e, nil
}

// kindOf returns what an entry is by its object classes. FreeIPA's hosts are services too.
func kindOf(classes []string) (assertionv1.IdentityKind, bool) {
	has := func(names ...string) bool {
		return slices.ContainsFunc(classes, func(class string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, class) })
		})
	}
	// Not every server adds the superior classes to an inetOrgPerson.
	user, host, service := has("person", "organizationalPerson", "inetOrgPerson"), has("ipaHost"), has("ipaService")
	switch {
	case user && !host && !service:
		return assertionv1.IdentityKind_IDENTITY_KIND_USER, true
	case host && !user:
		return assertionv1.IdentityKind_IDENTITY_KIND_HOST, true
	case service && !user:
		return assertionv1.IdentityKind_IDENTITY_KIND_SERVICE, true
	}
	return assertionv1.IdentityKind_IDENTITY_KIND_UNSPECIFIED, false
}

// preferred returns the value that is the wanted one, or the first in alphabetical order: the
// order of a server says nothing.
func preferred(all []string, wanted string) string {
	switch {
	case len(all) == 0:
		return ""
	case slices.Contains(all, wanted):
		return wanted
	}
	return slices.Min(all)
}

// groups returns those of the configured groups that the entry is a member of: by memberOf, and
// only as cn=NAME,cn=groups,cn=accounts,BASE. A group of that name elsewhere is another one.
func (c *Client) groups(found *ldap.Entry) []string {
	if len(c.c.Groups) == 0 {
		return nil
	}
	_, base := c.base()
	place := slices.Concat(parseOrNil("cn=groups,cn=accounts"), base)
	var in []string
	for _, text := range values(found, "memberOf") {
		dn, err := parseDN(text)
		if err != nil {
			c.unreadable(found.DN, "memberOf")
			continue
		}
		attribute, name, ok := rdn(text)
		if !ok || attribute != "cn" || !dn.within(place, 1) {
			continue
		}
		for _, wanted := range c.c.Groups {
			if fold(wanted) == fold(name) && !slices.Contains(in, wanted) {
				in = append(in, wanted)
			}
		}
	}
	slices.Sort(in)
	return in
}

// locked tells whether nsAccountLock is there and is anything but one "false".
func locked(all []string) bool {
	return len(all) > 1 || len(all) == 1 && !strings.EqualFold(all[0], "false")
}

// epoch stands for a time that cannot be read: it is over.
var epoch = time.Unix(0, 0).UTC()

// expiry returns the time that an attribute holds; zero where it is absent.
func (c *Client) expiry(found *ldap.Entry, attribute string) time.Time {
	text := only(found, attribute)
	if text == "" && len(values(found, attribute)) == 0 {
		return time.Time{}
	}
	t, err := parseTime(text)
	if err != nil {
		c.unreadable(found.DN, attribute)
		return epoch
	}
	return t
}
