package ipatest

import (
	"slices"
	"sync"
	"sync/atomic"
)

// counters are what tests ask for.
type counters struct {
	searches, unauthenticated, clear atomic.Int64

	mu      sync.Mutex
	binds   map[string]int // guarded by mu; by normal DN
	refused map[string]int // guarded by mu; by normal DN
	bound   []string       // guarded by mu; as sent, each once
	seen    map[string]bool
}

func newCounters() *counters {
	return &counters{binds: map[string]int{}, refused: map[string]int{}, seen: map[string]bool{}}
}

func (c *counters) bind(dn, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.binds[key]++
	if !c.seen[dn] {
		c.seen[dn] = true
		c.bound = append(c.bound, dn)
	}
}

func (c *counters) refuse(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[key]++
}

func (c *counters) of(m map[string]int, dn string) int {
	key, _, err := normalDN(dn)
	if err != nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return m[key]
}

// Binds returns how many simple binds as a DN were tried, whatever became of them.
func (s *Server) Binds(dn string) int { return s.counters.of(s.counters.binds, dn) }

// Refused returns how many of them had another result than success.
func (s *Server) Refused(dn string) int { return s.counters.of(s.counters.refused, dn) }

// Failures returns krbLoginFailedCount of an entry: what the lockout goes by.
func (s *Server) Failures(dn string) int {
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	e, err := s.tree.find(dn)
	if err != nil {
		return 0
	}
	return int(e.number("krbLoginFailedCount"))
}

// Bound returns every DN that anybody tried to bind to, as it was sent, each once.
func (s *Server) Bound() []string {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	return slices.Clone(s.counters.bound)
}

// Searches returns how many searches there were, those of the root DSE too.
func (s *Server) Searches() int { return int(s.counters.searches.Load()) }

// Unauthenticated returns how many simple binds came without a password: they succeed, and
// prove nothing.
func (s *Server) Unauthenticated() int { return int(s.counters.unauthenticated.Load()) }

// Clear returns how many passwords came over TCP without TLS.
func (s *Server) Clear() int { return int(s.counters.clear.Load()) }
