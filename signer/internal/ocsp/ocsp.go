// Package ocsp turns what the ledger knows of a certificate into a signed response (RFC 6960).
//
// serve calls it. Responses are signed by a responder's key, which lives in memory, and whose
// certificate the authority's key signs every few days: the authority's own key is not used at
// the pace at which strangers ask.
package ocsp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/estuary-pki/estuary/services/certid"
)

// MaxNonce is the longest nonce that is answered, in octets (RFC 9654 section 2.1).
const MaxNonce = 128

// Response is what a response says of one certificate.
type Response struct {
	// Serial is its serial number, positive.
	Serial *big.Int
	// Hash is by which the client names the issuer: SHA1 or SHA256.
	Hash crypto.Hash
	// RevokedAt is when it was revoked; zero for one that is good.
	RevokedAt time.Time
	// Reason is the CRLReason (RFC 5280 section 5.3.1) of a revoked one; 0, unspecified, is
	// left out.
	Reason int
	// ProducedAt is when the response is made, ThisUpdate when it was right, NextUpdate when
	// it may not be any more. Fractions of a second are cut off.
	ProducedAt, ThisUpdate, NextUpdate time.Time
	// Nonce is that of the request; empty for none.
	Nonce []byte
}

var (
	oidBasic           = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNonce           = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// Tags of the choices and optional fields.
var (
	tag0 = casn1.Tag(0).ContextSpecific().Constructed()
	tag1 = casn1.Tag(1).ContextSpecific().Constructed()
	good = casn1.Tag(0).ContextSpecific()
)

// Responder is a delegated responder (RFC 6960 section 4.2.2.2).
type Responder struct {
	// Certificate is its own, signed by Issuer.
	Certificate, Issuer *x509.Certificate
	// Key is its key on P-256.
	Key *ecdsa.PrivateKey
}

// Sign returns the DER of an OCSPResponse that is successful (RFC 6960 section 4.2.1). It
// fails for what no response can say, and where the key cannot be used.
func (r *Responder) Sign(v Response) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("signing OCSP response: %w", err)
	}
	data, err := r.data(v)
	if err != nil {
		return nil, fmt.Errorf("signing OCSP response: %w", err)
	}
	sum := sha256.Sum256(data)
	signature, err := ecdsa.SignASN1(rand.Reader, r.Key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("signing OCSP response: %w", err)
	}
	var basic cryptobyte.Builder
	basic.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(data)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSAWithSHA256) })
		b.AddASN1BitString(signature)
		b.AddASN1(tag0, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.Certificate.Raw) })
		})
	})
	inner, err := basic.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding OCSP response: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(tag0, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidBasic)
				b.AddASN1OctetString(inner)
			})
		})
	})
	return b.Bytes()
}

func (v Response) check() error {
	switch {
	case v.Serial == nil || v.Serial.Sign() <= 0:
		return errors.New("the serial number is not positive")
	case certid.Algorithms[v.Hash] == nil:
		return fmt.Errorf("hash function %v is not used", v.Hash)
	case len(v.Nonce) > MaxNonce:
		return fmt.Errorf("the nonce has more than %d octets", MaxNonce)
	case v.Reason < 0 || v.Reason > 10 || v.Reason == 7:
		return fmt.Errorf("reason %d is not defined", v.Reason)
	case !v.NextUpdate.Truncate(time.Second).After(v.ThisUpdate.Truncate(time.Second)):
		return errors.New("nextUpdate has to be after thisUpdate")
	}
	return nil
}

// data returns the ResponseData (RFC 6960 section 4.2.1).
func (r *Responder) data(v Response) ([]byte, error) {
	name, key, err := certid.Of(r.Issuer, v.Hash)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		// By name: the other choice is a SHA-1 of the key.
		b.AddASN1(tag1, func(b *cryptobyte.Builder) { b.AddBytes(r.Certificate.RawSubject) })
		addTime(b, v.ProducedAt)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(certid.Algorithms[v.Hash])
						b.AddASN1NULL()
					})
					b.AddASN1OctetString(name)
					b.AddASN1OctetString(key)
					b.AddASN1BigInt(v.Serial)
				})
				v.addStatus(b)
				addTime(b, v.ThisUpdate)
				b.AddASN1(tag0, func(b *cryptobyte.Builder) { addTime(b, v.NextUpdate) })
			})
		})
		if len(v.Nonce) > 0 {
			b.AddASN1(tag1, func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.SEQUENCE, v.addNonce)
			})
		}
	})
	return b.Bytes()
}

// addStatus adds the CertStatus.
func (v Response) addStatus(b *cryptobyte.Builder) {
	if v.RevokedAt.IsZero() {
		b.AddASN1(good, func(*cryptobyte.Builder) {})
		return
	}
	b.AddASN1(tag1, func(b *cryptobyte.Builder) {
		addTime(b, v.RevokedAt)
		if v.Reason != 0 {
			b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(v.Reason)) })
		}
	})
}

// addNonce adds the extension of RFC 9654 section 2.1.
func (v Response) addNonce(b *cryptobyte.Builder) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidNonce)
		b.AddASN1(casn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(v.Nonce) })
	})
}

func addTime(b *cryptobyte.Builder, t time.Time) {
	b.AddASN1GeneralizedTime(t.UTC().Truncate(time.Second))
}
