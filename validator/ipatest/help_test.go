package ipatest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

const controlOTP = "2.16.840.1.113730.3.8.10.7"

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start starts a server that ends with the test.
func start(t testing.TB, c ipatest.Config) *ipatest.Server {
	t.Helper()
	c.Dir = t.TempDir()
	s, err := ipatest.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// trust returns a configuration that trusts the server's CA and nobody else.
func trust(t testing.TB, s *ipatest.Server) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in the CA file")
	}
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

// dial connects over TLS.
func dial(t testing.TB, s *ipatest.Server) *ldap.Conn {
	t.Helper()
	c, err := ldap.DialURL(s.LDAPS(), ldap.DialWithTLSConfig(trust(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	c.SetTimeout(20 * time.Second)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// service connects as the service account.
func service(t testing.TB, s *ipatest.Server) *ldap.Conn {
	t.Helper()
	c := dial(t, s)
	if err := c.Bind(s.ServiceDN(), s.ServicePassword()); err != nil {
		t.Fatal(err)
	}
	return c
}

// bind tries a password on a connection of its own and returns the result code and text.
func bind(t testing.TB, s *ipatest.Server, dn, password string, control bool) (int, string) {
	t.Helper()
	return bindOn(t, dial(t, s), dn, password, control)
}

func bindOn(t testing.TB, c *ldap.Conn, dn, password string, control bool) (int, string) {
	t.Helper()
	r := ldap.NewSimpleBindRequest(dn, password, nil)
	r.AllowEmptyPassword = true
	if control {
		r.Controls = []ldap.Control{ldap.NewControlString(controlOTP, true, "")}
	}
	_, err := c.SimpleBind(r)
	if err == nil {
		return 0, ""
	}
	var refused *ldap.Error
	if !errors.As(err, &refused) || refused.ResultCode >= ldap.ErrorNetwork {
		t.Fatalf("binding as %s: %v", dn, err)
	}
	return int(refused.ResultCode), refused.Err.Error()
}

// find searches and returns the DNs that were found.
func find(t testing.TB, c *ldap.Conn, base string, scope int, filter string) []string {
	t.Helper()
	r, err := c.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 0, 0, false, filter, []string{"1.1"}, nil))
	if err != nil {
		t.Fatalf("searching %s for %s: %v", base, filter, err)
	}
	var dns []string
	for _, e := range r.Entries {
		if len(e.Attributes) != 0 {
			t.Errorf("1.1 returned attributes of %s", e.DN)
		}
		dns = append(dns, e.DN)
	}
	slices.Sort(dns)
	return dns
}
