// Package key turns to-be-signed bytes into signatures with the authority's private key.
//
// ca opens a key with it and signs certificates and revocation lists through Signer, so
// that a key may live in a file, as here, or behind another process.
package key

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
)

// Smallest and largest modulus of an authority's RSA key, in bits. Below 2048 lies what
// NIST SP 800-131A disallows; above 8192 a signature takes more time than a caller waits.
const (
	MinRSABits = 2048
	MaxRSABits = 8192
)

// ErrNotUsed says that a key was not used: there is no signature that nobody knows of.
var ErrNotUsed = errors.New("the key was not used")

// Signer signs with one private key. Implementations are safe for concurrent use.
type Signer interface {
	// Public returns the public half.
	Public() crypto.PublicKey
	// Algorithm returns the one algorithm that Sign uses.
	Algorithm() x509.SignatureAlgorithm
	// Sign signs the DER to-be-signed bytes of a certificate, a request or a revocation
	// list and returns the signature as it stands in the BIT STRING (RFC 5280 section
	// 4.1.1.3). It hashes by itself where the algorithm hashes. An error that is not
	// ErrNotUsed leaves open whether there is a signature.
	Sign(ctx context.Context, tbs []byte) ([]byte, error)
}

// algorithm returns the signature algorithm for a public key, or why an authority must not
// have such a key.
func algorithm(pub crypto.PublicKey) (x509.SignatureAlgorithm, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < MinRSABits || n > MaxRSABits {
			return 0, fmt.Errorf("weak or oversize key: RSA modulus of %d bits, %d to %d are accepted", n, MinRSABits, MaxRSABits)
		}
		return x509.SHA256WithRSA, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, nil
		case elliptic.P384():
			return x509.ECDSAWithSHA384, nil
		}
		return 0, fmt.Errorf("curve %s is not used for authorities: P-256 and P-384 are", k.Params().Name)
	case ed25519.PublicKey:
		return x509.PureEd25519, nil
	}
	return 0, fmt.Errorf("keys of type %T are not used for authorities", pub)
}

// hash returns what is hashed before an algorithm signs: 0 where it takes the whole message.
func hash(a x509.SignatureAlgorithm) crypto.Hash {
	switch a {
	case x509.SHA256WithRSA, x509.ECDSAWithSHA256:
		return crypto.SHA256
	case x509.ECDSAWithSHA384:
		return crypto.SHA384
	}
	return 0
}

// ForX509 lends s to the functions of crypto/x509 for one call: they sign through ctx.
func ForX509(ctx context.Context, s Signer) crypto.MessageSigner {
	return lent{ctx: ctx, Signer: s}
}

// lent is a Signer in the clothes of crypto.MessageSigner, which crypto/x509 prefers to
// hashing by itself.
type lent struct {
	Signer
	// ctx stands in a struct because crypto.MessageSigner has no room for it: a lent lives
	// for one call.
	ctx context.Context
}

func (l lent) SignMessage(_ io.Reader, msg []byte, _ crypto.SignerOpts) ([]byte, error) {
	return l.Signer.Sign(l.ctx, msg)
}

func (l lent) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("this key signs whole messages, not digests")
}
