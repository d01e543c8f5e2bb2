// Package throttletest holds a throttle for tests that are about other things: only an
// account's limit is near.
package throttletest

import (
	"time"

	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
)

// New returns a Throttle; change, where it is not nil, has the last word.
func New(s *state.Store, change func(*throttle.Config)) (*throttle.Throttle, error) {
	far := state.Limit{Max: 1_000_000, Window: time.Hour, Lockout: time.Hour}
	c := throttle.Config{
		State: s, MaxFailures: 4, Interval: 70 * time.Second, Network: far, Global: far, Token: far, IPv4Prefix: 32, IPv6Prefix: 64,
	}
	if change != nil {
		change(&c)
	}
	return throttle.New(c)
}
