package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/services/secret"
)

// The values of a RADIUS configuration that has none of its own (ipa-otpd's), and their bounds.
const (
	proxyTimeout    = 15 * time.Second
	proxyRetries    = 3
	maxProxyTimeout = 25 // a call to the validator ends before 30 s
	maxProxyRetries = 10
)

// sharedAttribute is what only an ACI of our own lets the service account read.
const sharedAttribute = "ipatokenRadiusSecret"

// secretFix is what to do when it cannot.
const secretFix = "add the ACI of deploy/freeipa, which lets the service account read " + sharedAttribute

// RADIUSProxy is the RADIUS configuration that a user is linked to.
type RADIUSProxy struct {
	// Name is its cn.
	Name string
	// Servers are host, host:port or [v6]:port, as stored.
	Servers []string
	// Secret is shared with all of them.
	Secret secret.Bytes
	// Timeout is the time for all sends together.
	Timeout time.Duration
	// Retries is how often a request is sent again.
	Retries int
	// User is the name of the user there.
	User string
}

// Proxy returns the RADIUS configuration of an entry that has a RADIUSLink. The error is a
// *fault.Error of kind Unavailable: a link that leads nowhere is the administrator's to mend.
func (c *Client) Proxy(ctx context.Context, e Entry) (RADIUSProxy, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	p, err := c.proxy(ctx, e)
	if err != nil {
		return RADIUSProxy{}, unavailable("Proxy", err)
	}
	return p, nil
}

func (c *Client) proxy(ctx context.Context, e Entry) (RADIUSProxy, error) {
	if _, err := parseDN(e.RADIUSLink); err != nil {
		return RADIUSProxy{}, fmt.Errorf("ipatokenRadiusConfigLink of %.200q: %w", e.DN, err)
	}
	key := fold(e.Principal)
	found, err := c.entry(ctx, key, e.RADIUSLink, "cn", "ipatokenRadiusServer", sharedAttribute,
		"ipatokenRadiusTimeout", "ipatokenRadiusRetries", "ipatokenUserMapAttribute")
	if err != nil {
		return RADIUSProxy{}, fmt.Errorf("reading the RADIUS configuration %.200q: %w", e.RADIUSLink, err)
	}
	if found == nil {
		return RADIUSProxy{}, fmt.Errorf("the RADIUS configuration %.200q is not there", e.RADIUSLink)
	}
	p, err := c.radius(found)
	if err != nil {
		return RADIUSProxy{}, fmt.Errorf("the RADIUS configuration %.200q: %w", e.RADIUSLink, err)
	}
	p.User, err = c.radiusUser(ctx, key, e, only(found, "ipatokenUserMapAttribute"))
	return p, err
}

// radius reads an entry of FreeIPA's class ipatokenRadiusConfiguration.
func (c *Client) radius(found *ldap.Entry) (RADIUSProxy, error) {
	p := RADIUSProxy{Name: preferred(values(found, "cn"), ""), Servers: values(found, "ipatokenRadiusServer")}
	if len(p.Servers) == 0 {
		return p, errors.New("it has no ipatokenRadiusServer")
	}
	for _, s := range p.Servers {
		if s == "" || len(s) > maxName || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
			return p, fmt.Errorf("its ipatokenRadiusServer %.80q is not a server", s)
		}
	}
	var ok bool
	if p.Secret, ok = octets(found, sharedAttribute); !ok {
		c.c.Log.Error("the secret of a RADIUS configuration cannot be read",
			slog.String("dn", quoted(found.DN)), slog.String("fix", secretFix))
		return p, errors.New("its secret is not there or cannot be read: " + secretFix)
	}
	timeout, err := number(only(found, "ipatokenRadiusTimeout"), int(proxyTimeout/time.Second), 1, maxProxyTimeout)
	if err != nil {
		return p, fmt.Errorf("its ipatokenRadiusTimeout: %w", err)
	}
	p.Timeout = time.Duration(timeout) * time.Second
	if p.Retries, err = number(only(found, "ipatokenRadiusRetries"), proxyRetries, 0, maxProxyRetries); err != nil {
		return p, fmt.Errorf("its ipatokenRadiusRetries: %w", err)
	}
	return p, nil
}

// octets returns the single, not empty value of an attribute of octets.
func octets(e *ldap.Entry, attribute string) (secret.Bytes, bool) {
	var all [][]byte
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, attribute) {
			all = append(all, a.ByteValues...)
		}
	}
	if len(all) != 1 || len(all[0]) == 0 {
		return secret.Bytes{}, false
	}
	return secret.New(all[0]), true
}

// number reads a number that is at least lowest; above highest it is highest.
func number(text string, without, lowest, highest int) (int, error) {
	if text == "" {
		return without, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || int(n) < lowest {
		return 0, fmt.Errorf("it is not a number of at least %d", lowest)
	}
	return min(int(n), highest), nil
}

// radiusUser returns the name of the user at its RADIUS servers: its own ipatokenRadiusUserName,
// else the mapped attribute, else the uid.
func (c *Client) radiusUser(ctx context.Context, key string, e Entry, mapped string) (string, error) {
	user := e.RADIUSUser
	if user == "" && mapped != "" {
		if !attributeName(mapped) {
			return "", fmt.Errorf("ipatokenUserMapAttribute %.80q is not an attribute", mapped)
		}
		found, err := c.entry(ctx, key, e.DN, mapped)
		if err != nil {
			return "", fmt.Errorf("reading %s of %.200q: %w", mapped, e.DN, err)
		}
		if found == nil {
			return "", fmt.Errorf("%.200q is no longer there", e.DN)
		}
		user = only(found, mapped)
	}
	if user == "" {
		user = e.UID
	}
	if user == "" || user == severalValues || strings.ContainsRune(user, 0) {
		return "", fmt.Errorf("%.200q has no single RADIUS user name", e.DN)
	}
	return user, nil
}
