package ipatest_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// soon is longer than anything on loopback takes, and short enough to wait for.
const soon = 300 * time.Millisecond

// outcome is what a bind of the service account over TLS comes to within soon.
func outcome(t *testing.T, s *ipatest.Server) error {
	t.Helper()
	raw, err := net.DialTimeout("tcp", strings.TrimPrefix(s.LDAPS(), "ldaps://"), soon)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	if err := raw.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	over := tls.Client(raw, trust(t, s))
	if err := over.Handshake(); err != nil {
		return err
	}
	c := ldap.NewConn(over, true)
	c.Start()
	defer func() { _ = c.Close() }()
	return c.Bind(s.ServiceDN(), s.ServicePassword())
}

func TestFaults(t *testing.T) {
	s := start(t, ipatest.Config{})
	s.SetDelay(2 * soon)
	urls := [3]string{s.LDAPS(), s.LDAP(), s.LDAPI()}
	timeout := func(err error) bool {
		return errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(err.Error(), "i/o timeout")
	}
	for _, c := range []struct {
		name  string
		fault ipatest.Fault
		holds func(error) bool
	}{
		{"refuse", ipatest.Refuse, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		{"deaf", ipatest.Deaf, timeout},
		{"mute", ipatest.Mute, timeout},
		{"slow", ipatest.Slow, timeout},
		{"reset", ipatest.Reset, func(err error) bool { return strings.Contains(err.Error(), "reset by peer") }},
		{"hangup", ipatest.Hangup, func(err error) bool { return strings.HasSuffix(err.Error(), "EOF") }},
		{"garbage", ipatest.Garbage, func(err error) bool { return !timeout(err) }},
		{"huge", ipatest.Huge, timeout},
		{"stalled handshake", ipatest.StallTLS, timeout},
	} {
		idle := service(t, s)
		if err := s.SetFault(c.fault); err != nil {
			t.Fatal(err)
		}
		if err := outcome(t, s); err == nil || !c.holds(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := s.SetFault(ipatest.NoFault); err != nil {
			t.Fatal(err)
		}
		if err := outcome(t, s); err != nil {
			t.Errorf("%s: healed: %v", c.name, err)
		}
		if urls != [3]string{s.LDAPS(), s.LDAP(), s.LDAPI()} {
			t.Errorf("%s: the addresses have changed", c.name)
		}
		// A connection that the fault has not touched goes on, unless it was closed.
		if _, err := idle.WhoAmI(nil); (err != nil) != (c.fault == ipatest.Refuse) {
			t.Errorf("%s: idle connection: %v", c.name, err)
		}
		_ = idle.Close()
	}
	unix, err := ldap.DialURL(s.LDAPI())
	if err != nil {
		t.Fatalf("unix socket after all that: %v", err)
	}
	_ = unix.Close()
	for end := time.Now().Add(2 * time.Second); s.Connections() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are left", s.Connections())
		}
	}
}

func TestStallStartTLS(t *testing.T) {
	s := start(t, ipatest.Config{})
	if err := s.SetFault(ipatest.StallTLS); err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", strings.TrimPrefix(s.LDAP(), "ldap://"))
	if err != nil {
		t.Fatal(err)
	}
	c := ldap.NewConn(raw, false)
	c.Start()
	defer func() { _ = c.Close() }()
	done := make(chan error, 1)
	go func() { done <- c.StartTLS(trust(t, s)) }()
	select {
	case err := <-done:
		t.Errorf("StartTLS ended: %v", err)
	case <-time.After(soon):
	}
	if err := s.SetFault(ipatest.NoFault); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("StartTLS succeeded")
	}
}

// A reset comes in the middle of the answer, after the work was done.
func TestResetMidAnswer(t *testing.T) {
	s := start(t, ipatest.Config{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw"})
	raw, err := net.Dial("tcp", strings.TrimPrefix(s.LDAP(), "ldap://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if err := s.SetFault(ipatest.Reset); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Write(extended(1, "1.3.6.1.4.1.4203.1.11.3")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(raw); err == nil {
		t.Errorf("read %x to the end", got)
	}
	if err := s.SetFault(ipatest.NoFault); err != nil {
		t.Fatal(err)
	}
	s.SetBindFault(ipatest.Hangup)
	if err := outcome(t, s); err != nil {
		t.Errorf("service account: %v", err)
	}
	c := service(t, s)
	if err := c.Bind(dn, "wrong"); err == nil || !strings.HasSuffix(err.Error(), "EOF") {
		t.Errorf("user: %v", err)
	}
	if s.Failures(dn) != 1 || s.Binds(dn) != 1 {
		t.Errorf("%d failures, %d binds", s.Failures(dn), s.Binds(dn))
	}
	s.SetBindFault(ipatest.NoFault)
	if got, _ := bind(t, s, dn, "pw", false); got != 0 {
		t.Errorf("healed: result %d", got)
	}
}

func TestBindDelay(t *testing.T) {
	s := start(t, ipatest.Config{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw"})
	s.SetBindDelay(50*time.Millisecond, 100*time.Millisecond)
	c := service(t, s)
	for password, least := range map[string]time.Duration{"pw": 50 * time.Millisecond, "no": 100 * time.Millisecond} {
		began := time.Now()
		bindOn(t, c, dn, password, false)
		if took := time.Since(began); took < least {
			t.Errorf("%s took %s", password, took)
		}
	}
}

func TestCloseConnections(t *testing.T) {
	s := start(t, ipatest.Config{})
	c := service(t, s)
	s.CloseConnections()
	if who, err := c.WhoAmI(nil); err == nil {
		t.Errorf("after closing: bound as %v", who)
	}
	if err := outcome(t, s); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := outcome(t, s); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v", err)
	}
}
