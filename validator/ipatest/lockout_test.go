package ipatest_test

import (
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

const tooMany = "Too many failed logins.\n"

// try binds and checks result, text and counter.
func try(t *testing.T, s *ipatest.Server, dn, password string, code, failures int) {
	t.Helper()
	got, text := bind(t, s, dn, password, false)
	if got != code || s.Failures(dn) != failures || (text == tooMany) != (code == 53) {
		t.Errorf("result %d %q, %d failures; want %d, %d", got, text, s.Failures(dn), code, failures)
	}
}

func TestLockout(t *testing.T) {
	now := newClock()
	s := start(t, ipatest.Config{Now: now.Now})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "Secret.123"})
	for i := range 6 {
		try(t, s, dn, "wrong", 49, i+1)
		now.Add(60 * time.Second) // the gap that still counts
	}
	now.Add(-60 * time.Second)
	if got := s.Get(dn, "krbLastFailedAuth"); len(got) != 1 || got[0] != now.Now().UTC().Format("20060102150405Z") {
		t.Errorf("last failure %q", got)
	}
	try(t, s, dn, "Secret.123", 53, 6)
	try(t, s, dn, "wrong", 53, 6)
	now.Add(599 * time.Second)
	try(t, s, dn, "Secret.123", 53, 6)
	now.Add(time.Second)
	try(t, s, dn, "wrong", 49, 1)
	try(t, s, dn, "Secret.123", 0, 0)
	if s.Binds(dn) != 11 || s.Refused(dn) != 10 {
		t.Errorf("%d binds, %d refused", s.Binds(dn), s.Refused(dn))
	}
}

// The count begins again only after a gap: a few a minute for ever lock in the end.
func TestFailureInterval(t *testing.T) {
	now := newClock()
	s := start(t, ipatest.Config{Now: now.Now})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "Secret.123"})
	for i := range 5 {
		try(t, s, dn, "wrong", 49, i+1)
	}
	now.Add(61 * time.Second)
	try(t, s, dn, "wrong", 49, 1)
	for i := range 5 {
		now.Add(15 * time.Second)
		try(t, s, dn, "wrong", 49, i+2)
	}
	try(t, s, dn, "Secret.123", 53, 6)
}

func TestOwnPolicy(t *testing.T) {
	now := newClock()
	s := start(t, ipatest.Config{Now: now.Now})
	policy := s.AddPolicy("strict", ipatest.Policy{MaxFailures: 1, Interval: time.Minute})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "Secret.123", Policy: "strict"})
	if got := s.Get(dn, "krbPwdPolicyReference"); len(got) != 1 || got[0] != policy {
		t.Errorf("policy %q, want %s", got, policy)
	}
	try(t, s, dn, "wrong", 49, 1)
	now.Add(1000 * time.Hour)
	if got, text := bind(t, s, dn, "Secret.123", false); got != 53 || text != "Entry permanently locked.\n" {
		t.Errorf("result %d %q", got, text)
	}
	if err := s.Set(dn, "krbLastAdminUnlock", now.Now().UTC().Format("20060102150405Z")); err != nil {
		t.Fatal(err)
	}
	try(t, s, dn, "Secret.123", 0, 0)
}

// Everything but success counts, wrong codes and inactivated accounts too; the service account
// is no Kerberos principal and cannot be locked out.
func TestWhatCounts(t *testing.T) {
	s := start(t, ipatest.Config{})
	s.AddToken(ipatest.Token{ID: "t", Owner: "bob"})
	bob := s.AddUser(ipatest.User{UID: "bob", Password: "Secret.123", AuthTypes: []string{"otp"}})
	try(t, s, bob, "Secret.123", 49, 1)
	try(t, s, bob, "Secret.123"+s.Code("t"), 0, 0)
	locked := s.AddUser(ipatest.User{UID: "eve", Password: "Secret.123", Locked: true})
	for range 6 {
		bind(t, s, locked, "Secret.123", false)
	}
	try(t, s, locked, "Secret.123", 53, 6)
	for range 10 {
		try(t, s, s.ServiceDN(), "wrong", 49, 0)
	}
	try(t, s, s.ServiceDN(), s.ServicePassword(), 0, 0)
	s.SetPolicy(ipatest.Policy{})
	for range 10 {
		try(t, s, bob, "wrong", 49, 0)
	}
}
