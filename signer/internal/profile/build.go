package profile

import (
	"bytes"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/subjectid"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// maxSerialBits is 20 octets without the sign bit (RFC 5280 section 4.1.2.2).
const maxSerialBits = 159

// Build returns the template of the certificate for what a states and r asks, to be signed
// for r's key. It depends on its arguments, the profiles and the authority alone: the same
// ones give the same template. A refusal is a *fault.Error, Forbidden, with a text for the
// client; a serial number that is not usable, or an authority at its end, is another error.
func (s *Set) Build(a *assertionv1.Assertion, r *csr.Request, at time.Time, serial *big.Int) (*x509.Certificate, error) {
	if err := checkSerial(serial); err != nil {
		return nil, err
	}
	indicators, byCertificate := a.GetAuthentication().GetIndicators(), a.GetAuthentication().GetMethod() == assertionv1.Method_METHOD_CERTIFICATE
	if byCertificate {
		indicators = []string{x509Indicator}
	}
	rule, err := s.allow(a, r, indicators)
	if err != nil {
		return nil, err
	}
	if byCertificate && !s.Foreign(a) {
		return nil, forbid("certificates of that authority are not accepted under this label")
	}
	names, err := rule.chooseNames(a, r)
	if err != nil {
		return nil, err
	}
	subject, elements, err := rule.buildSubject(a)
	if err != nil {
		return nil, err
	}
	if s.protected.name(names, elements) {
		return nil, forbid("a name of this identity is protected")
	}
	if err := s.checkRequest(rule, r, subject); err != nil {
		return nil, err
	}
	return s.template(rule, a, r, details{
		subject: subject, names: names, at: at, serial: serial, indicators: indicators,
		length: rule.length(indicators), until: rule.lineEnd(assertion.LoginTime(a), time.Time{}),
	})
}

func checkSerial(serial *big.Int) error {
	if serial == nil || serial.Sign() <= 0 || serial.BitLen() > maxSerialBits {
		return fault.New(fault.Internal, op, "", errors.New("the serial number is not positive or longer than 20 octets"))
	}
	return nil
}

// details are the computed parts of a certificate.
type details struct {
	subject    []byte
	names      []csr.Name
	at         time.Time
	serial     *big.Int
	indicators []string
	length     time.Duration
	until      time.Time // the end of the line; zero for never
}

func (s *Set) template(r *rule, a *assertionv1.Assertion, request *csr.Request, d details) (*x509.Certificate, error) {
	id, err := ca.KeyID(request.PublicKey())
	if err != nil {
		return nil, fault.New(fault.Internal, op, "", err)
	}
	t := &x509.Certificate{
		SerialNumber: new(big.Int).Set(d.serial), RawSubject: d.subject,
		KeyUsage: r.keyUsage & suits(request.KeyType()), UnknownExtKeyUsage: slices.Clone(r.extKeyUsage),
		BasicConstraintsValid: true, SubjectKeyId: id,
		CRLDistributionPoints: slices.Clone(r.CRLDistributionPoints),
		IssuingCertificateURL: slices.Clone(r.AIACAIssuers), OCSPServer: slices.Clone(r.AIAOCSP),
	}
	if err := setNames(t, d.names); err != nil {
		return nil, err
	}
	if err := r.setIndicators(t, d.indicators); err != nil {
		return nil, err
	}
	whose, err := subjectid.Extension(subjectid.Of(a.GetIdentity()))
	if err != nil {
		return nil, forbid("the identity cannot stand in a certificate: %s", err)
	}
	t.ExtraExtensions = append(t.ExtraExtensions, whose)
	switch {
	case dn.IsEmpty(d.subject) && len(d.names) == 0:
		return nil, forbid("the certificate would have no name at all")
	case r.serverAuth && len(t.DNSNames)+len(t.IPAddresses) == 0:
		return nil, forbid("a server's certificate needs a DNS name or an address, and there is none that the identity may have or the request asks for")
	case slices.ContainsFunc(s.ours, func(c *x509.Certificate) bool { return bytes.Equal(d.subject, c.RawSubject) }):
		return nil, forbid("the subject would be that of the authority")
	}
	t.NotBefore, t.NotAfter, err = s.validity(r, d)
	return t, err
}

// validity computes the time of validity: backdated, bounded by what each indicator allows and
// by the end of the line, and within that of the authority.
func (s *Set) validity(r *rule, d details) (start, end time.Time, err error) {
	at := d.at.UTC().Truncate(time.Second)
	start, end = at.Add(-time.Duration(r.Backdate)), at.Add(d.length)
	if !d.until.IsZero() {
		if until := d.until.UTC().Truncate(time.Second); until.Before(end) {
			end = until
		}
		if end.Before(at.Add(shortest)) {
			return start, end, forbid("the first login of this line of certificates is too long ago (max_chain_age): log in again to enrol")
		}
	}
	if start.Before(s.authority.NotBefore) {
		start = s.authority.NotBefore
	}
	if end.After(s.authority.NotAfter) {
		end = s.authority.NotAfter
	}
	if !end.After(at) || at.Before(s.authority.NotBefore) {
		return start, end, fault.New(fault.Unavailable, op, "", errors.New("the authority's certificate is not valid at this time"))
	}
	return start, end, nil
}

// length returns how long a certificate is valid for a proof with these indicators.
func (r *rule) length(indicators []string) time.Duration {
	if len(indicators) == 0 {
		indicators = []string{noIndicator}
	}
	length := time.Duration(r.Validity)
	for _, indicator := range indicators {
		if bound, ok := r.MaxValidity[indicator]; ok {
			length = min(length, time.Duration(bound))
		}
	}
	return length
}
