// Package crl turns the ledger's revoked entries into a signed certificate revocation list
// (RFC 5280 section 5).
//
// serve calls it with rows of the ledger and publishes what it returns; the signature comes
// from the authority's key through ca.
package crl

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// List is what a revocation list says.
type List struct {
	// Number grows with every list of an authority (RFC 5280 section 5.2.3): 1 to 159 bits.
	Number *big.Int
	// ThisUpdate is when the list is made, NextUpdate when a newer one will be there at the
	// latest. Fractions of a second are cut off.
	ThisUpdate, NextUpdate time.Time
	// Entries are the revoked certificates, in any order, each serial number once.
	Entries []Entry
	// DistributionPoints are the URLs of the list: they stand in it, so that it cannot be put
	// in another one's place (RFC 5280 section 5.2.5). Without any it says nothing of that.
	DistributionPoints []string
}

// Entry is a revoked certificate.
type Entry struct {
	// Serial number, positive.
	Serial *big.Int
	// RevokedAt is when it was revoked.
	RevokedAt time.Time
	// Reason is a CRLReason (RFC 5280 section 5.3.1); 0, unspecified, is left out.
	Reason int
}

// Build signs the list with the authority's key and returns its DER. It fails where the
// list breaks a rule of RFC 5280, and with the key's error where that cannot sign.
func Build(ctx context.Context, a *ca.Authority, l List) ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("building revocation list: %w", err)
	}
	template := &x509.RevocationList{
		SignatureAlgorithm: a.Signer.Algorithm(), Number: l.Number,
		ThisUpdate: l.ThisUpdate.UTC().Truncate(time.Second), NextUpdate: l.NextUpdate.UTC().Truncate(time.Second),
	}
	if len(l.DistributionPoints) > 0 {
		idp, err := issuingDistributionPoint(l.DistributionPoints)
		if err != nil {
			return nil, fmt.Errorf("building revocation list: %w", err)
		}
		template.ExtraExtensions = []pkix.Extension{idp}
	}
	for _, e := range l.Entries {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: e.Serial, RevocationTime: e.RevokedAt.UTC().Truncate(time.Second), ReasonCode: e.Reason,
		})
	}
	// Equal contents give equal lists, whatever order the rows came in.
	slices.SortFunc(template.RevokedCertificateEntries, func(a, b x509.RevocationListEntry) int {
		return a.SerialNumber.Cmp(b.SerialNumber)
	})
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, key.ForX509(ctx, a.Signer))
	if err != nil {
		return nil, fmt.Errorf("signing revocation list %v: %w", l.Number, err)
	}
	made, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("reading own revocation list: %w", err)
	}
	if err := made.CheckSignatureFrom(a.Certificate); err != nil {
		return nil, fmt.Errorf("verifying own revocation list: %w", err)
	}
	return der, nil
}

// issuingDistributionPoint returns the extension of a list that covers every certificate of
// its authority (RFC 5280 section 5.2.5): a DistributionPointName, in [0], with a fullName,
// in [0].
func issuingDistributionPoint(urls []string) (pkix.Extension, error) {
	zero, uri := casn1.Tag(0).ContextSpecific().Constructed(), casn1.Tag(6).ContextSpecific()
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(zero, func(b *cryptobyte.Builder) {
			b.AddASN1(zero, func(b *cryptobyte.Builder) {
				for _, url := range urls {
					b.AddASN1(uri, func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
				}
			})
		})
	})
	der, err := b.Bytes()
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: der}, err
}

func (l List) check() error {
	switch {
	case l.Number == nil || l.Number.Sign() <= 0 || l.Number.BitLen() > 159:
		return errors.New("its number has to be positive and at most 20 octets long")
	case !l.NextUpdate.Truncate(time.Second).After(l.ThisUpdate.Truncate(time.Second)):
		return errors.New("nextUpdate has to be after thisUpdate")
	}
	seen := make(map[string]bool, len(l.Entries))
	for _, e := range l.Entries {
		switch {
		case e.Serial == nil || e.Serial.Sign() <= 0:
			return errors.New("a serial number is not positive")
		case seen[string(e.Serial.Bytes())]:
			return fmt.Errorf("serial number %x stands in it twice", e.Serial)
		case e.Reason < 0 || e.Reason > 10 || e.Reason == 7:
			return fmt.Errorf("serial number %x: reason %d is not defined", e.Serial, e.Reason)
		}
		seen[string(e.Serial.Bytes())] = true
	}
	return nil
}
