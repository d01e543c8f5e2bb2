package ocsp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/lint"
)

const (
	// Life is how long a responder's certificate is good. Nobody can revoke it (RFC 6960
	// section 4.2.2.2.1), so that it is short; at its half there is a new one with a new key.
	Life = 7 * 24 * time.Hour
	// backdate makes a new certificate valid for clients whose clocks are behind.
	backdate = 5 * time.Minute
	// again is when it is tried again to make one, while the one before is good.
	again = time.Minute
	// endTime bounds how long the record of an end may take.
	endTime = 5 * time.Second
)

var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// Config is what a Delegate is made of. All are required.
type Config struct {
	// Authority signs the responder's certificates.
	Authority *ca.Authority
	// Ledger audits that.
	Ledger *ledger.Ledger
	// Log gets what is not for the caller.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// Delegate keeps a responder. It is safe for concurrent use.
type Delegate struct {
	c      Config
	linter *lint.Linter

	// making holds a token while a responder is made: the others that need it wait.
	making chan struct{}

	mu    sync.Mutex // guards what follows
	now   *Responder
	after time.Time // when a new one is to be made
}

// NewDelegate returns a Delegate without a responder: the first is made when there is
// something to sign.
func NewDelegate(c Config) (*Delegate, error) {
	if c.Authority == nil || c.Ledger == nil || c.Log == nil || c.Now == nil {
		return nil, errors.New("a responder needs an authority, a ledger, a log and a clock")
	}
	linter, err := lint.New()
	if err != nil {
		return nil, err
	}
	return &Delegate{c: c, linter: linter, making: make(chan struct{}, 1)}, nil
}

// Responder returns the responder, a new one where the last is in the second half of its life.
// While no new one can be made it is the last, until it ends; then the error is the cause.
func (d *Delegate) Responder(ctx context.Context) (*Responder, error) {
	if have, fresh := d.kept(); fresh {
		return have, nil
	}
	select {
	case d.making <- struct{}{}:
		defer func() { <-d.making }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	have, fresh := d.kept()
	if fresh {
		return have, nil
	}
	made, err := d.make(ctx)
	now := d.c.Now()
	switch {
	case err == nil:
		d.keep(made, now.Add(made.Certificate.NotAfter.Sub(now)/2))
		return made, nil
	case have != nil && now.Before(have.Certificate.NotAfter):
		d.c.Log.LogAttrs(ctx, slog.LevelError, "no new OCSP responder", slog.Any("error", err))
		d.keep(have, now.Add(again))
		return have, nil
	}
	return nil, fmt.Errorf("making an OCSP responder: %w", err)
}

// kept returns the responder there is, and whether it needs no successor yet.
func (d *Delegate) kept() (have *Responder, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.c.Now()
	return d.now, d.now != nil && now.Before(d.after) && now.Before(d.now.Certificate.NotAfter)
}

func (d *Delegate) keep(r *Responder, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now, d.after = r, until
}

// make generates a key and has the authority certify it. That it is about to, and how it
// ended, is audited: it is a use of the authority's key.
func (d *Delegate) make(ctx context.Context) (*Responder, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := d.template(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	draft, err := d.c.Authority.Draft(template, private.Public())
	if err == nil {
		err = d.linter.Check(draft.Raw)
	}
	if err != nil {
		return nil, err
	}
	about := ledger.ResponderCertificate{Serial: fmt.Sprintf("%040x", template.SerialNumber), NotAfter: draft.NotAfter}
	if err := d.c.Ledger.BeginResponder(ctx, about); err != nil {
		return nil, err
	}
	der, err := d.c.Authority.Sign(ctx, draft.RawTBSCertificate)
	var c *x509.Certificate
	if err == nil {
		if c, err = x509.ParseCertificate(der); err == nil {
			err = c.CheckSignatureFrom(d.c.Authority.Certificate)
		}
	}
	// The end is recorded although the caller may have gone.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := errors.Join(err, d.c.Ledger.EndResponder(ending, about, err)); err != nil {
		return nil, err
	}
	return &Responder{Certificate: c, Issuer: d.c.Authority.Certificate, Key: private}, nil
}

// template describes the certificate of a responder (RFC 6960 section 4.2.2.2).
func (d *Delegate) template(public *ecdsa.PublicKey) (*x509.Certificate, error) {
	now, issuer := d.c.Now().UTC().Truncate(time.Second), d.c.Authority.Certificate
	serial, _, err := ca.NewSerial()
	if err != nil {
		return nil, err
	}
	id, err := ca.KeyID(public)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName(d.c.Authority.Name)},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(Life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		BasicConstraintsValid: true, SubjectKeyId: id,
		ExtraExtensions: []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}},
	}
	if t.NotBefore.Before(issuer.NotBefore) {
		t.NotBefore = issuer.NotBefore
	}
	if t.NotAfter.After(issuer.NotAfter) {
		t.NotAfter = issuer.NotAfter
	}
	if !t.NotAfter.After(now) {
		return nil, errors.New("the authority's certificate is not valid at this time")
	}
	return t, nil
}

// commonName tells responders of an authority from others, in the 64 characters that a
// commonName has (RFC 5280 appendix A.1).
func commonName(authority string) string {
	const suffix, limit = " OCSP", 64
	if runes := []rune(authority); len(runes)+len(suffix) > limit {
		sum := sha256.Sum256([]byte(authority))
		authority = string(runes[:limit-len(suffix)-9]) + fmt.Sprintf(" %x", sum[:4])
	}
	return authority + suffix
}
