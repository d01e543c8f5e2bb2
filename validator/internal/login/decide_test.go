package login_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/validator/internal/login"
)

func TestEffective(t *testing.T) {
	for _, c := range []struct{ own, global, want string }{
		{"", "", ""},
		{"otp", "", "otp"},
		{"", "otp password", "otp password"},
		{"radius", "otp", "radius"},
		{"radius otp", "disabled", ""},
		{"radius otp", "disabled password", "password"},
		{"", "disabled otp", "otp"},
	} {
		if got := login.Effective(strings.Fields(c.own), strings.Fields(c.global)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("own %q, global %q: %q, not %q", c.own, c.global, got, c.want)
		}
	}
}

// types are sets of ipaUserAuthType; what stands behind the colon is what decides.
var types = map[string]string{
	"":                  "none",
	"password":          "none",
	"hardened pkinit":   "none",
	"idp":               "none",
	"passkey":           "none",
	"otp":               "otp",
	"password otp":      "otp",
	"radius":            "radius",
	"idp radius":        "radius",
	"password radius":   "radius",
	"otp radius":        "both",
	"otp radius pkinit": "both",
}

// decisions is the whole table: which way, by what the types hold, whether there is a link,
// and the settings. P, C and E are accept_password, the control and evidence.
var decisions = map[string]map[string]string{
	"none": {
		"": "refuse", "P": "password", "C": "refuse", "PC": "password",
		"E": "otp", "PE": "otp", "CE": "refuse", "PCE": "password",
	},
	"otp": {
		"": "refuse", "P": "password", "C": "otp", "PC": "otp",
		"E": "otp", "PE": "otp", "CE": "otp", "PCE": "otp",
	},
	"radius": { // without a link there is no server to ask
		"": "refuse", "P": "password", "C": "refuse", "PC": "password",
		"E": "otp", "PE": "otp", "CE": "refuse", "PCE": "password",
	},
	"both": {
		"": "refuse", "P": "password", "C": "otp", "PC": "otp",
		"E": "otp", "PE": "otp", "CE": "otp", "PCE": "otp",
	},
}

func TestDecide(t *testing.T) {
	tried := 0
	for set, decides := range types {
		for _, linked := range []bool{false, true} {
			for n := range 8 {
				f := login.Facts{
					Types: strings.Fields(set), Linked: linked,
					AcceptPassword: n&1 != 0, Control: n&2 != 0, Evidence: n&4 != 0,
				}
				settings := ""
				for i, letter := range []string{"P", "C", "E"} {
					if n&(1<<i) != 0 {
						settings += letter
					}
				}
				want, ok := decisions[decides][settings]
				if !ok {
					t.Fatalf("the table has no %s %q", decides, settings)
				}
				// A link counts with the type radius, and then nothing else does.
				if linked && (decides == "radius" || decides == "both") {
					want = "radius"
				}
				way, reason := login.Decide(f)
				if way.String() != want || (reason != "") != (way == login.Refuse) {
					t.Errorf("types %q, linked %v, settings %q: %s (%q), not %s", set, linked, settings, way, reason, want)
				}
				tried++
			}
		}
	}
	if want := len(types) * 2 * 8; tried != want {
		t.Errorf("tried %d cases, not %d", tried, want)
	}
}

// Where nothing proves a second factor, no setting of an account makes an otp of a bind.
func TestDecideNeverClaimsWhatNothingProves(t *testing.T) {
	for set := range types {
		for _, password := range []bool{false, true} {
			way, _ := login.Decide(login.Facts{Types: strings.Fields(set), AcceptPassword: password})
			if way == login.OTP {
				t.Errorf("types %q: %s without control and evidence", set, way)
			}
		}
	}
}

func TestWithPort(t *testing.T) {
	got := map[string]string{}
	for _, server := range []string{"radius1", "radius1:1645", "192.0.2.1", "[2001:db8::1]", "[2001:db8::1]:1645", "2001:db8::1"} {
		got[server] = login.WithPort(server, login.PortUDP)
	}
	want := map[string]string{
		"radius1": "radius1:1812", "radius1:1645": "radius1:1645", "192.0.2.1": "192.0.2.1:1812",
		"[2001:db8::1]": "[2001:db8::1]:1812", "[2001:db8::1]:1645": "[2001:db8::1]:1645", "2001:db8::1": "[2001:db8::1]:1812",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
