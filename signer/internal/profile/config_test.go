package profile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

func TestFacts(t *testing.T) {
	a := newAuthority(t)
	set := newSet(t, a,
		device(func(p *profile.Profile) {
			p.Label, p.KeyTypes, p.ChallengePassword, p.CSRAttributes = "z", []string{"p256"}, "require", []string{"1.2.840.113549.1.9.7"}
		}),
		device(func(p *profile.Profile) { p.KeyTypes, p.RSAMinBits, p.RSAMaxBits = []string{"rsa"}, 3072, 4096 }),
		user(func(p *profile.Profile) {
			p.KeyTypes, p.Methods = []string{"p256"}, []string{"negotiate", "radius", "ldap-otp"}
		}))
	token := []assertionv1.Method{assertionv1.Method_METHOD_TOKEN}
	want := []*signerv1.ProfileFacts{
		{Methods: token, Label: "device", KeyTypes: []string{"rsa"}, RsaMinBits: 3072, RsaMaxBits: 4096, ChallengePassword: signerv1.ChallengePassword_CHALLENGE_PASSWORD_VERIFY},
		{
			Methods: []assertionv1.Method{assertionv1.Method_METHOD_LDAP_OTP, assertionv1.Method_METHOD_RADIUS, assertionv1.Method_METHOD_NEGOTIATE},
			Label:   "user", KeyTypes: []string{"p256"}, ChallengePassword: signerv1.ChallengePassword_CHALLENGE_PASSWORD_VERIFY,
		},
		{Methods: token, Label: "z", KeyTypes: []string{"p256"}, ChallengePassword: signerv1.ChallengePassword_CHALLENGE_PASSWORD_REQUIRE, CsrAttributes: []string{"1.2.840.113549.1.9.7"}},
	}
	if diff := cmp.Diff(want, set.Facts(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestBadProfiles(t *testing.T) {
	a := newAuthority(t)
	day := config.Duration(24 * time.Hour)
	for want, change := range map[string]func(*profile.Profile){
		"label: has to be 1 to 64":                                              func(p *profile.Profile) { p.Label = "a/b" },
		`label: "simpleenroll" is the name`:                                     func(p *profile.Profile) { p.Label = "simpleenroll" },
		`identity_kinds: "robot" is not known`:                                  func(p *profile.Profile) { p.IdentityKinds = []string{"robot"} },
		"identity_kinds: is missing, or empty":                                  func(p *profile.Profile) { p.IdentityKinds = nil },
		`methods: "passkey" is not known: certificate, ldap-otp, ldap-password`: func(p *profile.Profile) { p.Methods = []string{"passkey"} },
		"require_groups: holds an empty word":                                   func(p *profile.Profile) { p.RequireGroups = []string{""} },
		`realms: holds "A" twice`:                                               func(p *profile.Profile) { p.Realms = []string{"A", "A"} },
		"require_indicators: holds an empty word":                               func(p *profile.Profile) { p.RequireIndicators = []string{""} },
		`require_indicators: "OTP" is not known: hardened, idp, otp`:            func(p *profile.Profile) { p.RequireIndicators = []string{"otp", "OTP"} },
		`max_validity: "opt" is not known: hardened, idp, otp`:                  func(p *profile.Profile) { p.MaxValidity = map[string]config.Duration{"opt": day} },
		`key_types: "dsa" is not known`:                                         func(p *profile.Profile) { p.KeyTypes = []string{"dsa"} },
		"rsa_min_bits: has to be between":                                       func(p *profile.Profile) { p.RSAMinBits = 1024 },
		"rsa_max_bits: has to be between":                                       func(p *profile.Profile) { p.RSAMaxBits = 2047 },
		`subject: "{surname}" is not a placeholder`:                             func(p *profile.Profile) { p.Subject = "CN={surname}" },
		"subject: a brace stands alone":                                         func(p *profile.Profile) { p.Subject = "CN=a}" },
		`subject: a brace is not closed in "{principal"`:                        func(p *profile.Profile) { p.Subject = "CN={principal" },
		`subject: attribute type "X"`:                                           func(p *profile.Profile) { p.Subject = "X=1" },
		"subject: C of the subject is not a country":                            func(p *profile.Profile) { p.Subject = "C=de" },
		"subject: C has to be a country":                                        func(p *profile.Profile) { p.Subject = "C={realm}" },
		`san: "all" is not known`:                                               func(p *profile.Profile) { p.SAN = "all" },
		"san: none goes with a subject only":                                    func(p *profile.Profile) { p.SAN, p.Subject = "none", "" },
		"san: none does not go with serverAuth":                                 func(p *profile.Profile) { p.SAN, p.ExtKeyUsage = "none", []string{"serverAuth"} },
		`csr_names: "ignore" is not known`:                                      func(p *profile.Profile) { p.CSRNames = "ignore" },
		`csr_subject: "copy" is not known`:                                      func(p *profile.Profile) { p.CSRSubject = "copy" },
		`csr_extensions: "copy" is not known`:                                   func(p *profile.Profile) { p.CSRExtensions = "copy" },
		`challenge_password: "otp" is not known`:                                func(p *profile.Profile) { p.ChallengePassword = "otp" },
		`csr_attributes: "1.2.99999999999"`:                                     func(p *profile.Profile) { p.CSRAttributes = []string{"1.2.99999999999"} },
		`csr_attributes: 2.5.29.17 is an extension`:                             func(p *profile.Profile) { p.CSRAttributes = []string{"2.5.29.17"} },
		`csr_attributes: 1.2.840.113549.1.9.14 needs a value`:                   func(p *profile.Profile) { p.CSRAttributes = []string{"1.2.840.113549.1.9.14"} },
		`csr_attributes: 1.2.840.10045.2.1 is a type of key`:                    func(p *profile.Profile) { p.CSRAttributes = []string{"1.2.840.10045.2.1"} },
		`csr_attributes: "3.2.1"`:                                               func(p *profile.Profile) { p.CSRAttributes = []string{"3.2.1"} },
		`csr_attributes: "1.02"`:                                                func(p *profile.Profile) { p.CSRAttributes = []string{"1.02"} },
		"validity: has to be at least 1m":                                       func(p *profile.Profile) { p.Validity = 0 },
		"backdate: has to be at most 24h":                                       func(p *profile.Profile) { p.Backdate = 2 * day },
		"max_validity: otp has to be at least":                                  func(p *profile.Profile) { p.MaxValidity = map[string]config.Duration{"otp": 0} },
		`key_usage: "keyCertSign" is not known`:                                 func(p *profile.Profile) { p.KeyUsage = []string{"keyCertSign"} },
		"key_usage: none of these suits keys of type":                           func(p *profile.Profile) { p.KeyUsage = []string{"keyEncipherment"} },
		"key_usage: keyEncipherment does not go with ext_key_usage clientAuth":  func(p *profile.Profile) { p.KeyUsage = []string{"digitalSignature", "keyEncipherment"} },
		`ext_key_usage: "any" is not known`:                                     func(p *profile.Profile) { p.ExtKeyUsage = []string{"any"} },
		"ext_key_usage: cmcRA would let":                                        func(p *profile.Profile) { p.ExtKeyUsage = []string{"1.3.6.1.5.5.7.3.28"} },
		"ext_key_usage: OCSPSigning would let":                                  func(p *profile.Profile) { p.ExtKeyUsage = []string{"1.3.6.1.5.5.7.3.9"} },
		"ext_key_usage: anyExtendedKeyUsage would let":                          func(p *profile.Profile) { p.ExtKeyUsage = []string{"2.5.29.37.0"} },
		"ext_key_usage: holds 1.3.6.1.5.5.7.3.2 twice":                          func(p *profile.Profile) { p.ExtKeyUsage = []string{"clientAuth", "1.3.6.1.5.5.7.3.2"} },
		`unmapped: "drop" is not known: template, refuse`:                       func(p *profile.Profile) { p.Unmapped = "drop" },
		"unmapped: refuses everybody":                                           func(p *profile.Profile) { p.Unmapped = "refuse" },
		`principal_mapping: "alice" is no principal with its realm`:             func(p *profile.Profile) { p.PrincipalMapping = map[string]string{"alice": "CN=a"} },
		`principal_mapping: "a@R": attribute type "X"`:                          func(p *profile.Profile) { p.PrincipalMapping = map[string]string{"a@R": "X=1"} },
		`principal_mapping: "a@R": the subject is empty`:                        func(p *profile.Profile) { p.PrincipalMapping = map[string]string{"a@R": ""} },
		`principal_mapping: "a@R": a subject here is what it is`:                func(p *profile.Profile) { p.PrincipalMapping = map[string]string{"a@R": "CN={uid}"} },
		`kerberos_names: "spn" is not known: krb5, upn`:                         func(p *profile.Profile) { p.KerberosNames, p.IdentityKinds = []string{"spn"}, []string{"user"} },
		"kerberos_names: are for users":                                         func(p *profile.Profile) { p.KerberosNames = []string{"upn"} },
		"subject: {user} is for identity_kinds user, and they are device":       func(p *profile.Profile) { p.Subject = "CN={user}" },
		"subject: {host} is for identity_kinds host and service":                func(p *profile.Profile) { p.Subject = "CN={host}" },
		`require_indicators: "none" is not known`:                               func(p *profile.Profile) { p.RequireIndicators = []string{"none"} },
		`rekey: "never" is not known`:                                           func(p *profile.Profile) { p.Rekey = "never" },
		"max_successors: has to be between 1 and 1000":                          func(p *profile.Profile) { p.MaxSuccessors = 0 },
		"max_enrolments: has to be between 1 and 1000":                          func(p *profile.Profile) { p.MaxEnrolments = 0 },
		"methods: holds certificate, but no certificate of this label can be presented": func(p *profile.Profile) {
			p.Methods, p.MaxChainAge, p.ExtKeyUsage = []string{"token", "certificate"}, "1d", []string{"serverAuth"}
		},
		"renew_expired: has to be at most 90d":                          func(p *profile.Profile) { p.RenewExpired = 91 * day },
		"renew_expired: is for those who come with a certificate":       func(p *profile.Profile) { p.RenewExpired = day },
		"renews: is for those who come with a certificate":              func(p *profile.Profile) { p.Renews = []string{"device"} },
		"renews: holds the label itself":                                func(p *profile.Profile) { p.Renews = []string{"device"} },
		`renews: there is no profile for the label "devise"`:            func(p *profile.Profile) { p.Renews = []string{"devise"} },
		"max_chain_age: is missing: methods holds certificate":          func(p *profile.Profile) { p.Methods = []string{"certificate"} },
		`max_chain_age: "a year" is not a length of time`:               func(p *profile.Profile) { p.MaxChainAge = "a year" },
		"max_chain_age: has to be at least 1m":                          func(p *profile.Profile) { p.MaxChainAge = "1s" },
		"certificate_anchors: is for those who come with a certificate": func(p *profile.Profile) { p.CertificateAnchors = []string{strings.Repeat("0", 64)} },
		`certificate_anchors: "00" is not the SHA-256`:                  func(p *profile.Profile) { p.CertificateAnchors = []string{"00"} },
		"certificate_anchors: is for devices": func(p *profile.Profile) {
			p.CertificateAnchors, p.IdentityKinds = []string{strings.Repeat("0", 64)}, []string{"user"}
		},
		"max_login_age: is for Kerberos tickets":                   func(p *profile.Profile) { p.MaxLoginAge = day },
		`indicator_extension: "x" is not an object identifier`:     func(p *profile.Profile) { p.IndicatorExtension = "x" },
		"indicator_extension: 2.5.29.17 belongs to others":         func(p *profile.Profile) { p.IndicatorExtension = "2.5.29.17" },
		"indicator_extension: 1.3.6.1.5.5.7.1.1 belongs to others": func(p *profile.Profile) { p.IndicatorExtension = "1.3.6.1.5.5.7.1.1" },
		`crl_distribution_points: "https://x/crl"`:                 func(p *profile.Profile) { p.CRLDistributionPoints = []string{"https://x/crl"} },
		`aia_ca_issuers: "/ca.crt"`:                                func(p *profile.Profile) { p.AIACAIssuers = []string{"/ca.crt"} },
		`aia_ocsp: "http://u:p@x"`:                                 func(p *profile.Profile) { p.AIAOCSP = []string{"http://u:p@x"} },
	} {
		_, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{device(change)}, Authority: a.Certificate})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for _, oid := range []string{
		"2.5.29.99", "2.5.4.3", "1.3.6.1.5.5.7.48.1", "1.3.6.1.5.2.2", "1.2.840.113549.1.9.14", "1.2.840.10045.2.1", "1.3.6.1.4.1.311.25.2",
		"2.16.840.1.113730.1.1", "1.3.6.1.4.1.11129.2.4.3", "2.25.329800735698586629295641978511506172918", "1.3.6.1.4.1.99999.01", "1.3",
	} {
		p := device(func(p *profile.Profile) { p.IndicatorExtension = oid })
		if _, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{p}, Authority: a.Certificate}); err == nil {
			t.Errorf("indicators under %s", oid)
		}
	}
	nameless := user(func(p *profile.Profile) { p.KerberosNames, p.SAN = []string{"upn"}, "none" })
	if _, err := profile.NewSet(profile.Config{Profiles: []profile.Profile{nameless}, Authority: a.Certificate}); err == nil ||
		!strings.Contains(err.Error(), "kerberos_names: are alternative names: san is none") {
		t.Errorf("names without room: %v", err)
	}
	for name, c := range map[string]profile.Config{
		"no authority": {Profiles: []profile.Profile{device()}},
		"no profile":   {Authority: a.Certificate},
		"same label":   {Authority: a.Certificate, Profiles: []profile.Profile{device(), device()}},
		"protected":    {Authority: a.Certificate, Profiles: []profile.Profile{device()}, Protected: profile.Protected{Names: []string{"ipa.test"}}},
	} {
		if _, err := profile.NewSet(c); err == nil {
			t.Errorf("%s: a set was made", name)
		}
	}
}
