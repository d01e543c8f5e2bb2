package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/signer/internal/key"
)

// checkCertificate holds an authority's own certificate to RFC 5280: CA:TRUE (4.2.1.9), key
// usage (4.2.1.3), subject key identifier (4.2.1.2), time and key.
func checkCertificate(c *x509.Certificate, signer key.Signer, now time.Time) error {
	pub, comparable := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	const usages = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case !comparable || !pub.Equal(signer.Public()):
		return errors.New("the certificate is for another key")
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("not a certificate of an authority: CA:FALSE")
	case c.KeyUsage&usages != usages:
		return errors.New("its key usage lacks keyCertSign or cRLSign")
	case len(c.SubjectKeyId) == 0:
		return errors.New("it has no subject key identifier")
	case len(c.RawSubject) <= 2:
		return errors.New("its subject is empty")
	}
	return checkTime(c, now)
}

func checkTime(c *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(c.NotBefore):
		return fmt.Errorf("valid only from %s on", c.NotBefore.Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fmt.Errorf("expired on %s", c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// checkChain holds the chain to RFC 5280 section 6: each name links to the next, and the
// whole verifies up to the self-signed last, path lengths and name constraints included.
func checkChain(chain []*x509.Certificate, now time.Time) error {
	root := chain[len(chain)-1]
	if !bytes.Equal(root.RawIssuer, root.RawSubject) {
		return fmt.Errorf("the chain ends in %q, which is not a root: its issuer %q is missing", root.Subject, root.Issuer)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("root %q is not signed by itself: %w", root.Subject, err)
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	options.Roots.AddCert(root)
	for i, c := range chain[1:] {
		if below := chain[i]; !bytes.Equal(below.RawIssuer, c.RawSubject) {
			return fmt.Errorf("%q was issued by %q, but %q follows it in the chain", below.Subject, below.Issuer, c.Subject)
		}
		if err := checkTime(c, now); err != nil {
			return fmt.Errorf("%q of the chain: %w", c.Subject, err)
		}
		options.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(options); err != nil {
		return fmt.Errorf("the chain does not verify: %w", err)
	}
	return nil
}
