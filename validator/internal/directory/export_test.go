package directory

import (
	"context"
	"net"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// ParseTime, LocalPart, SameDN and Fold are for tests.
var (
	ParseTime = parseTime
	LocalPart = localPart
	SameDN    = sameDN
	Fold      = fold
)

// Exchange asks who we are over a connection that a test has made.
func Exchange(ctx context.Context, conn net.Conn) error {
	s := &session{wire: newWire(conn)}
	s.conn = ldap.NewConn(s.wire, true)
	s.conn.Start()
	defer s.close()
	_, err := s.whoAmI(ctx)
	return err
}

// HasToken binds as a user, without the control, and looks for an active token.
func HasToken(ctx context.Context, c *Client, e Entry, password string) (bool, error) {
	u, err := c.servers[0].connect(ctx)
	if err != nil {
		return false, err
	}
	defer u.close()
	if _, err := u.bind(ctx, ldap.NewSimpleBindRequest(e.DN, password, nil)); err != nil {
		return false, err
	}
	return c.hasToken(ctx, u, e)
}

// Idle returns how many connections lie unused, and closes those that do so for life.
func Idle(c *Client, life time.Duration) (n int) {
	for _, s := range c.servers {
		s.drop(life)
		s.mu.Lock()
		n += len(s.idle)
		s.mu.Unlock()
	}
	return n
}

// Age makes the connections that lie unused older.
func Age(c *Client, by time.Duration) {
	for _, s := range c.servers {
		s.mu.Lock()
		for _, u := range s.idle {
			u.used = u.used.Add(-by)
		}
		s.mu.Unlock()
	}
}

// Pinned returns the URLs of the servers that are up, the one of the key first.
func Pinned(c *Client, key string) (urls []string) {
	servers, _ := c.ranked(fold(key))
	for _, s := range servers {
		urls = append(urls, s.url)
	}
	return urls
}
