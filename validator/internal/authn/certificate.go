package authn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/certpath"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/subjectid"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

const (
	methodCertificate    = "certificate"
	certificateIndicator = "x509"
)

// Why a certificate is refused, or counts as absent, beside the reasons of clientcert.
const (
	reasonRevoked    = "the presented certificate is revoked"
	reasonHeld       = "the presented certificate is on hold"
	reasonNoRenewal  = "re-enrolment is by certificate alone (RFC 7030 section 4.2.2), and none was presented"
	reasonOtherName  = "the directory knows the holder of the certificate under another name or kind"
	noCertificate    = "the label does not accept certificates"
	farthest         = 253402300799 // 9999-12-31T23:59:59Z, the last time of a certificate and of a Timestamp
	successorsOfOurs = math.MaxInt32
)

// TakesCertificates tells whether a certificate proves somebody under a label.
func (a *Authenticator) TakesCertificates(label string) bool {
	rule, ok := a.c.Labels[label]
	return ok && len(rule.Certificates.Authorities) > 0
}

// Certificate says who presents these certificates in TLS. With Absent the certificate counts
// as if it were not there, for the reason of Refused, and another credential may be looked at.
// Errors are those of Basic.
func (a *Authenticator) Certificate(ctx context.Context, at Attempt) (Outcome, error) {
	rule, ok := a.c.Labels[at.Label]
	if !ok || len(rule.Certificates.Authorities) == 0 {
		return Outcome{}, fault.New(fault.Forbidden, "authn.Certificate", noCertificate, fmt.Errorf("label %q does not accept certificates", at.Label))
	}
	if err := a.c.Throttle.Admit(ctx, a.c.Throttle.Place(at.ClientAddress), a.c.Now()); err != nil {
		return Outcome{}, err
	}
	if len(at.Certificates) == 0 && !at.TooMany {
		return a.refuseCertificate(at, Outcome{Refused: reasonNoRenewal}), nil
	}
	holder, err := a.judge(at, rule)
	if err != nil {
		out := Outcome{Refused: err.Error(), Absent: true, Method: methodCertificate}
		if clientcert.Stranger(err) {
			out = a.refuseCertificate(at, out)
		}
		return out, nil
	}
	out := Outcome{
		Method: methodCertificate, Identity: subjectid.Of(holder.Identity).String(),
		Certificate: fmt.Sprintf("%x", holder.Presented.GetSerial()), Settlement: state.Settlement{At: a.c.Now()},
	}
	if holder.Authority == clientcert.Own {
		switch at.Revocation {
		case validatorv1.RevocationStatus_REVOCATION_STATUS_REVOKED:
			out.Refused, out.Absent = reasonRevoked, true
		case validatorv1.RevocationStatus_REVOCATION_STATUS_HELD:
			out.Refused, out.Absent = reasonHeld, true
		case validatorv1.RevocationStatus_REVOCATION_STATUS_UNSPECIFIED: // the signer knows
		}
	}
	if out.Refused != "" {
		return out, nil
	}
	id, reason, err := a.holder(ctx, rule, holder.Identity)
	if err != nil {
		return Outcome{}, err
	}
	if out.Refused = reason; reason != "" {
		return a.refuseCertificate(at, out), nil
	}
	holder.Identity = id
	out.Proof = proveCertificate(holder, at, rule, a.c.Now())
	return out, nil
}

func (a *Authenticator) judge(at Attempt, rule Rule) (clientcert.Holder, error) {
	if at.TooMany {
		return clientcert.Holder{}, certpath.ErrTooMany
	}
	return a.c.Certificates.Judge(at.Certificates, rule.Certificates, a.c.Now())
}

// refuseCertificate completes a refusal, and counts it for where it came from.
func (a *Authenticator) refuseCertificate(at Attempt, out Outcome) Outcome {
	out.Method = methodCertificate
	out.Settlement = state.Settlement{At: a.c.Now(), Others: a.c.Throttle.Place(at.ClientAddress).Subjects}
	return out
}

// holder returns who the directory says that the holder is, where the label wants it to be asked,
// or why that one may not enrol. A device is nobody in a realm of accounts: as with its token,
// its name alone has to be an account's.
func (a *Authenticator) holder(ctx context.Context, rule Rule, id *assertionv1.Identity) (*assertionv1.Identity, string, error) {
	if rule.Check == CheckNone {
		return id, "", nil
	}
	if id.GetKind() == assertionv1.IdentityKind_IDENTITY_KIND_DEVICE {
		_, reason, err := a.lookUp(ctx, rule, id.GetPrincipal())
		return id, reason, err
	}
	known, reason, err := a.account(ctx, rule, id.GetPrincipal(), id.GetRealm())
	switch {
	case err != nil, reason != "":
		return nil, reason, err
	case known == nil:
		return id, "", nil
	case subjectid.Of(known) != subjectid.Of(id):
		return nil, reasonOtherName, nil
	}
	return known, "", nil
}

// proveCertificate returns what a certificate proved. How many others may follow it is the
// signer's to say.
func proveCertificate(h clientcert.Holder, at Attempt, rule Rule, now time.Time) Proof {
	keep := h.NotAfter.Add(rule.Certificates.Grace + keepSpent)
	if end := time.Unix(farthest, 0); keep.After(end) {
		keep = end
	}
	return Proof{
		Identity: h.Identity,
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_CERTIFICATE, Indicators: []string{certificateIndicator}, VerifiedAt: timestamppb.New(now),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE, ClientAddress: at.ClientAddress, Backend: h.Authority,
		},
		Certificate: h.Presented,
		Spend: &assertionv1.Spend{
			Ids: [][]byte{append([]byte(assertion.SpendCertificate), h.Presented.GetSha256()...)}, Limit: successorsOfOurs, KeepUntil: timestamppb.New(keep),
		},
	}
}

// checkCertificates holds the labels against the authorities that there are.
func (c Config) checkCertificates(label string, rule Rule) error {
	for _, name := range rule.Certificates.Authorities {
		if c.Certificates == nil || !c.Certificates.Has(name) {
			return fmt.Errorf("label %s accepts certificates of %s, of which nothing is known", label, name)
		}
	}
	if rule.Certificates.Grace < 0 {
		return errors.New("a label's grace for certificates is negative")
	}
	return nil
}
