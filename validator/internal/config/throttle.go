package config

import (
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
)

// Throttle is the [throttle] table.
type Throttle struct {
	AccountMaxFailures int64           `toml:"account_max_failures" doc:"Failed logins of one account behind which no back end is asked. It applies where the directory has no password policy; otherwise two less than krbPwdMaxFailure do, so that nobody can lock accounts through Estuary."`
	AccountInterval    config.Duration `toml:"account_interval" doc:"How long after its last failure an account's failures are forgotten. It applies where the directory has no password policy; otherwise 10 s more than krbPwdFailureCountInterval do."`
	IgnorePolicy       bool            `toml:"ignore_policy" doc:"Has the two above hold although the directory has a password policy."`

	NetworkMaxFailures int64           `toml:"network_max_failures" doc:"Refused credentials from one network behind which all of that network are answered by 429."`
	NetworkWindow      config.Duration `toml:"network_window" doc:"In what time they are counted, from the first of them on."`
	NetworkLockout     config.Duration `toml:"network_lockout" doc:"For how long 429 is answered."`
	GlobalMaxFailures  int64           `toml:"global_max_failures" doc:"Refused credentials altogether behind which everybody is answered by 429."`
	GlobalWindow       config.Duration `toml:"global_window" doc:"In what time they are counted, from the first of them on."`
	GlobalLockout      config.Duration `toml:"global_lockout" doc:"For how long 429 is answered."`
	IPv4Prefix         int             `toml:"ipv4_prefix" doc:"Bits of an IPv4 address that name its network, 8 to 32."`
	IPv6Prefix         int             `toml:"ipv6_prefix" doc:"Bits of an IPv6 address that name its network, 16 to 128."`
}

func defaultThrottle() Throttle {
	return Throttle{
		AccountMaxFailures: 4, AccountInterval: config.Duration(70 * time.Second),
		NetworkMaxFailures: 100, NetworkWindow: config.Duration(5 * time.Minute), NetworkLockout: config.Duration(5 * time.Minute),
		GlobalMaxFailures: 5000, GlobalWindow: config.Duration(5 * time.Minute), GlobalLockout: config.Duration(30 * time.Second),
		IPv4Prefix: 32, IPv6Prefix: 64,
	}
}

// Check reports limits that limit nothing.
func (t *Throttle) Check(r *config.Report) {
	needPositive(r, map[string]int64{
		"account_max_failures": t.AccountMaxFailures, "network_max_failures": t.NetworkMaxFailures, "global_max_failures": t.GlobalMaxFailures,
	})
	for key, d := range map[string]config.Duration{
		"account_interval": t.AccountInterval, "network_window": t.NetworkWindow, "network_lockout": t.NetworkLockout,
		"global_window": t.GlobalWindow, "global_lockout": t.GlobalLockout,
	} {
		if d := time.Duration(d); d < time.Second || d > 24*time.Hour {
			r.Add(key, "has to be between 1s and 1d, not %s", config.Duration(d))
		}
	}
	if t.IPv4Prefix < 8 || t.IPv4Prefix > 32 {
		r.Add("ipv4_prefix", "has to be between 8 and 32, not %d", t.IPv4Prefix)
	}
	if t.IPv6Prefix < 16 || t.IPv6Prefix > 128 {
		r.Add("ipv6_prefix", "has to be between 16 and 128, not %d", t.IPv6Prefix)
	}
}

// Limits returns what the throttle needs.
func (c *Config) Limits(s *state.Store) throttle.Config {
	t := c.Throttle
	return throttle.Config{
		State: s, MaxFailures: int(t.AccountMaxFailures), Interval: time.Duration(t.AccountInterval), Fixed: t.IgnorePolicy,
		Network:    state.Limit{Max: t.NetworkMaxFailures, Window: time.Duration(t.NetworkWindow), Lockout: time.Duration(t.NetworkLockout)},
		Global:     state.Limit{Max: t.GlobalMaxFailures, Window: time.Duration(t.GlobalWindow), Lockout: time.Duration(t.GlobalLockout)},
		Token:      state.Limit{Max: c.OTP.MaxFailures, Window: c.OTP.FailureWindow.Duration(), Lockout: c.OTP.LockoutDuration.Duration()},
		IPv4Prefix: t.IPv4Prefix, IPv6Prefix: t.IPv6Prefix,
	}
}
