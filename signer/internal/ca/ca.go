// Package ca turns files into the certification authority that signs.
//
// cmd/signer makes an authority with Init, Request and Import and opens it with Load; issue
// drafts and signs certificates with it, crl revocation lists. An authority that would sign
// what nobody can verify does not open.
package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/signer/internal/key"
)

// Authority is a certification authority whose certificate, chain and key belong together.
type Authority struct {
	// Name is the audience of the assertions that it accepts.
	Name string
	// Certificate is its own certificate.
	Certificate *x509.Certificate
	// Chain is Certificate, its issuer and so on up to a self-signed root.
	Chain []*x509.Certificate
	// Signer is its key.
	Signer key.Signer

	throwaway crypto.Signer
}

// New checks that the certificate, the rest of its chain up to the root, and the key make
// an authority at the time now.
func New(name string, chain []*x509.Certificate, signer key.Signer, now time.Time) (*Authority, error) {
	if name == "" {
		return nil, errors.New("the authority has no name")
	}
	if len(chain) == 0 {
		return nil, errors.New("the authority has no certificate")
	}
	certificate := chain[0]
	if err := checkCertificate(certificate, signer, now); err != nil {
		return nil, err
	}
	if err := checkChain(chain, now); err != nil {
		return nil, err
	}
	throwaway, err := key.Throwaway(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("making a key to lint with: %w", err)
	}
	return &Authority{Name: name, Certificate: certificate, Chain: chain, Signer: signer, throwaway: throwaway}, nil
}

// Draft makes the certificate that template describes for the public key pub, under a
// signature that nobody trusts: Raw is what is linted, RawTBSCertificate is what the authority
// would sign (RFC 5280 section 4.1.2), byte for byte. Equal arguments give equal bytes there.
func (a *Authority) Draft(template *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	t, issuer := *template, *a.Certificate
	t.SignatureAlgorithm = a.Signer.Algorithm()
	issuer.PublicKey = a.throwaway.Public()
	der, err := x509.CreateCertificate(rand.Reader, &t, &issuer, pub, a.throwaway)
	if err != nil {
		return nil, fmt.Errorf("drafting certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading own draft: %w", err)
	}
	return c, nil
}

// Sign uses the authority's key once, over to-be-signed bytes, verifies the signature and
// returns the whole certificate. An error that is not key.ErrNotUsed leaves open whether
// there is a signature.
func (a *Authority) Sign(ctx context.Context, tbs []byte) ([]byte, error) {
	signature, err := a.Signer.Sign(ctx, tbs)
	if err != nil {
		return nil, fmt.Errorf("using the key of authority %s: %w", a.Name, err)
	}
	if err := key.Verify(a.Signer, tbs, signature); err != nil {
		return nil, err
	}
	return key.Assemble(tbs, a.Signer.Algorithm(), signature)
}
