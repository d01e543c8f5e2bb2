package directory

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	globalLife = 30 * time.Second // of the global authentication types
	policyLife = 5 * time.Minute  // of a password policy
)

// globalPlace is where FreeIPA keeps the settings of the realm.
const globalPlace = "cn=ipaConfig,cn=etc"

// GlobalTypes returns the realm's ipaUserAuthType in lower case, at most 30 s old; none where
// the directory has no such entry. The error is a *fault.Error of kind Unavailable.
func (c *Client) GlobalTypes(ctx context.Context) ([]string, error) {
	if types, ok := c.configs.get(globalPlace); ok {
		return slices.Clone(types), nil
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	found, err := c.place(ctx, globalPlace, "ipaUserAuthType")
	if err != nil {
		return nil, unavailable("GlobalTypes", err)
	}
	var types []string
	if found != nil {
		for _, t := range values(found, "ipaUserAuthType") {
			types = append(types, strings.ToLower(t))
		}
	}
	c.configs.put(globalPlace, types)
	return slices.Clone(types), nil
}

// place reads the entry at a place below the suffix; nil when it is not there.
func (c *Client) place(ctx context.Context, place string, attributes ...string) (*ldap.Entry, error) {
	if base, _ := c.base(); base == "" {
		if err := c.learn(ctx, place); err != nil {
			return nil, err
		}
	}
	dn, err := c.below(place)
	if err != nil {
		return nil, err
	}
	return c.entry(ctx, place, dn, attributes...)
}

// Lockout is what a replica does about failed logins. It is zero where there is no policy.
type Lockout struct {
	// MaxFailures lock the account (krbPwdMaxFailure); zero for never.
	MaxFailures int
	// Interval is how long after a failure the count begins again (krbPwdFailureCountInterval);
	// zero for never.
	Interval time.Duration
	// Duration is how long the account stays locked (krbPwdLockoutDuration); zero for ever.
	Duration time.Duration
}

// Lockout returns the password policy in effect for an entry, at most five minutes old: its
// own, or the realm's. The error is a *fault.Error of kind Unavailable.
func (c *Client) Lockout(ctx context.Context, e Entry) (Lockout, error) {
	if l, ok := c.policies.get(e.PolicyDN); ok {
		return l, nil
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	found, err := c.policy(ctx, e.PolicyDN)
	if err != nil {
		return Lockout{}, unavailable("Lockout", err)
	}
	var l Lockout
	if found != nil {
		if l, err = lockout(found); err != nil {
			c.unreadable(found.DN, "krbPwdMaxFailure, krbPwdFailureCountInterval or krbPwdLockoutDuration")
			return Lockout{}, unavailable("Lockout", err)
		}
	}
	c.policies.put(e.PolicyDN, l)
	return l, nil
}

var lockoutAttributes = []string{"krbPwdMaxFailure", "krbPwdFailureCountInterval", "krbPwdLockoutDuration"}

// policy returns the entry at own, or else the realm's.
func (c *Client) policy(ctx context.Context, own string) (*ldap.Entry, error) {
	if own != "" {
		if _, err := parseDN(own); err != nil {
			return nil, fmt.Errorf("krbPwdPolicyReference: %w", err)
		}
		if found, err := c.entry(ctx, fold(own), own, lockoutAttributes...); found != nil || err != nil {
			return found, err
		}
	}
	return c.place(ctx, c.policyPlace(), lockoutAttributes...)
}

// policyPlace is where FreeIPA keeps the policy of those who have no other.
func (c *Client) policyPlace() string {
	return "cn=global_policy,cn=" + ldap.EscapeDN(c.c.Realm) + ",cn=kerberos"
}

// lockout reads a policy. A number that cannot be read is an error: taken for none it would
// mean that nothing is ever locked.
func lockout(found *ldap.Entry) (Lockout, error) {
	var n [3]int
	for i, attribute := range lockoutAttributes {
		text := only(found, attribute)
		if text == "" {
			continue
		}
		number, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return Lockout{}, fmt.Errorf("%s of %.200q is not a number", attribute, found.DN)
		}
		n[i] = int(number)
	}
	return Lockout{
		MaxFailures: n[0],
		Interval:    time.Duration(n[1]) * time.Second,
		Duration:    time.Duration(n[2]) * time.Second,
	}, nil
}
