package directory

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// ranked returns the servers that are up, the one that key is pinned to first. Rendezvous
// hashing: when a server is lost only its own keys move, and they come back with it. A user's
// counters and the watermark of a code are a replica's own (they are not, or late, replicated).
func (c *Client) ranked(key string) ([]*server, error) {
	type place struct {
		server *server
		weight uint64
	}
	var places []place
	var why []string
	for _, s := range c.servers {
		if err := s.reason(); err != nil {
			why = append(why, fmt.Sprintf("%s (%v)", s.url, err))
			continue
		}
		sum := sha256.Sum256([]byte(s.url + "\x00" + key))
		places = append(places, place{s, binary.BigEndian.Uint64(sum[:8])})
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("every directory server is down: %s", strings.Join(why, ", "))
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(b.weight, a.weight) })
	servers := make([]*server, len(places))
	for i, p := range places {
		servers[i] = p.server
	}
	return servers, nil
}

// share returns ctx with the part of its time that the first of n servers gets: one that
// hangs must leave the others some.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n < 2 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}

// search runs a query on the server that key is pinned to, or on the next one where that is
// lost. An answer, whatever it says, is final.
func (c *Client) search(ctx context.Context, key string, q query) ([]*ldap.Entry, error) {
	servers, err := c.ranked(key)
	if err != nil {
		return nil, err
	}
	for i, s := range servers {
		attempt, cancel := share(ctx, len(servers)-i)
		var entries []*ldap.Entry
		entries, err = s.search(attempt, q)
		cancel()
		if !next(ctx, err) {
			return entries, named(s, err)
		}
	}
	return nil, named(servers[len(servers)-1], err)
}

func named(s *server, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("asking %s: %w", s.url, err)
}

// next tells whether another server may be tried after err.
func next(ctx context.Context, err error) bool {
	var lost *lostError
	return errors.As(err, &lost) && ctx.Err() == nil
}

// one returns the single entry of a query for exactly that DN; nil when it is not there, or
// not to be seen, which servers do not tell apart.
func one(entries []*ldap.Entry, err error, dn string) (*ldap.Entry, error) {
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchObject):
		return nil, nil // the documented outcome
	case err != nil:
		return nil, err
	case len(entries) == 0:
		return nil, nil // the documented outcome
	case len(entries) > 1 || !sameDN(entries[0].DN, dn):
		return nil, fmt.Errorf("the server answers with another entry than %.200q", dn)
	}
	return entries[0], nil
}

// entry reads one entry by its DN; nil when it is not there.
func (c *Client) entry(ctx context.Context, key, dn string, attributes ...string) (*ldap.Entry, error) {
	entries, err := c.search(ctx, key, read(dn, attributes...))
	return one(entries, err, dn)
}
