package issue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/subjectid"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// keepSpent is how long past the last time at which a certificate can be renewed its successors
// are counted: clocks differ.
const keepSpent = 24 * time.Hour

// origin is what a certificate goes back to: the login of its holder, and the certificate that
// it renews.
type origin struct {
	line ledger.Line
	// predecessor is nil for the first of a line.
	predecessor *profile.Predecessor
	// successors is nil where no certificate was presented.
	successors *ledger.Successors
}

// origin finds it for an assertion at a time. Of a certificate that was presented it believes
// the ledger alone.
//
// Errors: Unauthenticated (the certificate is revoked, held, not valid at that time, or nobody's
// here), Internal (the assertion says something else of it than the ledger), Unavailable.
func (i *Issuer) origin(ctx context.Context, a *assertionv1.Assertion, at time.Time) (origin, error) {
	o := origin{line: ledger.LineOf(a)}
	if a.GetAuthentication().GetMethod() == assertionv1.Method_METHOD_CERTIFICATE {
		limits := i.profiles.Limits(a.GetLabel())
		o.successors = &ledger.Successors{Limit: limits.Enrolments, KeepUntil: a.GetSpend().GetKeepUntil().AsTime()}
		if err := i.inherit(ctx, a, at, limits, &o); err != nil {
			return origin{}, err
		}
	}
	o.line.Until = i.profiles.LineEnd(a.GetLabel(), o.line.LoginAt, o.line.Until)
	return o, nil
}

// inherit fills o with what the ledger has of the presented certificate. One of another
// authority is nobody's successor: the profile says whether it counts.
func (i *Issuer) inherit(ctx context.Context, a *assertionv1.Assertion, at time.Time, limits profile.Limits, o *origin) error {
	presented := a.GetPresentedCertificate()
	ids := a.GetSpend().GetIds()
	if len(ids) != 1 || !bytes.Equal(ids[0], append([]byte(assertion.SpendCertificate), presented.GetSha256()...)) {
		return fault.New(fault.Internal, "issue.inherit", "", errors.New("the assertion does not spend the certificate that it names"))
	}
	serial := fmt.Sprintf("%040x", new(big.Int).SetBytes(presented.GetSerial()))
	p, err := i.ledger.GetPredecessor(ctx, serial)
	switch sum := sha256.Sum256(p.Certificate); {
	case errors.Is(err, fault.NotFound), err == nil && !bytes.Equal(sum[:], presented.GetSha256()):
		return i.foreign(a)
	case err != nil:
		return err
	case subjectid.Of(p.Identity) != subjectid.Of(a.GetIdentity()):
		return fault.New(fault.Internal, "issue.inherit", "",
			fmt.Errorf("the assertion calls the holder of certificate %s %s, the ledger %s", serial, subjectid.Of(a.GetIdentity()), subjectid.Of(p.Identity)))
	}
	c, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		return fault.New(fault.Internal, "issue.inherit", "", fmt.Errorf("reading certificate %s of the ledger: %w", serial, err))
	}
	request, err := csr.Parse(p.CSR)
	if err != nil {
		return fault.New(fault.Internal, "issue.inherit", "", fmt.Errorf("reading the request of certificate %s in the ledger: %w", serial, err))
	}
	if err := usable(c, p.Revoked, at, limits.Grace); err != nil {
		return fault.New(fault.Unauthenticated, "issue.inherit", ledger.Refused, err)
	}
	o.line = p.Line
	o.line.Predecessor = serial
	// As long as any label, today's or a later one, could renew it.
	o.successors = &ledger.Successors{Limit: limits.Successors, KeepUntil: c.NotAfter.Add(profile.MaxGrace + keepSpent)}
	o.predecessor = &profile.Predecessor{
		Certificate: c, Request: request, Label: p.Label, IssuedAt: p.IssuedAt, LoginAt: p.Line.LoginAt, Indicators: p.Line.Indicators, Until: p.Line.Until,
	}
	return nil
}

// foreign refuses a certificate that is not in the ledger where it would have to be.
func (i *Issuer) foreign(a *assertionv1.Assertion) error {
	if a.GetOperation() == assertionv1.Operation_OPERATION_ENROLL && i.profiles.Foreign(a) {
		return nil
	}
	return fault.New(fault.Unauthenticated, "issue.foreign", ledger.Refused, errors.New("the presented certificate was not issued by this authority"))
}

// usable tells why a certificate cannot be renewed at a time.
func usable(c *x509.Certificate, revoked *ledger.Revoked, at time.Time, grace time.Duration) error {
	switch {
	case revoked != nil:
		return revoked.Why()
	case at.After(c.NotAfter.Add(grace)):
		return fmt.Errorf("the presented certificate has expired: it ended at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case at.Before(c.NotBefore):
		return fmt.Errorf("the presented certificate is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
