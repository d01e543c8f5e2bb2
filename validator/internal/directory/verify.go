package directory

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"
)

// maxProxies is how many RADIUS configurations Verify looks at.
const maxProxies = 500

// Finding is one thing that Verify has looked at.
type Finding struct {
	// Subject is what: a server, or a part of the directory.
	Subject string
	// OK tells that nothing is wrong with it.
	OK bool
	// Problem and Fix are what is wrong and what to do; empty when OK.
	Problem, Fix string
}

// Verify looks at the live directory for all that the configuration relies on, and says what is
// missing and how to mend it. It changes nothing, and tries no user's password: that users can
// read their own tokens shows only with the first login.
func (c *Client) Verify(ctx context.Context) []Finding {
	var findings []Finding
	up := false
	for _, s := range c.servers {
		f := c.verifyServer(ctx, s)
		findings, up = append(findings, f), up || f.OK
	}
	if !up {
		return findings
	}
	findings = append(findings, c.verifyUsers(ctx), c.verifyGlobal(ctx), c.verifyPolicy(ctx))
	return append(findings, c.verifyProxies(ctx)...)
}

// verifyServer connects, binds as the service account, and looks for suffix and control.
func (c *Client) verifyServer(ctx context.Context, s *server) Finding {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	f := Finding{Subject: "server " + s.url, OK: true}
	err := s.probe(ctx)
	if err == nil {
		return f
	}
	s.markDown(err)
	f.OK, f.Problem = false, err.Error()
	f.Fix = "start the server, or let this machine reach it"
	var bad *SettingError
	if errors.As(err, &bad) {
		f.Problem, f.Fix = bad.Err.Error(), "correct [directory] "+bad.Key
	}
	return f
}

// verifyUsers looks for a user whose name can be read.
func (c *Client) verifyUsers(ctx context.Context) Finding {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	f := Finding{Subject: "users"}
	attribute := c.c.PrincipalAttribute
	base, _ := c.base()
	entries, err := c.search(ctx, "", query{
		base: base, scope: ldap.ScopeWholeSubtree, limit: 1,
		filter: fmt.Sprintf("(&(objectClass=person)(%s=*))", attribute), attributes: []string{attribute},
	})
	switch {
	case err != nil && !hasCode(err, ldap.LDAPResultSizeLimitExceeded):
		f.Problem, f.Fix = err.Error(), "let the service account search below "+base
	case len(entries) == 0 || len(values(entries[0], attribute)) == 0:
		f.Problem = fmt.Sprintf("no entry of class person with a readable %s below %s", attribute, base)
		f.Fix = "let the service account read " + attribute + ", or correct [directory] " + keyAttribute + " or " + keyBaseDN
	default:
		f.OK = true
	}
	return f
}

// verifyGlobal looks for the realm's settings. A directory that is not FreeIPA's has none.
func (c *Client) verifyGlobal(ctx context.Context) Finding {
	return c.verifyPlace(ctx, "global authentication types", globalPlace, "ipaUserAuthType",
		"without it the realm's ipaUserAuthType counts for empty")
}

// verifyPolicy looks for the password policy of the realm.
func (c *Client) verifyPolicy(ctx context.Context) Finding {
	return c.verifyPlace(ctx, "password policy", c.policyPlace(), "krbPwdMaxFailure",
		"without it nobody knows how many failures lock an account: configure the throttle")
}

func (c *Client) verifyPlace(ctx context.Context, subject, place, attribute, without string) Finding {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	found, err := c.place(ctx, place, attribute)
	if err != nil {
		return Finding{Subject: subject, Problem: err.Error(), Fix: "let the service account read " + place}
	}
	if found == nil && c.c.OTPRequiredControl {
		return Finding{
			Subject: subject, Problem: place + " is not there or cannot be read; " + without,
			Fix: "let the service account read it",
		}
	}
	return Finding{Subject: subject, OK: true}
}

// verifyProxies looks whether every RADIUS configuration can be used.
func (c *Client) verifyProxies(ctx context.Context) []Finding {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	const subject = "RADIUS configurations"
	dn, err := c.below("cn=radiusproxy")
	if err != nil {
		return []Finding{{Subject: subject, Problem: err.Error(), Fix: "give [directory] " + keyBaseDN}}
	}
	entries, err := c.search(ctx, "", query{
		base: dn, scope: ldap.ScopeSingleLevel, limit: maxProxies,
		filter: "(objectClass=ipatokenRadiusConfiguration)",
		attributes: []string{
			"cn", "ipatokenRadiusServer", sharedAttribute, "ipatokenRadiusTimeout", "ipatokenRadiusRetries",
		},
	})
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchObject):
		return []Finding{{Subject: subject, OK: true}}
	case err != nil:
		return []Finding{{Subject: subject, Problem: err.Error(), Fix: "let the service account search " + dn}}
	}
	findings := []Finding{{Subject: subject, OK: true}}
	for _, found := range entries {
		f := Finding{Subject: "RADIUS configuration " + quoted(found.DN), OK: true}
		if s, ok := octets(found, sharedAttribute); !ok {
			f.OK, f.Problem, f.Fix = false, sharedAttribute+" is not there or cannot be read", secretFix
		} else if _, err := c.radius(found); err != nil {
			f.OK, f.Problem, f.Fix = false, err.Error(), "correct the entry: ipa radiusproxy-mod"
		} else {
			s.Wipe()
		}
		findings = append(findings, f)
	}
	return findings
}
