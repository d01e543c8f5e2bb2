package profile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// TestPKINITGuard: a login must not be worth more by way of a certificate for PKINIT.
func TestPKINITGuard(t *testing.T) {
	const hour = config.Duration(time.Hour)
	type change = func(*profile.Profile)
	label := func(name string) change { return func(p *profile.Profile) { p.Label = name } }
	methods := func(words ...string) change { return func(p *profile.Profile) { p.Methods = words } }
	require := func(words ...string) change { return func(p *profile.Profile) { p.RequireIndicators = words } }
	bound := func(m map[string]config.Duration) change { return func(p *profile.Profile) { p.MaxValidity = m } }
	usage := func(words ...string) change {
		return func(p *profile.Profile) { p.ExtKeyUsage, p.KeyUsage = words, []string{"digitalSignature"} }
	}
	kinds := func(words ...string) change { return func(p *profile.Profile) { p.IdentityKinds = words } }
	valid := func(p *profile.Profile) { p.Validity = 10 * hour }
	forPKINIT := usage("clientAuth", "pkinitClient")
	for name, c := range map[string]struct {
		from, to []change
		says     string // of the refusal; nothing for none
	}{
		"otp makes more of itself": {
			[]change{methods("ldap-otp"), forPKINIT},
			[]change{bound(map[string]config.Duration{"otp": 4 * hour})},
			"a ticket by pkinit would be worth 10h here, and otp only 4h",
		},
		"by its identifier": {
			[]change{methods("ldap-otp"), usage("1.3.6.1.5.2.3.4")}, []change{bound(map[string]config.Duration{"otp": 4 * hour})}, "otp only 4h",
		},
		"by a smart card's": {
			[]change{methods("ldap-otp"), usage("smartcardLogon")}, []change{bound(map[string]config.Duration{"otp": 4 * hour})}, "otp only 4h",
		},
		"pkinit is worth the same":     {[]change{methods("ldap-otp"), forPKINIT}, []change{bound(map[string]config.Duration{"otp": 4 * hour, "pkinit": 4 * hour})}, ""},
		"pkinit is worth less":         {[]change{methods("ldap-otp"), forPKINIT}, []change{bound(map[string]config.Duration{"otp": 4 * hour, "pkinit": hour})}, ""},
		"no certificates for PKINIT":   {[]change{methods("ldap-otp")}, []change{bound(map[string]config.Duration{"otp": 4 * hour})}, ""},
		"pkinit demands pkinit":        {[]change{methods("negotiate"), require("pkinit"), forPKINIT}, []change{require("pkinit")}, ""},
		"demanded, and open to others": {[]change{methods("negotiate"), forPKINIT}, []change{require("pkinit")}, "a ticket without indicator only nothing"},
		"radius is refused":            {[]change{methods("radius"), forPKINIT}, []change{require("otp", "pkinit")}, "radius only nothing"},
		"otp and pkinit alike":         {[]change{methods("ldap-otp"), forPKINIT}, []change{require("otp", "pkinit")}, ""},
		"one of its ways is weaker": {
			[]change{methods("ldap-otp", "radius"), forPKINIT}, []change{bound(map[string]config.Duration{"radius": hour, "pkinit": 4 * hour})}, "radius only 1h",
		},
		"but not obtainable by that": {
			[]change{methods("ldap-otp", "radius"), require("otp"), forPKINIT}, []change{bound(map[string]config.Duration{"radius": hour, "pkinit": 4 * hour})}, "",
		},
		"a password alone": {
			[]change{methods("ldap-password"), forPKINIT}, []change{bound(map[string]config.Duration{"none": hour})}, "a password alone only 1h",
		},
		"a ticket of less": {
			[]change{methods("negotiate"), forPKINIT}, []change{bound(map[string]config.Duration{"hardened": hour})}, "hardened only 1h",
		},
		"other kinds":           {[]change{methods("ldap-otp"), kinds("host"), forPKINIT}, []change{bound(map[string]config.Duration{"otp": hour})}, ""},
		"a token is nobody's":   {[]change{methods("token"), kinds("device"), forPKINIT}, nil, "an enrolment token only nothing"},
		"no tickets are taken":  {[]change{methods("ldap-otp"), forPKINIT}, []change{methods("ldap-otp"), bound(map[string]config.Duration{"otp": hour})}, ""},
		"pkinit is not taken":   {[]change{methods("ldap-otp"), forPKINIT}, []change{require("otp")}, ""},
		"several bounds of otp": {[]change{methods("ldap-otp"), forPKINIT}, []change{bound(map[string]config.Duration{"otp": hour, "none": hour})}, "otp only 1h"},
	} {
		t.Run(name, func(t *testing.T) {
			from := user(append([]change{valid, label("from")}, c.from...)...)
			to := user(append([]change{valid, label("to")}, c.to...)...)
			var said []string
			profile.CheckPKINIT([]profile.Profile{from, to}, func(i int, key, format string, args ...any) {
				said = append(said, fmt.Sprintf("%d.%s: ", i, key)+fmt.Sprintf(format, args...))
			})
			text := strings.Join(said, "\n")
			if (c.says == "") != (text == "") || !strings.Contains(text, c.says) {
				t.Errorf("said %q, not %q", text, c.says)
			}
			if c.says != "" && !strings.Contains(text, `under the label "from"`) {
				t.Errorf("does not say where the certificate comes from: %q", text)
			}
			_, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{from, to}, Authority: newAuthority(t).Certificate})
			if (err != nil) != (c.says != "") {
				t.Errorf("at the start: %v", err)
			}
		})
	}
}
