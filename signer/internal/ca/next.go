package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// NextOptions describe the change of a root's key.
type NextOptions struct {
	// Current is the authority as it is.
	Current Config
	// Next are where certificate and key of the next one shall lie.
	Next Config
	// Announce is where what /cacerts has to hand out meanwhile shall lie.
	Announce string
	// KeyType is the kind of the next key.
	KeyType key.Type
	// Validity of the next root; 0 takes ten years.
	Validity time.Duration
	// Now is the time of making.
	Now time.Time
}

// Next makes the next key of a root with its self-signed certificate, of the same name, and
// writes what ties the two: the old key certified by the new one and the other way round (RFC
// 4210 section 4.4), behind them both roots. It writes everything or nothing and overwrites
// nothing. A subordinate authority's next key is one for Request: its root stays.
func Next(ctx context.Context, o NextOptions) (*x509.Certificate, error) {
	old, err := openKey(o.Current)
	if err != nil {
		return nil, err
	}
	was, err := ReadCertificate(o.Current)
	if err != nil {
		return nil, err
	}
	if _, err := New("ca", []*x509.Certificate{was}, old, o.Now); err != nil {
		return nil, fmt.Errorf("certificate %s: %w; a subordinate authority's next key is made by 'signer ca init --request'", o.Current.Certificate, err)
	}
	private, err := key.Generate(o.KeyType)
	if err != nil {
		return nil, err
	}
	pathLen := was.MaxPathLen
	if pathLen == 0 && !was.MaxPathLenZero {
		pathLen = -1
	}
	template, err := Options{Validity: o.Validity, PathLen: pathLen, Now: o.Now}.root(was.RawSubject, private)
	if err != nil {
		return nil, err
	}
	next, err := issueAuthority(ctx, template, template, private, private)
	if err != nil {
		return nil, err
	}
	if !next.NotAfter.After(was.NotAfter) {
		return nil, errors.New("the next root would end before the current one")
	}
	oldWithNew, err := tie(ctx, was, next, private, old)
	if err != nil {
		return nil, err
	}
	newWithOld, err := tie(ctx, next, was, old, private)
	if err != nil {
		return nil, err
	}
	announced := []*x509.Certificate{next, oldWithNew, newWithOld, was}
	return next, Options{Files: o.Next}.write(private,
		newfile.File{Path: string(o.Next.Certificate), Mode: newfile.Open, Data: encode([]*x509.Certificate{next})},
		newfile.File{Path: o.Announce, Mode: newfile.Open, Data: encode(announced)})
}

// tie makes a certificate for the key of subject under the key of issuer, for as long as both
// are valid.
func tie(ctx context.Context, subject, issuer *x509.Certificate, by, holder *key.File) (*x509.Certificate, error) {
	serial, _, err := NewSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, RawSubject: subject.RawSubject, SignatureAlgorithm: by.Algorithm(),
		NotBefore: subject.NotBefore, NotAfter: subject.NotAfter,
		KeyUsage: subject.KeyUsage, BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: subject.MaxPathLen, MaxPathLenZero: subject.MaxPathLenZero, SubjectKeyId: subject.SubjectKeyId,
		// Not left to the library, which takes a certificate with its issuer's name for a root.
		AuthorityKeyId: issuer.SubjectKeyId,
	}
	if template.NotAfter.After(issuer.NotAfter) {
		template.NotAfter = issuer.NotAfter
	}
	return issueAuthority(ctx, template, issuer, by, holder)
}

// issueAuthority signs a certificate of an authority for the key of holder.
func issueAuthority(ctx context.Context, template, issuer *x509.Certificate, by, holder *key.File) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, holder.Public(), key.ForX509(ctx, by))
	if err != nil {
		return nil, fmt.Errorf("signing a certificate of an authority: %w", err)
	}
	return x509.ParseCertificate(der)
}
