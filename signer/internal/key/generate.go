package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
)

// Type is a kind of key that can be made.
type Type string

// The kinds of key.
const (
	P256    Type = "p256"
	P384    Type = "p384"
	RSA3072 Type = "rsa3072"
	RSA4096 Type = "rsa4096"
	Ed25519 Type = "ed25519"
)

// Types lists the kinds of key, the usual one first.
func Types() []Type { return []Type{P256, P384, RSA3072, RSA4096, Ed25519} }

// Generate makes a key in memory; PEM returns what to keep.
func Generate(t Type) (*File, error) {
	private, err := generate(t)
	if err != nil {
		return nil, err
	}
	return newFile(private)
}

func generate(t Type) (crypto.Signer, error) {
	switch t {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	names := make([]string, 0, len(Types()))
	for _, t := range Types() {
		names = append(names, string(t))
	}
	return nil, fmt.Errorf("key type %q is not known: %s are", t, strings.Join(names, ", "))
}

// Throwaway makes a key that signs by the same algorithm as pub and that nobody trusts: a
// certificate is linted under its signature before the authority's key is used. An RSA key
// has 2048 bits whatever pub has, for its size leaves no trace in what is signed.
func Throwaway(pub crypto.PublicKey) (crypto.Signer, error) {
	if _, err := algorithm(pub); err != nil {
		return nil, err
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.GenerateKey(k.Curve, rand.Reader)
	case ed25519.PublicKey:
		return generate(Ed25519)
	}
	return rsa.GenerateKey(rand.Reader, MinRSABits)
}
