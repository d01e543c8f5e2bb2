package throttle_test

import (
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/internal/throttle/throttletest"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newState(t *testing.T) *state.Store {
	t.Helper()
	s, err := state.New(t.Context(), state.Config{
		DB: storetest.Open(t, storetest.SQLite(t)), MACKey: secret.New(make([]byte, state.MACKeySize)),
		Stream: audit.NewStream(io.Discard), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The limit stays below the directory's own, and outlasts its memory.
func TestAccountFollowsThePolicy(t *testing.T) {
	for name, c := range map[string]struct {
		policy directory.Lockout
		fixed  bool
		max    int64
		window time.Duration
	}{
		"FreeIPA's default":  {directory.Lockout{MaxFailures: 6, Interval: time.Minute, Duration: 10 * time.Minute}, false, 4, 70 * time.Second},
		"no policy":          {directory.Lockout{}, false, 4, 70 * time.Second},
		"no lockout":         {directory.Lockout{Interval: time.Hour}, false, 4, 70 * time.Second},
		"strict":             {directory.Lockout{MaxFailures: 3, Interval: time.Hour}, false, 1, time.Hour + 10*time.Second},
		"too strict for two": {directory.Lockout{MaxFailures: 2, Interval: time.Minute}, false, 1, 70 * time.Second},
		"one locks":          {directory.Lockout{MaxFailures: 1, Interval: time.Minute}, false, 0, 70 * time.Second},
		"never forgets":      {directory.Lockout{MaxFailures: 6, Duration: time.Hour}, false, 4, time.Hour + 10*time.Second},
		"policy ignored":     {directory.Lockout{MaxFailures: 60, Interval: time.Second}, true, 4, 70 * time.Second},
	} {
		limits, err := throttletest.New(newState(t), func(x *throttle.Config) { x.Fixed = c.fixed })
		if err != nil {
			t.Fatal(err)
		}
		got := limits.Account("LAB.TEST", "alice", c.policy).Limit
		if got.Max != c.max || got.Window != c.window || !got.Gap {
			t.Errorf("%s: %d failures with gaps of %v, want %d and %v", name, got.Max, got.Window, c.max, c.window)
		}
	}
}

// fail counts a failure for a place.
func fail(t *testing.T, s *state.Store, p throttle.Place, times int) {
	t.Helper()
	for range times {
		if err := s.Settle(t.Context(), state.Settlement{Others: p.Subjects, At: start}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func admitted(t *testing.T, limits *throttle.Throttle, p throttle.Place, at time.Time) bool {
	t.Helper()
	err := limits.Admit(t.Context(), p, at)
	if err != nil && (!errors.Is(err, fault.Busy) || fault.RetryAfter(err) <= 0) {
		t.Errorf("%v, to come again in %v", err, fault.RetryAfter(err))
	}
	return err == nil
}

func TestPlaces(t *testing.T) {
	s := newState(t)
	limits, err := throttletest.New(s, func(c *throttle.Config) {
		c.Network = state.Limit{Max: 3, Window: time.Minute, Lockout: 5 * time.Minute}
		c.Global = state.Limit{Max: 20, Window: time.Minute, Lockout: 30 * time.Second}
		c.Token = state.Limit{Max: 2, Window: time.Minute, Lockout: 15 * time.Minute}
		c.IPv4Prefix = 24
	})
	if err != nil {
		t.Fatal(err)
	}
	fail(t, s, limits.Place("192.0.2.7"), 3)
	for address, want := range map[string]bool{
		"192.0.2.7": false, "192.0.2.250": false, "::ffff:192.0.2.9": false, "192.0.3.7": true, "2001:db8::1": true,
	} {
		if got := admitted(t, limits, limits.Place(address), start); got != want {
			t.Errorf("%s admitted: %v", address, got)
		}
	}
	if !admitted(t, limits, limits.Place("192.0.2.7"), start.Add(5*time.Minute)) {
		t.Error("the lockout has no end")
	}
	// A name is refused from where it failed, and from nowhere else.
	fail(t, s, limits.Holder("pump-7", "198.51.100.1"), 2)
	for _, c := range []struct {
		name, address string
		want          bool
	}{{"pump-7", "198.51.100.1", false}, {"pump-8", "198.51.100.1", true}, {"pump-7", "203.0.113.1", true}} {
		if got := admitted(t, limits, limits.Holder(c.name, c.address), start); got != c.want {
			t.Errorf("%s from %s admitted: %v", c.name, c.address, got)
		}
	}
	fail(t, s, limits.Place("2001:db8:1::1"), 1)
	fail(t, s, limits.Place("2001:db8:1:0:2::1"), 2) // the same network of 64 bits
	if admitted(t, limits, limits.Place("2001:db8:1:0:ffff::"), start) || !admitted(t, limits, limits.Place("2001:db8:1:1::"), start) {
		t.Error("networks of IPv6 are not 64 bits")
	}
	for i := range 13 {
		fail(t, s, limits.Place("10.0."+string(rune('0'+i))+".1"), 1)
	}
	if admitted(t, limits, limits.Place("203.0.113.9"), start) || !admitted(t, limits, limits.Place("203.0.113.9"), start.Add(30*time.Second)) {
		t.Error("everybody together is not limited")
	}
}

func TestNewRefusesWhatLimitsNothing(t *testing.T) {
	s := newState(t)
	for i, change := range []func(*throttle.Config){
		func(c *throttle.Config) { c.State = nil },
		func(c *throttle.Config) { c.MaxFailures = 0 },
		func(c *throttle.Config) { c.Interval = 0 },
		func(c *throttle.Config) { c.Network.Max = 0 },
		func(c *throttle.Config) { c.Global.Lockout = 0 },
		func(c *throttle.Config) { c.Token.Window = 0 },
		func(c *throttle.Config) { c.IPv4Prefix = 33 },
		func(c *throttle.Config) { c.IPv6Prefix = 0 },
	} {
		if _, err := throttletest.New(s, change); err == nil {
			t.Errorf("case %d was made", i)
		}
	}
}
