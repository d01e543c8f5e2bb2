package profile

import (
	"bytes"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
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
	if serial == nil || serial.Sign() <= 0 || serial.BitLen() > maxSerialBits {
		return nil, fault.New(fault.Internal, op, "", errors.New("the serial number is not positive or longer than 20 octets"))
	}
	rule, err := s.allow(a, r)
	if err != nil {
		return nil, err
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
	return s.template(rule, a, r, details{subject: subject, names: names, at: at, serial: serial})
}

// details are the computed parts of a certificate.
type details struct {
	subject []byte
	names   []csr.Name
	at      time.Time
	serial  *big.Int
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
	if err := r.setIndicators(t, a); err != nil {
		return nil, err
	}
	switch {
	case dn.IsEmpty(d.subject) && len(d.names) == 0:
		return nil, forbid("the certificate would have no name at all")
	case r.serverAuth && len(t.DNSNames)+len(t.IPAddresses) == 0:
		return nil, forbid("a server's certificate needs a DNS name or an address, and there is none that the identity may have or the request asks for")
	case bytes.Equal(d.subject, s.authority.RawSubject):
		return nil, forbid("the subject would be that of the authority")
	}
	t.NotBefore, t.NotAfter, err = s.validity(r, a, d.at)
	return t, err
}

// validity computes the time of validity: backdated, bounded by what each indicator allows,
// and within that of the authority.
func (s *Set) validity(r *rule, a *assertionv1.Assertion, at time.Time) (start, end time.Time, err error) {
	at = at.UTC().Truncate(time.Second)
	start, end = at.Add(-time.Duration(r.Backdate)), at.Add(r.length(a.GetAuthentication().GetIndicators()))
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
