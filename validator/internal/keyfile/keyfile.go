// Package keyfile turns randomness into the files of secret keys that the validator reads at its start.
//
// The command "validator key init" calls it. Making a key and opening it are different
// things: nothing here reads a key, and no file that exists is written.
package keyfile

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/estuary-pki/estuary/services/secret"
)

// idOctets is how much of the public key's hash is its id.
const idOctets = 8

// Assertion is the public side of an assertion key: what the signer's configuration needs.
type Assertion struct {
	// ID is the key_id: the first 8 octets of the SHA-256 of the public key, hexadecimal.
	// It is a proposal: the two configurations only have to agree.
	ID string
	// PublicKey is the 32 octets of the Ed25519 public key (RFC 8032) in base64.
	PublicKey string
}

// NewAssertion makes an Ed25519 key and writes it to a new file of mode 0600 as PKCS#8 PEM
// (RFC 8410). The error is fs.ErrExist when the file exists.
func NewAssertion(path string) (Assertion, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Assertion{}, fmt.Errorf("making an assertion key: %w", err)
	}
	defer clear(private)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Assertion{}, fmt.Errorf("encoding an assertion key: %w", err)
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	if err := secret.WriteNew(path, text); err != nil {
		return Assertion{}, fmt.Errorf("keeping an assertion key: %w", err)
	}
	return Describe(public), nil
}

// Describe returns what the signer's configuration needs of a public key.
func Describe(public ed25519.PublicKey) Assertion {
	sum := sha256.Sum256(public)
	return Assertion{
		ID:        hex.EncodeToString(sum[:idOctets]),
		PublicKey: base64.StdEncoding.EncodeToString(public),
	}
}

// NewHex makes a random key of that many octets and writes it to a new file of mode 0600
// in hexadecimal, as secret.ReadKey reads it: for [state] mac_key and [otp] index_key. The
// error is fs.ErrExist when the file exists.
func NewHex(path string, octets int) error {
	key := make([]byte, octets)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	defer clear(key)
	text := append(hex.AppendEncode(nil, key), '\n')
	defer clear(text)
	if err := secret.WriteNew(path, text); err != nil {
		return fmt.Errorf("keeping a key: %w", err)
	}
	return nil
}
