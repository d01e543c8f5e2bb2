package issue

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

// draft turns a template into the certificate as it will be, under the signature of a
// throw-away key, and lints it so: a defective certificate must not exist under the
// authority's key, not even for a moment.
func (i *Issuer) draft(template *x509.Certificate, r *csr.Request) (*x509.Certificate, error) {
	c, err := i.authority.Draft(template, r.PublicKey())
	if err != nil {
		return nil, err
	}
	if err := i.sound(c, r); err != nil {
		return nil, err
	}
	return c, i.linter.Check(c.Raw)
}

// sound checks what no linter knows: that it is this authority's certificate, for this
// request, and gives nobody the power to sign certificates.
func (i *Issuer) sound(c *x509.Certificate, r *csr.Request) error {
	ours := i.authority.Certificate
	switch {
	case !bytes.Equal(c.RawIssuer, ours.RawSubject), !bytes.Equal(c.AuthorityKeyId, ours.SubjectKeyId):
		return errors.New("the certificate does not name this authority")
	case !bytes.Equal(c.RawSubjectPublicKeyInfo, r.SPKI()):
		return fault.New(fault.Malformed, "issue.sound", "the public key is not encoded as RFC 3279 and RFC 5480 say", nil)
	case c.IsCA, c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return errors.New("the certificate is one of an authority")
	case c.NotBefore.Before(ours.NotBefore), c.NotAfter.After(ours.NotAfter), !c.NotAfter.After(c.NotBefore):
		return fmt.Errorf("the validity from %v to %v is not within this authority's", c.NotBefore, c.NotAfter)
	}
	return nil
}

// keyRetry is when a client may come again for whom the key could not be used.
const keyRetry = 5 * time.Second

// certify has the authority's key sign tbs and returns the certificate, once it is known
// to say what was recorded and to verify as a relying party verifies it.
func (i *Issuer) certify(ctx context.Context, tbs []byte) ([]byte, error) {
	der, err := i.authority.Sign(ctx, tbs)
	if err != nil {
		// The assertion is used: asked again at once with the same, nobody could say more.
		return nil, &fault.Error{Kind: fault.Unavailable, Op: "issue.certify", RetryAfter: keyRetry, Err: err}
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.New(fault.Internal, "issue.certify", "", fmt.Errorf("reading the signed certificate: %w", err))
	}
	if !bytes.Equal(c.RawTBSCertificate, tbs) {
		return nil, fault.New(fault.Internal, "issue.certify", "", errors.New("what was signed is not what was recorded"))
	}
	if err := c.CheckSignatureFrom(i.authority.Certificate); err != nil {
		return nil, fault.New(fault.Internal, "issue.certify", "", fmt.Errorf("verifying the signed certificate: %w", err))
	}
	return der, nil
}
