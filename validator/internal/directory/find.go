package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
)

const (
	// maxFound is how many entries of one name are looked at: FreeIPA keeps people who have
	// left, and those who are to come, outside the accounts.
	maxFound = 8
	// maxManaged is how many hosts one host or service may manage.
	maxManaged = 2000
)

// identities is what Find looks among.
const identities = "(|(objectClass=person)(objectClass=ipaHost)(objectClass=ipaService))"

// Find returns the entry of a name: "alice", "alice@REALM", "host/h.example.com" or the like.
// The error is ErrNotFound, which a name of another realm or of no permitted form is as well,
// ErrAmbiguous, or a *fault.Error of kind Unavailable.
func (c *Client) Find(ctx context.Context, name string) (Entry, error) {
	local, ok := localPart(name, c.c.Realm)
	if !ok {
		return Entry{}, ErrNotFound
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	e, err := c.find(ctx, local)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrAmbiguous) {
		return Entry{}, unavailable("Find", err)
	}
	return e, err
}

func (c *Client) find(ctx context.Context, local string) (Entry, error) {
	key, asked := fold(local), c.asked(local)
	found, err := c.locate(ctx, key, asked)
	if err != nil {
		return Entry{}, err
	}
	e, err := c.describe(found)
	if err != nil {
		return Entry{}, err
	}
	if e.Kind == assertionv1.IdentityKind_IDENTITY_KIND_USER {
		return e, nil
	}
	e.ManagedHosts, err = c.managed(ctx, key, e.DN)
	return e, err
}

// locate returns the one entry that has the value.
func (c *Client) locate(ctx context.Context, key, asked string) (*ldap.Entry, error) {
	base, _ := c.base()
	if base == "" {
		if err := c.learn(ctx, key); err != nil {
			return nil, err
		}
		base, _ = c.base()
	}
	attribute := c.c.PrincipalAttribute
	entries, err := c.search(ctx, key, query{
		base: base, scope: ldap.ScopeWholeSubtree, limit: maxFound,
		filter:     fmt.Sprintf("(&%s(%s=%s))", identities, attribute, ldap.EscapeFilter(asked)),
		attributes: append([]string{attribute}, described...),
	})
	switch {
	case hasCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, ErrAmbiguous
	case err != nil:
		return nil, err
	}
	_, suffix := c.base()
	entries = slices.DeleteFunc(entries, func(e *ldap.Entry) bool { return provisional(e.DN, suffix) })
	switch len(entries) {
	case 0:
		return nil, ErrNotFound
	case 1:
	default:
		return nil, ErrAmbiguous
	}
	if !c.match(values(entries[0], attribute), asked) {
		return nil, ErrNotFound
	}
	return entries[0], nil
}

// learn has some server tell its suffix, which every new connection does.
func (c *Client) learn(ctx context.Context, key string) error {
	_, err := c.search(ctx, key, read("", "1.1"))
	if base, _ := c.base(); err == nil && base == "" {
		err = errNoBase
	}
	return err
}

// provisional tells whether a DN is below cn=provisioning, where FreeIPA keeps staged and
// preserved users: neither can log in.
func provisional(dn string, base distinguished) bool {
	parsed, err := parseDN(dn)
	if err != nil || len(parsed) <= len(base) {
		return false
	}
	return parsed.within(base, -1) && slices.Contains(parsed, provisioning[0])
}

var provisioning = parseOrNil("cn=provisioning")

// managed returns the names of the hosts that the entry manages, in lower case and in order.
func (c *Client) managed(ctx context.Context, key, dn string) ([]string, error) {
	base, _ := c.base()
	entries, err := c.search(ctx, key, query{
		base: base, scope: ldap.ScopeWholeSubtree, limit: maxManaged,
		filter:     fmt.Sprintf("(&(objectClass=ipaHost)(managedBy=%s))", ldap.EscapeFilter(dn)),
		attributes: []string{"fqdn"},
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the hosts that %.200q manages: %w", dn, err)
	}
	var names []string
	for _, e := range entries {
		for _, name := range values(e, "fqdn") {
			if !hostName(name) {
				c.unreadable(e.DN, "fqdn")
				continue
			}
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// hostName tells whether a value may be a host's name; what may stand in a certificate is for
// the signer to say.
func hostName(text string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
	return text != "" && len(text) <= 253 && strings.Trim(text, allowed) == ""
}

// unreadable tells the operator of a value that is not of its attribute's form.
func (c *Client) unreadable(dn, attribute string) {
	c.unparsable.Inc()
	c.c.Log.Warn("an attribute in the directory cannot be read, it counts for the stricter",
		slog.String("dn", quoted(dn)), slog.String("attribute", attribute))
}

// quoted is a text of the directory as it may stand in the log.
func quoted(text string) string { return fmt.Sprintf("%.200q", text) }
