package profile

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/label"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// maxBackdate bounds how far a certificate may reach into the past.
const maxBackdate = 24 * time.Hour

// methods are the proofs that can be asserted; a word for one that no validator can give
// would be a promise.
var methods = map[string]assertionv1.Method{
	"token":         assertionv1.Method_METHOD_TOKEN,
	"ldap-otp":      assertionv1.Method_METHOD_LDAP_OTP,
	"ldap-password": assertionv1.Method_METHOD_LDAP_PASSWORD,
	"radius":        assertionv1.Method_METHOD_RADIUS,
	"negotiate":     assertionv1.Method_METHOD_NEGOTIATE,
	"certificate":   assertionv1.Method_METHOD_CERTIFICATE,
}

// Methods translates the words of a methods key. The error names the first that is not known.
func Methods(list []string) ([]assertionv1.Method, error) {
	var first error
	found := lookUp("methods", list, methods, func(_, format string, args ...any) {
		if first == nil {
			first = fmt.Errorf(format, args...)
		}
	})
	return found, first
}

// rule is a profile in the form in which it is applied.
type rule struct {
	Profile
	kinds       []assertionv1.IdentityKind
	methods     []assertionv1.Method
	keyTypes    []csr.KeyType
	subject     []dn.Element // values are templates
	mapping     map[string][]dn.Element
	keyUsage    x509.KeyUsage
	extKeyUsage []asn1.ObjectIdentifier
	serverAuth  bool

	indicatorExtension asn1.ObjectIdentifier

	lineAge time.Duration // 0 for no end
	anchors [][]byte
}

// add records that a key breaks a rule, as config.Report.Add does.
type add func(key, format string, args ...any)

// compile checks a profile and makes its rule, which is worthless where add was called.
func compile(p Profile, add add) *rule {
	r := &rule{Profile: p}
	checkLabel(p.Label, add)
	r.kinds = lookUp("identity_kinds", p.IdentityKinds, kinds, add)
	r.methods = lookUp("methods", p.Methods, methods, add)
	r.keyTypes = lookUp("key_types", p.KeyTypes, keyTypes, add)
	checkWords("realms", p.Realms, add)
	checkWords("require_groups", p.RequireGroups, add)
	checkWords("require_indicators", p.RequireIndicators, add)
	checkIndicators("require_indicators", p.RequireIndicators, indicators, add)
	r.checkRSA(add)
	r.checkChoices(add)
	r.compileSubject(add)
	r.compileMapping(add)
	r.compileKerberosNames(add)
	r.compileIndicatorExtension(add)
	r.checkValidity(add)
	r.compileRenewal(add)
	r.compileUsages(add)
	if p.MaxPerHour < 0 {
		add("max_per_hour", "is negative")
	}
	for _, oid := range p.CSRAttributes {
		if _, err := parseOID(oid); err != nil {
			add("csr_attributes", "%s", err)
		} else if what := unfitAttribute(oid); what != "" {
			add("csr_attributes", "%s %s", oid, what)
		}
	}
	CheckURLs("crl_distribution_points", p.CRLDistributionPoints, add)
	CheckURLs("aia_ca_issuers", p.AIACAIssuers, add)
	CheckURLs("aia_ocsp", p.AIAOCSP, add)
	return r
}

// lookUp translates a list of words, which must not be empty.
func lookUp[V any](key string, list []string, table map[string]V, add add) []V {
	checkList(key, list, add)
	var out []V
	for _, word := range list {
		v, ok := table[word]
		if !ok {
			add(key, "%q is not known: %s", word, words(table))
		}
		out = append(out, v)
	}
	return out
}

// checkList is checkWords for a list that must not be empty, because that would refuse
// everybody.
func checkList(key string, list []string, add add) {
	if len(list) == 0 {
		add(key, "is missing, or empty: nothing would be allowed")
	}
	checkWords(key, list, add)
}

func checkWords(key string, list []string, add add) {
	for i, word := range list {
		switch {
		case word == "":
			add(key, "holds an empty word")
		case slices.Contains(list[:i], word):
			add(key, "holds %q twice", word)
		}
	}
}

// checkIndicators refuses words that no proof ever carries: the rule would bind nobody, or
// everybody.
func checkIndicators(key string, list, known []string, add add) {
	for _, word := range list {
		if !slices.Contains(known, word) {
			add(key, "%q is not known: %s", word, strings.Join(known, ", "))
		}
	}
}

func checkLabel(name string, add add) {
	switch {
	case !label.Plain(name) || len(name) > label.Max || strings.Trim(name, ".") == "":
		add("label", "has to be 1 to 64 letters, digits, '-', '.', '_' and '~'")
	case label.Reserved(name):
		add("label", "%q is the name of an EST operation", name)
	}
}

func (r *rule) checkRSA(add add) {
	if !slices.Contains(r.KeyTypes, "rsa") {
		return
	}
	if r.RSAMinBits < 2048 || r.RSAMinBits > 8192 {
		add("rsa_min_bits", "has to be between 2048 and 8192")
	}
	if r.RSAMaxBits < r.RSAMinBits || r.RSAMaxBits > 8192 {
		add("rsa_max_bits", "has to be between rsa_min_bits and 8192")
	}
}

func (r *rule) checkChoices(add add) {
	for _, w := range []struct {
		key, word string
		allowed   []string
	}{
		{"san", r.SAN, []string{sanIdentity, sanRequested, sanNone}},
		{"csr_names", r.CSRNames, []string{refuse, drop}},
		{"csr_subject", r.CSRSubject, []string{match, ignore}},
		{"csr_extensions", r.CSRExtensions, []string{refuse, ignore}},
		{"rekey", r.Rekey, []string{rekeyInWindow, rekeySameKey, rekeyAny}},
		{"unmapped", r.Unmapped, []string{template, refuse}},
		{"challenge_password", r.ChallengePassword, []string{"verify", "require", ignore}},
	} {
		if !slices.Contains(w.allowed, w.word) {
			add(w.key, "%q is not known: %s", w.word, strings.Join(w.allowed, ", "))
		}
	}
	if r.Subject == "" && r.SAN == sanNone {
		add("san", "none goes with a subject only: a certificate without any name is refused")
	}
}

func (r *rule) checkValidity(add add) {
	if r.Validity < config.Duration(time.Minute) {
		add("validity", "has to be at least 1m")
	}
	if r.Backdate > config.Duration(maxBackdate) {
		add("backdate", "has to be at most 24h")
	}
	checkIndicators("max_validity", slices.Sorted(maps.Keys(r.MaxValidity)), append(slices.Clone(indicators), noIndicator), add)
	if r.MaxLoginAge < 0 {
		add("max_login_age", "is negative")
	}
	if r.MaxLoginAge > 0 && !slices.Contains(r.Methods, "negotiate") {
		add("max_login_age", "is for Kerberos tickets: methods does not hold negotiate")
	}
	for indicator, d := range r.MaxValidity {
		if d < config.Duration(time.Minute) {
			add("max_validity", "%s has to be at least 1m", indicator)
		}
	}
}

func (r *rule) compileUsages(add add) {
	for _, u := range lookUp("key_usage", r.KeyUsage, keyUsages, add) {
		r.keyUsage |= u
	}
	for _, t := range r.keyTypes {
		if r.keyUsage&suits(t) == 0 {
			add("key_usage", "none of these suits keys of type %s", t)
		}
	}
	checkList("ext_key_usage", r.ExtKeyUsage, add)
	for _, word := range r.ExtKeyUsage {
		oid, ok := extKeyUsages[word]
		if !ok {
			var err error
			if oid, err = parseOID(word); err != nil {
				add("ext_key_usage", "%q is not known: %s, or an object identifier", word, words(extKeyUsages))
				continue
			}
		}
		if name, forbidden := forbiddenExtKeyUsages[oid.String()]; forbidden {
			add("ext_key_usage", "%s would let its holder speak for the authority", name)
		}
		if slices.ContainsFunc(r.extKeyUsage, oid.Equal) {
			add("ext_key_usage", "holds %s twice", oid)
		}
		r.extKeyUsage = append(r.extKeyUsage, oid)
	}
	r.checkConsistent(add)
	r.serverAuth = slices.ContainsFunc(r.extKeyUsage, extKeyUsages["serverAuth"].Equal)
	if r.serverAuth && r.SAN == sanNone {
		add("san", "none does not go with serverAuth: clients look for a server's name there alone")
	}
}

// checkConsistent refuses a key usage that none of the extended ones has a use for.
func (r *rule) checkConsistent(add add) {
	var useful x509.KeyUsage
	for _, oid := range r.extKeyUsage {
		usages, known := consistent[oid.String()]
		if !known {
			return
		}
		useful |= usages
	}
	for _, word := range r.KeyUsage {
		if keyUsages[word]&^useful != 0 {
			add("key_usage", "%s does not go with ext_key_usage %s (RFC 5280 section 4.2.1.12)", word, strings.Join(r.ExtKeyUsage, ", "))
		}
	}
}

// CheckURLs reports URLs that cannot stand in a certificate.
func CheckURLs(key string, urls []string, add func(key, format string, args ...any)) {
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "ldap" || u.User != nil {
			add(key, "%q is not an http or ldap URL: https would need a certificate to check a certificate (RFC 5280 section 8)", text)
		}
	}
}
