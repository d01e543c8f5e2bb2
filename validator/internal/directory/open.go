package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/go-ldap/ldap/v3"
)

const (
	// ControlOTPRequired is FreeIPA's control for a bind that needs a second factor.
	ControlOTPRequired = "2.16.840.1.113730.3.8.10.7"

	passwordExpired = ldap.ControlTypeVChuPasswordMustChange
)

// Open asks every server. The error is of those that answer and show that the configuration is
// wrong; each is a *SettingError. That servers are merely down is in the log: they are taken
// in, with the same checks, when they come up.
func (c *Client) Open(ctx context.Context) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	errs := make([]error, len(c.servers))
	var all sync.WaitGroup
	for i, s := range c.servers {
		all.Go(func() { errs[i] = s.probe(ctx) })
	}
	all.Wait()
	var wrong []error
	down := 0
	for i, err := range errs {
		if err == nil {
			continue
		}
		down++
		c.servers[i].markDown(err)
		var bad *SettingError
		if errors.As(err, &bad) {
			wrong = append(wrong, bad)
		}
	}
	if len(wrong) == 0 && down == len(c.servers) {
		c.c.Log.Warn("no directory server can be reached, starting without", slog.Int("servers", down))
	}
	return errors.Join(wrong...)
}

// probe tells whether the server can be worked with, and marks it up if so.
func (s *server) probe(ctx context.Context) error {
	u, err := s.open(ctx)
	if err == nil {
		if err = s.inspect(ctx, u); err != nil {
			u.close()
		}
	}
	if err = s.count(s.diagnose(err)); err != nil {
		return err
	}
	s.markUp()
	s.give(u)
	return nil
}

// inspect looks for what a server needs to have beside a working service account.
func (s *server) inspect(ctx context.Context, u *session) error {
	c := s.client
	if c.c.BindDN == "" {
		who, err := u.whoAmI(ctx)
		if err == nil && who == "" {
			return s.wrong(keyBindDN, "SASL EXTERNAL leaves us anonymous: map the socket's user (autobind) or the certificate to an entry, or give a service account")
		}
		if err != nil && !hasCode(err, ldap.LDAPResultProtocolError) {
			return fmt.Errorf("asking who we are: %w", err)
		}
	}
	base, _ := c.base()
	entries, err := u.search(ctx, read(base, "1.1"))
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultReferral, ldap.LDAPResultInvalidDNSyntax), err == nil && len(entries) == 0:
		return s.wrong(keyBaseDN, "%.200q is not there, or the service account may not read it", base)
	case err != nil:
		return fmt.Errorf("reading %.200q: %w", base, err)
	}
	if !c.c.OTPRequiredControl {
		return nil
	}
	known, err := controls(ctx, u)
	if err != nil {
		return err
	}
	if !slices.Contains(known, ControlOTPRequired) {
		return s.wrong(keyControl, "the server does not know the control %s: only FreeIPA's do, set it to false for others", ControlOTPRequired)
	}
	return nil
}

// controls returns the controls that the server says it knows.
func controls(ctx context.Context, u *session) ([]string, error) {
	entries, err := u.search(ctx, read("", "supportedControl"))
	if err != nil {
		return nil, fmt.Errorf("reading the root DSE: %w", err)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	return values(entries[0], "supportedControl"), nil
}

// learnBase asks for the suffix where the configuration does not have it and no server has
// told it yet.
func (c *Client) learnBase(ctx context.Context, u *session) error {
	if base, _ := c.base(); base != "" {
		return nil
	}
	entries, err := u.search(ctx, read("", "defaultNamingContext", "namingContexts"))
	if err != nil {
		return lose(ctx, fmt.Errorf("reading the root DSE: %w", err))
	}
	var base string
	if len(entries) == 1 {
		if contexts := values(entries[0], "namingContexts"); len(contexts) == 1 {
			base = contexts[0]
		}
		if first := values(entries[0], "defaultNamingContext"); len(first) == 1 {
			base = first[0]
		}
	}
	parsed, err := parseDN(base)
	if err != nil {
		return lose(ctx, errManyBases)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.baseText == "" {
		c.baseText, c.baseDN = base, parsed
	}
	return nil
}

var errManyBases = errors.New("the server names no single suffix: give one")

func (s *server) wrong(key, format string, args ...any) error {
	return &SettingError{Key: key, Server: s.url, Err: fmt.Errorf(format, args...)}
}

// diagnose makes a *SettingError of what can only come from a wrong configuration, of the
// server or of ours: waiting does not help.
func (s *server) diagnose(err error) error {
	var untrusted *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var account *accountError
	var refused *resultError
	switch {
	case errors.As(err, &untrusted):
		return s.wrong(keyCA, "the server's certificate is not trusted for %q: give its authority, and the host name that it carries: %w", s.host, untrusted.Err)
	case errors.As(err, &plain):
		return s.wrong(keyServers, "it does not speak TLS here: ldap:// with its plain port starts TLS: %w", err)
	case errors.Is(err, errNoStartTLS):
		return s.wrong(keyServers, "passwords are not sent in clear: switch StartTLS on in the server, or use ldaps://: %w", err)
	case errors.Is(err, errManyBases):
		return s.wrong(keyBaseDN, "%w", err)
	case errors.As(err, &account) && errors.As(account.err, &refused) && !transient(refused.code):
		keys := []string{keyBindDN, keyPassword}
		if s.client.c.BindDN == "" {
			keys = []string{keyBindDN, keyCertificate}
		}
		return s.wrong(strings.Join(keys, ", "), "the server refuses the service account: %w", refused)
	}
	return err
}

// transient tells whether a result code says that another time may do better.
func transient(code uint16) bool {
	switch code {
	case ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultOperationsError, ldap.LDAPResultOther,
		ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultAdminLimitExceeded:
		return true
	}
	return false
}
