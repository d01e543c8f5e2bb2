package login

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/radius"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

const (
	// KeySize is the size of a spend key in octets.
	KeySize = 32
	// MaxKeys is how many spend keys are accepted at a time.
	MaxKeys = 2
	// Keep is for how long a one-time code is remembered. A spend key has to be accepted as
	// long beside the next one.
	Keep = 30 * 24 * time.Hour
	// repeatFor is for how long an attempt made again is recognised.
	repeatFor = 5 * time.Minute
	// grace is what a validator may take to store an answer.
	grace = 5 * time.Second

	spendDomain = "estuary/validator/spend/v1\x00"
)

// Proxy is a RADIUS server group of the configuration, or what is particular about servers
// that the directory names.
type Proxy struct {
	// Target is the servers, with the times.
	Target radius.Target
	// Filter picks the accounts that it is for by an LDAP filter; empty for none: then only
	// its servers' settings are used, where the directory names one of them.
	Filter string
}

// plan is what is about to be done for an account.
type plan struct {
	account directory.Entry
	way     Way
	target  radius.Target // with RADIUS
	user    string        // at the RADIUS server
	subject state.Subject // the account's limit
	limit   time.Duration // for the back end
	// orPassword takes a bind without evidence of a second factor for a password's.
	orPassword bool
}

// plan decides what to do for the account, or why nothing is done.
func (l *Login) plan(ctx context.Context, e directory.Entry, a Attempt) (plan, string, error) {
	p := plan{account: e, limit: l.c.Timeout}
	global, err := l.c.Directory.GlobalTypes(ctx)
	if err != nil {
		return p, "", fmt.Errorf("reading the global authentication types: %w", err)
	}
	f := Facts{
		Types: Effective(e.AuthTypes, global), Linked: e.RADIUSLink != "", AcceptPassword: a.AcceptPassword,
		Control: l.c.Control, Evidence: l.c.Evidence,
	}
	proxy, err := l.assigned(ctx, e)
	if err != nil {
		return p, "", err
	}
	if proxy != nil {
		f.Types, f.Linked = []string{typeRADIUS}, true
	}
	way, reason := Decide(f)
	if reason != "" {
		return p, reason, nil
	}
	policy, err := l.c.Directory.Lockout(ctx, e)
	if err != nil {
		return p, "", fmt.Errorf("reading the password policy: %w", err)
	}
	p.way, p.subject = way, l.c.Throttle.Account(e.Realm, e.Principal, policy)
	p.orPassword = a.AcceptPassword && !l.c.Control && !slices.Contains(f.Types, typeOTP)
	if way != RADIUS {
		return p, "", nil
	}
	if proxy != nil {
		p.target, p.user = proxy.Target, e.UID
	} else if p.target, p.user, err = l.linked(ctx, e); err != nil {
		return p, "", err
	}
	p.limit = p.target.Timeout
	return p, "", nil
}

// assigned returns the proxy of the configuration that is for the account, or nil. An
// account's own link comes first.
func (l *Login) assigned(ctx context.Context, e directory.Entry) (*Proxy, error) {
	if e.RADIUSLink != "" {
		return nil, nil
	}
	for i, p := range l.c.Proxies {
		if p.Filter == "" {
			continue
		}
		matches, err := l.c.Directory.Matches(ctx, e, p.Filter)
		if err != nil {
			return nil, fmt.Errorf("holding the account against a filter of [[radius]]: %w", err)
		}
		if matches {
			return &l.c.Proxies[i], nil
		}
	}
	return nil, nil
}

// linked returns the servers that the account is linked to, each with what the configuration
// says of it.
func (l *Login) linked(ctx context.Context, e directory.Entry) (radius.Target, string, error) {
	proxy, err := l.c.Directory.Proxy(ctx, e)
	if err != nil {
		return radius.Target{}, "", fmt.Errorf("reading the account's RADIUS server: %w", err)
	}
	t := radius.Target{Timeout: proxy.Timeout, Retries: proxy.Retries}
	for _, named := range proxy.Servers {
		server := l.known(named)
		if server.Secret.Len() == 0 {
			server.Secret = proxy.Secret
		}
		t.Servers = append(t.Servers, server)
	}
	return t, proxy.User, nil
}

// digests returns what the credential is known by, under each key: HMAC-SHA256 over realm,
// canonical principal and password with code, each behind its length.
func (l *Login) digests(e directory.Entry, password secret.Bytes) [][]byte {
	ids := make([][]byte, 0, len(l.c.Keys))
	for _, key := range l.c.Keys {
		m := hmac.New(sha256.New, key.Reveal())
		m.Write([]byte(spendDomain))
		for _, field := range [][]byte{[]byte(e.Realm), []byte(e.Principal), password.Reveal()} {
			m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
			m.Write(field)
		}
		ids = append(ids, m.Sum(nil))
	}
	return ids
}
