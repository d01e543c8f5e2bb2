package ipatest_test

import (
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// BenchmarkBind measures password and HOTP code: on one connection per processor, and on a new
// one, with a TLS handshake, for each.
func BenchmarkBind(b *testing.B) {
	for _, fresh := range []bool{false, true} {
		name := "kept"
		if fresh {
			name = "fresh"
		}
		b.Run(name, func(b *testing.B) {
			s := start(b, ipatest.Config{Replays: true})
			dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw", AuthTypes: []string{"otp"}})
			s.AddToken(ipatest.Token{ID: "t", Owner: "alice"})
			password, config := "pw"+s.Code("t"), trust(b, s)
			b.RunParallel(func(pb *testing.PB) {
				var c *ldap.Conn
				for pb.Next() {
					if c == nil || fresh {
						if c != nil {
							_ = c.Close()
						}
						var err error
						if c, err = ldap.DialURL(s.LDAPS(), ldap.DialWithTLSConfig(config)); err != nil {
							b.Error(err)
							return
						}
					}
					if err := c.Bind(dn, password); err != nil {
						b.Error(err)
						return
					}
				}
				if c != nil {
					_ = c.Close()
				}
			})
		})
	}
}

// Many clients at once: every one-time password is accepted exactly once.
func TestConcurrency(t *testing.T) {
	s := start(t, ipatest.Config{})
	s.SetPolicy(ipatest.Policy{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw", AuthTypes: []string{"otp"}})
	s.AddToken(ipatest.Token{ID: "h", Owner: "alice", HOTP: true})
	const rounds, clients = 10, 8
	for range rounds {
		password := "pw" + s.Code("h")
		var gate, all sync.WaitGroup
		results := make(chan int, clients)
		gate.Add(1)
		for range clients {
			c := dial(t, s)
			all.Go(func() {
				gate.Wait()
				got, _ := bindOn(t, c, dn, password, true)
				results <- got
				_ = c.Close()
			})
		}
		gate.Done()
		all.Wait()
		close(results)
		counts := map[int]int{}
		for r := range results {
			counts[r]++
		}
		if counts[0] != 1 || counts[49] != clients-1 {
			t.Fatalf("results %v", counts)
		}
	}
	if s.Binds(dn) != rounds*clients || s.Refused(dn) != rounds*(clients-1) {
		t.Errorf("%d binds, %d refused", s.Binds(dn), s.Refused(dn))
	}
}
