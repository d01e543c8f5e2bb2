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
	realms := func(words ...string) change { return func(p *profile.Profile) { p.Realms = words } }
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
		"other kinds":          {[]change{methods("ldap-otp"), kinds("host"), forPKINIT}, []change{bound(map[string]config.Duration{"otp": hour})}, ""},
		"a token is nobody's":  {[]change{methods("token"), kinds("device"), forPKINIT}, nil, "an enrolment token only nothing"},
		"no tickets are taken": {[]change{methods("ldap-otp"), forPKINIT}, []change{methods("ldap-otp"), bound(map[string]config.Duration{"otp": hour})}, ""},
		"pkinit is not taken":  {[]change{methods("ldap-otp"), forPKINIT}, []change{require("otp")}, ""},
		"other realms": {
			[]change{methods("ldap-otp"), realms("A"), forPKINIT}, []change{realms("B"), bound(map[string]config.Duration{"otp": hour})}, "",
		},
		"a realm in common": {
			[]change{methods("ldap-otp"), realms("A", "B"), forPKINIT}, []change{realms("B", "C"), bound(map[string]config.Duration{"otp": hour})}, "1.max_validity: a ticket by pkinit would be worth 10h here, and otp only 1h",
		},
		"one for every realm": {
			[]change{methods("ldap-otp"), forPKINIT}, []change{realms("B"), bound(map[string]config.Duration{"otp": hour})}, "otp only 1h",
		},
		"the other for every realm": {
			[]change{methods("ldap-otp"), realms("B"), forPKINIT}, []change{bound(map[string]config.Duration{"otp": hour})}, "otp only 1h",
		},
		"a token is of no realm": {
			[]change{methods("token"), kinds("device"), realms("A"), forPKINIT}, []change{realms("B")}, `1.require_indicators: a ticket by pkinit would be worth 10h here, and an enrolment token only nothing`,
		},
		"tokens beside tickets without pkinit": {[]change{methods("token"), kinds("device"), forPKINIT}, []change{require("otp", "hardened")}, ""},
		"idp":                                  {[]change{methods("negotiate"), require("idp", "pkinit"), forPKINIT}, []change{bound(map[string]config.Duration{"idp": hour})}, "idp only 1h"},
		"passkey":                              {[]change{methods("negotiate"), require("passkey", "pkinit"), forPKINIT}, []change{bound(map[string]config.Duration{"passkey": 2 * hour, "pkinit": 2 * hour})}, ""},
		"pkinit begets pkinit": {
			[]change{methods("negotiate"), require("pkinit"), forPKINIT}, []change{bound(map[string]config.Duration{"none": hour, "otp": hour, "radius": hour})}, "",
		},
		"what to bound": {
			[]change{methods("negotiate"), require("otp"), forPKINIT},
			[]change{bound(map[string]config.Duration{"otp": 4 * hour})},
			`Bound pkinit to 4h here, or have "from" demand require_indicators = ["pkinit"]`,
		},
		"what to demand": {
			[]change{methods("radius"), forPKINIT},
			[]change{require("otp", "pkinit")},
			`radius only nothing: but who logs in that way gets a certificate for PKINIT under the label "from" (ext_key_usage), and by that a ticket by pkinit. Take pkinit out of these, or take that purpose from "from"`,
		},
		"where to demand":       {[]change{methods("radius"), forPKINIT}, []change{require("pkinit")}, "1.require_indicators: "},
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

// TestPKINITGuardOfOne: a profile that takes its own tickets again is held to the same.
func TestPKINITGuardOfOne(t *testing.T) {
	const hour = config.Duration(time.Hour)
	for name, c := range map[string]struct {
		methods []string
		bounds  map[string]config.Duration
		good    bool
	}{
		"all alike":        {[]string{"negotiate", "ldap-otp"}, nil, true},
		"otp less":         {[]string{"negotiate", "ldap-otp"}, map[string]config.Duration{"otp": hour}, false},
		"both less":        {[]string{"negotiate", "ldap-otp"}, map[string]config.Duration{"otp": hour, "pkinit": hour}, true},
		"the weakest less": {[]string{"negotiate"}, map[string]config.Duration{"none": hour}, false},
		"pkinit the least": {[]string{"negotiate"}, map[string]config.Duration{"none": hour, "pkinit": hour}, true},
		"no tickets":       {[]string{"ldap-otp"}, map[string]config.Duration{"otp": hour}, true},
	} {
		p := user(func(p *profile.Profile) {
			p.Methods, p.MaxValidity, p.ExtKeyUsage = c.methods, c.bounds, []string{"clientAuth", "pkinitClient"}
		})
		good := true
		profile.CheckPKINIT([]profile.Profile{p}, func(int, string, string, ...any) { good = false })
		if good != c.good {
			t.Errorf("%s: good is %v", name, good)
		}
	}
}
