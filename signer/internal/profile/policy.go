package profile

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// allow decides whether this identity may have a certificate for this key under the label,
// whatever its names. The indicators are those of the proof and, of a renewal, those of the
// first login.
func (s *Set) allow(a *assertionv1.Assertion, request *csr.Request, indicators []string) (*rule, error) {
	r := s.rules[a.GetLabel()]
	if r == nil {
		return nil, forbid("there is no profile for the label %s", short(a.GetLabel()))
	}
	id, proof := a.GetIdentity(), a.GetAuthentication()
	switch {
	case a.GetOperation() != assertionv1.Operation_OPERATION_ENROLL && a.GetOperation() != assertionv1.Operation_OPERATION_REENROLL:
		return nil, forbid("there is no such operation")
	case a.GetOperation() == assertionv1.Operation_OPERATION_REENROLL && proof.GetMethod() != assertionv1.Method_METHOD_CERTIFICATE:
		return nil, forbid("only certificates are renewed: there is nothing to renew")
	case !slices.Contains(r.kinds, id.GetKind()):
		return nil, forbid("this kind of identity may not enrol under this label")
	case len(r.Realms) > 0 && !slices.Contains(r.Realms, id.GetRealm()):
		return nil, forbid("the identity's realm may not enrol under this label")
	case !slices.Contains(r.methods, proof.GetMethod()):
		return nil, forbid("this way of authentication is not accepted under this label")
	case len(r.RequireIndicators) > 0 && !overlap(r.RequireIndicators, indicators):
		return nil, forbid("this label demands a stronger authentication")
	case r.MaxLoginAge > 0 && proof.GetMethod() == assertionv1.Method_METHOD_NEGOTIATE &&
		proof.GetVerifiedAt().AsTime().Sub(proof.GetLoginTime().AsTime()) > time.Duration(r.MaxLoginAge):
		return nil, forbid("the login is longer ago than this label allows (%s): log in again (kinit)", r.MaxLoginAge)
	case len(r.RequireGroups) > 0 && !overlap(r.RequireGroups, id.GetGroups()):
		return nil, forbid("this label is for members of other groups")
	case s.protected.principal(id):
		return nil, forbid("this identity is protected")
	}
	return r, s.allowKey(r, a, request)
}

func (s *Set) allowKey(r *rule, a *assertionv1.Assertion, request *csr.Request) error {
	spki := request.SPKISHA256()
	required := a.GetToken().GetRequiredSpkiSha256()
	switch {
	case len(required) > 0 && !bytes.Equal(required, spki[:]):
		return forbid("the token is bound to another key")
	case !slices.Contains(r.keyTypes, request.KeyType()):
		return forbid("keys of type %s are not certified under this label", request.KeyType())
	case request.KeyType() == csr.RSA && (request.Bits() < r.RSAMinBits || request.Bits() > r.RSAMaxBits):
		return forbid("RSA keys of %d bits are not certified under this label: %d to %d are", request.Bits(), r.RSAMinBits, r.RSAMaxBits)
	case slices.ContainsFunc(s.ours, func(c *x509.Certificate) bool { return same(request.PublicKey(), c.PublicKey) }):
		return forbid("the request holds the authority's own key")
	}
	return nil
}

// checkRequest holds what the request says beside names and key to the profile.
func (s *Set) checkRequest(r *rule, request *csr.Request, subject []byte) error {
	if r.CSRSubject == match && !dn.IsEmpty(request.RawSubject()) && !dn.Equal(request.RawSubject(), subject) {
		return forbid("the subject of the request is not the one that this identity gets under this label")
	}
	if r.CSRExtensions == refuse {
		for _, e := range request.Extensions() {
			if e.Id.String() != oidSubjectAltName {
				return forbid("the request asks for the extension %s: only subjectAltName may be asked for under this label", short(e.Id.String()))
			}
		}
	}
	if slices.ContainsFunc(request.Attributes(), func(id asn1.ObjectIdentifier) bool { return id.String() == oidChangeSubjectName }) {
		return forbid("the request asks for other names (ChangeSubjectName, RFC 6402 section 2.8), which no label offers: enrol anew under the new name")
	}
	if _, has := request.ChallengePassword(); r.ChallengePassword == "require" && !has {
		return forbid("this label demands that identity and proof of possession are linked: the request needs a challengePassword (RFC 7030 section 3.5)")
	}
	return nil
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}
