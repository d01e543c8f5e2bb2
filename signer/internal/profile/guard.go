package profile

import (
	"fmt"
	"slices"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
)

// login is a way to prove oneself, by the indicators that it leaves behind.
type login struct {
	name       string
	indicators []string
	// stranger tells that it proves no account of the realm.
	stranger bool
}

// logins are the ways that each method stands for. A ticket can come from any of Kerberos.
var logins = map[assertionv1.Method][]login{
	assertionv1.Method_METHOD_TOKEN:         {{name: "an enrolment token", indicators: []string{"token"}, stranger: true}},
	assertionv1.Method_METHOD_LDAP_OTP:      {{name: "otp", indicators: []string{"otp"}}},
	assertionv1.Method_METHOD_RADIUS:        {{name: "radius", indicators: []string{"radius"}}},
	assertionv1.Method_METHOD_LDAP_PASSWORD: {{name: "a password alone"}},
	assertionv1.Method_METHOD_NEGOTIATE: {
		{name: "a ticket without indicator"},
		{name: "hardened", indicators: []string{"hardened"}},
		{name: "otp", indicators: []string{"otp"}},
		{name: "radius", indicators: []string{"radius"}},
		{name: "pkinit", indicators: []string{pkinit}},
		{name: "idp", indicators: []string{"idp"}},
		{name: "passkey", indicators: []string{"passkey"}},
	},
}

// foreign is a certificate of another authority.
var foreign = login{name: "a certificate of another authority", indicators: []string{x509Indicator}, stranger: true}

const pkinit = "pkinit"

// CheckPKINIT reports profiles by which a login could be made worth more than it is. Who
// obtains a certificate that is good for PKINIT (RFC 4556) logs in by it, and comes back with a
// ticket that has the indicator pkinit: under no profile may that be worth more than the login
// by which the certificate can be had. report is given the place of the profile in the list.
func CheckPKINIT(profiles []Profile, report func(i int, key, format string, args ...any)) {
	rules := make([]*rule, len(profiles))
	for i, p := range profiles {
		rules[i] = compile(p, func(string, string, ...any) {}) // reported elsewhere
	}
	for _, from := range rules {
		if !from.forPKINIT() {
			continue
		}
		for i, to := range rules {
			for _, l := range from.loginsOfLine(rules) {
				gain, loss := to.worth(pkinit), to.worth(l.indicators...)
				if l.stranger {
					loss = 0
				} else if !samePeople(from, to) {
					continue
				}
				if gain > loss {
					key, advice := advise(from, to, loss)
					report(i, key, "a ticket by pkinit would be worth %s here, and %s only %s: but who logs in that way gets a certificate for PKINIT "+
						"under the label %q (ext_key_usage), and by that a ticket by pkinit. %s", lifetime(gain), l.name, lifetime(loss), from.Label, advice)
				}
			}
		}
	}
}

// advise says what to do about a login that is worth loss under to, and by which key of to.
func advise(from, to *rule, loss time.Duration) (key, advice string) {
	switch {
	case loss > 0:
		key, advice = "max_validity", fmt.Sprintf("Bound pkinit to %s here", lifetime(loss))
	case len(to.RequireIndicators) > 0:
		key, advice = "require_indicators", "Take pkinit out of these"
	default:
		key, advice = "require_indicators", "Demand other indicators than pkinit here"
	}
	if slices.Contains(from.methods, assertionv1.Method_METHOD_NEGOTIATE) {
		return key, advice + fmt.Sprintf(", or have %q demand require_indicators = [\"pkinit\"]", from.Label)
	}
	return key, advice + fmt.Sprintf(", or take that purpose from %q", from.Label)
}

func lifetime(d time.Duration) string {
	if d == 0 {
		return "nothing"
	}
	return config.Duration(d).String()
}

// forPKINIT tells whether a KDC would take certificates of the profile for a login.
func (r *rule) forPKINIT() bool {
	return slices.ContainsFunc(r.extKeyUsage, extKeyUsages["pkinitClient"].Equal) ||
		slices.ContainsFunc(r.extKeyUsage, extKeyUsages["smartcardLogon"].Equal)
}

// logins returns the ways to get a certificate of the profile.
func (r *rule) logins() (all []login) {
	for _, m := range r.methods {
		for _, l := range logins[m] {
			if len(r.RequireIndicators) == 0 || overlap(r.RequireIndicators, l.indicators) {
				all = append(all, l)
			}
		}
	}
	return all
}

// loginsOfLine returns the ways to get a certificate of the profile, directly or by renewing one
// of other labels: renewals keep the indicators of the login.
func (r *rule) loginsOfLine(rules []*rule) []login {
	all, seen := r.logins(), map[string]bool{r.Label: true}
	// A renewal has the indicator of its own proof too.
	renewed := func(l login) {
		if len(r.RequireIndicators) == 0 || overlap(r.RequireIndicators, append(slices.Clone(l.indicators), x509Indicator)) {
			all = append(all, l)
		}
	}
	if len(r.anchors) > 0 {
		renewed(foreign)
	}
	for queue := r.renewed(); len(queue) > 0; queue = queue[1:] {
		if seen[queue[0]] {
			continue
		}
		seen[queue[0]] = true
		for _, from := range rules {
			if from.Label != queue[0] {
				continue
			}
			queue = append(queue, from.renewed()...)
			for _, l := range from.logins() {
				renewed(l)
			}
			if len(from.anchors) > 0 {
				renewed(foreign)
			}
		}
	}
	return all
}

// worth returns how long a certificate is valid that a ticket with these indicators gets, 0
// where it gets none.
func (r *rule) worth(indicators ...string) time.Duration {
	if !slices.Contains(r.methods, assertionv1.Method_METHOD_NEGOTIATE) ||
		len(r.RequireIndicators) > 0 && !overlap(r.RequireIndicators, indicators) {
		return 0
	}
	return r.length(indicators)
}

// samePeople tells whether somebody may enrol under both. A profile without realms is for
// those of every realm.
func samePeople(a, b *rule) bool {
	return slices.ContainsFunc(a.kinds, func(k assertionv1.IdentityKind) bool { return slices.Contains(b.kinds, k) }) &&
		(len(a.Realms) == 0 || len(b.Realms) == 0 || overlap(a.Realms, b.Realms))
}

// problemsOf is a check of all profiles for those who want errors.
func problemsOf(profiles []Profile, check func([]Profile, func(i int, key, format string, args ...any))) (problems []error) {
	check(profiles, func(i int, key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("profile %q: %s: %w", profiles[i].Label, key, fmt.Errorf(format, args...)))
	})
	return problems
}
