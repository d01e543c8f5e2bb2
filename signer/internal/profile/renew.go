package profile

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/subjectid"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// Words of rekey.
const (
	rekeyInWindow = "in-window"
	rekeySameKey  = "same-key"
	rekeyAny      = "any"
)

const (
	// x509Indicator is that of a proof by certificate.
	x509Indicator = "x509"
	// unlimited is a line of renewals without an end.
	unlimited = "unlimited"
	// maxSuccessors bounds max_successors.
	maxSuccessors = 1000
	// shortest is the least time that a renewal is worth.
	shortest = time.Minute
)

// oidChangeSubjectName is the attribute by which a client asks for other names (RFC 6402
// section 2.8).
const oidChangeSubjectName = "1.3.6.1.5.5.7.7.36"

// compileRenewal checks the rules on certificates that come to be renewed.
func (r *rule) compileRenewal(add add) {
	accepts := slices.Contains(r.methods, assertionv1.Method_METHOD_CERTIFICATE)
	checkWords("renews", r.Renews, add)
	if slices.Contains(r.Renews, r.Label) {
		add("renews", "holds the label itself: its own certificates are renewed anyway")
	}
	if r.MaxSuccessors < 1 || r.MaxSuccessors > maxSuccessors {
		add("max_successors", "has to be between 1 and %d", maxSuccessors)
	}
	if r.MaxEnrolments < 1 || r.MaxEnrolments > maxSuccessors {
		add("max_enrolments", "has to be between 1 and %d", maxSuccessors)
	}
	if r.RenewExpired < 0 || r.RenewExpired > config.Duration(MaxGrace) {
		add("renew_expired", "has to be at most %s", config.Duration(MaxGrace))
	}
	for key, given := range map[string]bool{
		"renews": len(r.Renews) > 0, "renew_expired": r.RenewExpired > 0, "certificate_anchors": len(r.CertificateAnchors) > 0,
	} {
		if given && !accepts {
			add(key, "is for those who come with a certificate: methods does not hold certificate")
		}
	}
	if accepts && len(r.Renews)+len(r.CertificateAnchors) == 0 && !slices.Contains(r.ExtKeyUsage, "clientAuth") {
		add("methods", "holds certificate, but no certificate of this label can be presented: ext_key_usage does not hold clientAuth (RFC 7030 section 3.3.2)")
	}
	r.compileLineAge(accepts, add)
	for _, text := range r.CertificateAnchors {
		sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(sum) != 32 {
			add("certificate_anchors", "%q is not the SHA-256 of a certificate: 64 hexadecimal digits", text)
		}
		r.anchors = append(r.anchors, sum)
	}
	if len(r.CertificateAnchors) > 0 && !slices.Contains(r.IdentityKinds, "device") {
		add("certificate_anchors", "is for devices: identity_kinds does not hold device")
	}
}

func (r *rule) compileLineAge(accepts bool, add add) {
	switch r.MaxChainAge {
	case unlimited:
		return
	case "":
		if accepts {
			add("max_chain_age", "is missing: methods holds certificate, so say for how long renewals may go on after the first login, such as \"365d\", or unlimited")
		}
		return
	}
	var d config.Duration
	if err := d.UnmarshalText([]byte(r.MaxChainAge)); err != nil {
		add("max_chain_age", "%q is not a length of time, such as \"365d\", nor %s", r.MaxChainAge, unlimited)
	} else if d < config.Duration(shortest) {
		add("max_chain_age", "has to be at least %s, or %s", config.Duration(shortest), unlimited)
	}
	r.lineAge = time.Duration(d)
}

// CheckRenews reports labels in renews that there are not: a word that is misspelt would stay
// unnoticed until the first certificate ends.
func CheckRenews(profiles []Profile, report func(i int, key, format string, args ...any)) {
	for i, p := range profiles {
		for _, label := range p.Renews {
			if !slices.ContainsFunc(profiles, func(other Profile) bool { return other.Label == label }) {
				report(i, "renews", "there is no profile for the label %q", label)
			}
		}
	}
}

// renewed returns the other labels whose certificates are renewed.
func (r *rule) renewed() []string {
	if !slices.Contains(r.methods, assertionv1.Method_METHOD_CERTIFICATE) {
		return nil
	}
	return r.Renews
}

// AnyKey returns the labels under which certificates are renewed for any key at any time, in
// order: for a warning.
func (s *Set) AnyKey() (labels []string) {
	for label, r := range s.rules {
		if r.Rekey == rekeyAny && slices.Contains(r.methods, assertionv1.Method_METHOD_CERTIFICATE) {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	return labels
}

// Predecessor is a certificate of this authority that somebody has presented to get another.
type Predecessor struct {
	// Certificate is itself.
	Certificate *x509.Certificate
	// Request is the one that it was issued for.
	Request *csr.Request
	// Label is the one under which it was issued.
	Label string
	// IssuedAt is when.
	IssuedAt time.Time
	// LoginAt is when the holder logged in for the first certificate of its line.
	LoginAt time.Time
	// Indicators are the authentication indicators of that login.
	Indicators []string
	// Until is when the line ends; zero for never.
	Until time.Time
}

// MaxGrace is the most that Limits.Grace can be, under any label.
const MaxGrace = 90 * 24 * time.Hour

// Limits is what a label allows of a certificate that is presented under it.
type Limits struct {
	// Successors is how many may follow one of our own, Enrolments how many may be had on the
	// strength of one of another authority.
	Successors, Enrolments int64
	// Grace is for how long after its end one of our own is renewed.
	Grace time.Duration
}

// Limits returns those of a label.
func (s *Set) Limits(label string) Limits {
	if r, ok := s.rules[label]; ok {
		return Limits{Successors: r.MaxSuccessors, Enrolments: r.MaxEnrolments, Grace: time.Duration(r.RenewExpired)}
	}
	return Limits{Successors: 1, Enrolments: 1}
}

// LineEnd returns when a line ends that began with a login and is continued, or begun, under a
// label; inherited is what was said before. Zero is never.
func (s *Set) LineEnd(label string, login, inherited time.Time) time.Time {
	if r, ok := s.rules[label]; ok {
		return r.lineEnd(login, inherited)
	}
	return inherited
}

func (r *rule) lineEnd(login, inherited time.Time) time.Time {
	if r.lineAge == 0 {
		return inherited
	}
	end := login.Add(r.lineAge)
	if !inherited.IsZero() && inherited.Before(end) {
		return inherited
	}
	return end
}

// Renew is Build for who has proved themselves by a certificate of this authority: names and
// login are those of that one, and the rules of the profile hold anew. That it is neither
// revoked nor used up is for the caller to know.
func (s *Set) Renew(a *assertionv1.Assertion, r *csr.Request, at time.Time, serial *big.Int, p Predecessor) (*x509.Certificate, error) {
	if err := checkSerial(serial); err != nil {
		return nil, err
	}
	// Whatever is asserted: a validator that may speak for certificates has no say in logins.
	indicators := append(slices.Clone(p.Indicators), x509Indicator)
	rule, err := s.allow(a, r, indicators)
	if err != nil {
		return nil, err
	}
	if p.Label != rule.Label && !slices.Contains(rule.Renews, p.Label) {
		return nil, forbid("the certificate was issued under another label, whose certificates are not renewed under this one")
	}
	names, err := rule.inherit(a, r, p)
	if err != nil {
		return nil, err
	}
	if _, mapped := rule.mapping[subjectid.Of(a.GetIdentity()).String()]; rule.Unmapped == refuse && !mapped {
		return nil, forbid("principal not mapped")
	}
	if err := rule.checkKey(r, at, p); err != nil {
		return nil, err
	}
	if s.protected.name(names, elementsOf(p.Certificate)) {
		return nil, forbid("a name of this identity is protected")
	}
	subject := p.Certificate.RawSubject
	if err := s.checkRequest(rule, r, r.RawSubject()); err != nil {
		return nil, err
	}
	return s.template(rule, a, r, details{
		subject: subject, names: names, at: at, serial: serial,
		indicators: indicators, length: min(rule.length(p.Indicators), rule.length([]string{x509Indicator})),
		until: rule.lineEnd(p.LoginAt, p.Until),
	})
}

// checkKey holds the key of the request to rekey.
func (r *rule) checkKey(request *csr.Request, at time.Time, p Predecessor) error {
	own := p.Certificate
	if bytes.Equal(request.SPKI(), own.RawSubjectPublicKeyInfo) {
		return nil
	}
	opens := own.NotAfter.Add(-own.NotAfter.Sub(p.IssuedAt) / 3) // not of what is backdated
	switch {
	case r.Rekey == rekeySameKey:
		return forbid("the request holds another key than the certificate, and this label renews for the same key alone")
	case r.Rekey == rekeyInWindow && at.Before(opens):
		return forbid("the request holds another key than the certificate, for which this label renews from %s on; for the same key it does at any time",
			opens.UTC().Format(time.RFC3339))
	}
	return nil
}

// inherit returns the alternative names of the certificate, once they and its subject are those
// that the request asks for: RFC 7030 section 4.2.2 has them be the same, as in the certificate
// or, for clients that send what they sent before, as in the request that it was issued for.
func (r *rule) inherit(a *assertionv1.Assertion, request *csr.Request, p Predecessor) ([]csr.Name, error) {
	names, err := csr.NamesOf(p.Certificate)
	if err != nil {
		return nil, forbid("the alternative names of the certificate cannot be read")
	}
	subject := request.RawSubject()
	switch {
	case !dn.Equal(subject, p.Certificate.RawSubject) && !dn.Equal(subject, p.Request.RawSubject()):
		return nil, forbid("the subject of the request is not that of the certificate (RFC 7030 section 4.2.2)")
	case !sameNames(request.Names(), names) && !sameNames(request.Names(), p.Request.Names()):
		return nil, forbid("the alternative names of the request are not those of the certificate (RFC 7030 section 4.2.2)")
	case r.SAN == sanNone && len(names) > 0:
		return nil, forbid("the certificate has alternative names, and this label issues none any more: enrol anew")
	}
	kerberos, err := r.kerberosNamesOf(a.GetIdentity())
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name.Type == csr.Other && !slices.Contains(kerberos, name.String()) {
			return nil, forbid("the certificate has a name for logins that this label does not issue any more: enrol anew")
		}
	}
	return names, nil
}

// sameNames tells whether two lists of canonical names, each once, hold the same.
func sameNames(a, b []csr.Name) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(n csr.Name) bool { return !slices.Contains(b, n) })
}

// elementsOf returns the subject of a certificate.
func elementsOf(c *x509.Certificate) (elements []dn.Element) {
	for _, e := range c.Subject.Names {
		if value, ok := e.Value.(string); ok {
			elements = append(elements, dn.Element{Value: value})
		}
	}
	return elements
}

// Foreign tells whether who is asserted enrols by a certificate of another authority: a device,
// by an authority that the label names.
func (s *Set) Foreign(a *assertionv1.Assertion) bool {
	r, ok := s.rules[a.GetLabel()]
	return ok && a.GetIdentity().GetKind() == assertionv1.IdentityKind_IDENTITY_KIND_DEVICE &&
		slices.ContainsFunc(r.anchors, func(sum []byte) bool { return bytes.Equal(sum, a.GetPresentedCertificate().GetAnchorSha256()) })
}
