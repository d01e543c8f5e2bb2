package directory

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// maxTokens is how many tokens of a user are looked at.
const maxTokens = 100

// proved tells whether there is what a second factor takes: the evidence where it is
// configured, else an active token. It is looked for after the bind, on the server that did
// it: a token that is made while the bind runs cannot have been part of it.
func (c *Client) proved(ctx context.Context, s *server, u *session, e Entry) (bool, error) {
	if c.c.Evidence == "" {
		return c.hasToken(ctx, u, e)
	}
	entries, err := s.search(ctx, query{
		base: e.DN, scope: ldap.ScopeBaseObject, filter: c.c.Evidence, attributes: []string{"1.1"}, limit: 1,
	})
	found, err := one(entries, err, e.DN)
	if err != nil {
		return false, fmt.Errorf("looking for the evidence of %.200q: %w", e.DN, err)
	}
	return found != nil, nil
}

// hasToken looks, as the user, for an active token. FreeIPA lets users read their own.
func (c *Client) hasToken(ctx context.Context, u *session, e Entry) (bool, error) {
	base, err := c.below("cn=otp")
	if err != nil {
		return false, err
	}
	entries, err := u.search(ctx, query{
		base: base, scope: ldap.ScopeWholeSubtree, limit: maxTokens,
		filter: fmt.Sprintf("(&(|(objectClass=ipatokenTOTP)(objectClass=ipatokenHOTP))(ipatokenOwner=%s)(!(ipatokenDisabled=TRUE)))",
			ldap.EscapeFilter(e.DN)),
		attributes: []string{"objectClass", "ipatokenOwner", "ipatokenDisabled", "ipatokenNotBefore", "ipatokenNotAfter"},
	})
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchObject):
		return false, nil // not FreeIPA
	case err != nil && !hasCode(err, ldap.LDAPResultSizeLimitExceeded):
		return false, fmt.Errorf("looking for tokens of %.200q: %w", e.DN, err)
	}
	for _, found := range entries {
		if c.active(found, e.DN) {
			return true, nil
		}
	}
	return false, nil
}

// clockSkew is by how much the directory's clock may differ from ours.
const clockSkew = time.Minute

// active tells whether an entry is a token of that owner which is good now. It looks at all
// that the filter has asked for: what cannot be read does not count.
func (c *Client) active(token *ldap.Entry, owner string) bool {
	if !sameDN(only(token, "ipatokenOwner"), owner) {
		return false
	}
	kind := false
	for _, class := range values(token, "objectClass") {
		kind = kind || strings.EqualFold(class, "ipatokenTOTP") || strings.EqualFold(class, "ipatokenHOTP")
	}
	if !kind || locked(values(token, "ipatokenDisabled")) {
		return false
	}
	// By the directory's clock and by ours: a token of which only one of them says that it is
	// good did not take part in the bind, perhaps.
	early, late := c.c.Now().Add(-clockSkew), c.c.Now().Add(clockSkew)
	if len(values(token, "ipatokenNotBefore")) != 0 {
		if t, err := parseTime(only(token, "ipatokenNotBefore")); err != nil || early.Before(t) {
			return false
		}
	}
	if len(values(token, "ipatokenNotAfter")) != 0 {
		if t, err := parseTime(only(token, "ipatokenNotAfter")); err != nil || late.After(t) {
			return false
		}
	}
	return true
}
