package assertion

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/secret"
)

// SigningKey is a validator's Ed25519 key with the id under which signers know it.
type SigningKey struct {
	id  string
	key ed25519.PrivateKey
}

// NewSigningKey names a private key.
func NewSigningKey(id string, k ed25519.PrivateKey) (SigningKey, error) {
	if id == "" {
		return SigningKey{}, errors.New("an assertion key needs an id")
	}
	if len(k) != ed25519.PrivateKeySize {
		return SigningKey{}, fmt.Errorf("assertion key %s has %d octets: an Ed25519 private key has %d", id, len(k), ed25519.PrivateKeySize)
	}
	return SigningKey{id: id, key: k}, nil
}

// LoadSigningKey reads an Ed25519 private key in PKCS#8 PEM (RFC 5958, RFC 8410) from a
// file that not everybody may read. Errors never carry contents.
func LoadSigningKey(id, path string) (SigningKey, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return SigningKey{}, err
	}
	defer text.Wipe()
	block, _ := pem.Decode(append(text.Reveal(), '\n'))
	if block == nil || block.Type != "PRIVATE KEY" {
		return SigningKey{}, fmt.Errorf("assertion key %s is not a PEM block PRIVATE KEY", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return SigningKey{}, fmt.Errorf("assertion key %s is not a PKCS#8 private key", path)
	}
	k, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return SigningKey{}, fmt.Errorf("assertion key %s is a %T: Ed25519 is needed", path, parsed)
	}
	return NewSigningKey(id, k)
}

// ID returns the key's id.
func (k SigningKey) ID() string { return k.id }

// Public returns the public half, for the signer's configuration.
func (k SigningKey) Public() ed25519.PublicKey { return k.key.Public().(ed25519.PublicKey) }

// String returns the id: the key itself is never printed.
func (k SigningKey) String() string { return "assertion key " + k.id }

// GoString returns the same as String.
func (k SigningKey) GoString() string { return k.String() }

// Seal signs a. An assertion that no signer could accept is refused here, where the
// mistake is, and not a process later.
func Seal(a *assertionv1.Assertion, k SigningKey) (*assertionv1.SealedAssertion, error) {
	if k.id == "" {
		return nil, errors.New("sealing an assertion: no key")
	}
	if err := complete(a); err != nil {
		return nil, fmt.Errorf("sealing an assertion: %w", err)
	}
	payload, err := marshal(a)
	if err != nil {
		return nil, fmt.Errorf("sealing an assertion: %w", err)
	}
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("sealing an assertion: %d octets are more than %d", len(payload), maxPayload)
	}
	return &assertionv1.SealedAssertion{
		Payload:   payload,
		Signature: ed25519.Sign(k.key, signedBytes(payload)),
		KeyId:     k.id,
	}, nil
}

// ParsePublicKey reads an Ed25519 public key: base64 of its 32 octets, or a PEM block
// PUBLIC KEY (RFC 8410).
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	text = strings.TrimSpace(text)
	if block, _ := pem.Decode([]byte(text)); block != nil {
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading a public key: %w", err)
		}
		k, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("the public key is a %T: Ed25519 is needed", parsed)
		}
		return k, nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a public key is base64 of %d octets or a PEM block PUBLIC KEY", ed25519.PublicKeySize)
	}
	return raw, nil
}
