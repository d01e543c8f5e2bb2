package key

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"

	"github.com/estuary-pki/estuary/services/secret"
)

// PEM types of PKCS#8 (RFC 7468 sections 10 and 11).
const (
	plainPEM     = "PRIVATE KEY"
	encryptedPEM = "ENCRYPTED PRIVATE KEY"
)

// iterations of PBKDF2 with HMAC-SHA-256 for a new file: what OWASP asks for since 2023.
// It is spent once at every start.
const iterations = 600_000

// File is a private key that was read from a file, or is about to be written to one.
type File struct {
	private   crypto.Signer
	algorithm x509.SignatureAlgorithm
}

// OpenFile reads a PKCS#8 key in PEM, plain or encrypted (PBES2, RFC 8018 section 6.2), and
// tries it once. An encrypted file needs the passphrase, and a plain one must not be given
// one: the operator believes it to be encrypted. A file that everybody may read is refused.
// Errors never carry contents.
func OpenFile(path string, passphrase secret.Bytes) (*File, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer text.Wipe()
	f, err := parse(text.Reveal(), passphrase)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return f, nil
}

// Create makes a key and writes it to a new file of mode 0600, encrypted where there is a
// passphrase. An existing file is never overwritten: the error is fs.ErrExist then.
func Create(path string, t Type, passphrase secret.Bytes) (*File, error) {
	f, err := Generate(t)
	if err != nil {
		return nil, err
	}
	text, err := f.PEM(passphrase)
	if err != nil {
		return nil, err
	}
	defer text.Wipe()
	if err := secret.WriteNew(path, text.Reveal()); err != nil {
		return nil, err
	}
	return f, nil
}

// PEM returns the key as PKCS#8 in PEM, encrypted with AES-256-CBC under PBKDF2 where there
// is a passphrase: the form that OpenSSL reads and writes.
func (f *File) PEM(passphrase secret.Bytes) (secret.Bytes, error) {
	block := &pem.Block{Type: plainPEM}
	if passphrase.Len() > 0 {
		block.Type = encryptedPEM
	}
	der, err := pkcs8.MarshalPrivateKey(f.private, passphrase.Reveal(), &pkcs8.Opts{
		Cipher:  pkcs8.AES256CBC,
		KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: iterations, HMACHash: crypto.SHA256},
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("encoding key: %w", err)
	}
	defer clear(der)
	block.Bytes = der
	return secret.New(pem.EncodeToMemory(block)), nil
}

// Public returns the public half.
func (f *File) Public() crypto.PublicKey { return f.private.Public() }

// Algorithm returns the algorithm that Sign uses.
func (f *File) Algorithm() x509.SignatureAlgorithm { return f.algorithm }

// Sign signs to-be-signed bytes. It fails without signing once ctx has ended.
func (f *File) Sign(ctx context.Context, tbs []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("signing: %w: %w", ErrNotUsed, err)
	}
	return f.sign(tbs)
}

func (f *File) sign(tbs []byte) ([]byte, error) {
	signature, err := crypto.SignMessage(f.private, rand.Reader, tbs, hash(f.algorithm))
	if err != nil {
		return nil, fmt.Errorf("signing: %w: %w", ErrNotUsed, err)
	}
	return signature, nil
}

// parse turns the text of a file into a key. What the libraries say of the contents stays
// here: their errors may quote them.
func parse(text []byte, passphrase secret.Bytes) (*File, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("not a PEM file")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("something follows the first PEM block: one key a file")
	case block.Type == encryptedPEM && passphrase.Len() == 0:
		return nil, errors.New("encrypted, and no passphrase is configured")
	case block.Type == plainPEM && passphrase.Len() > 0:
		return nil, errors.New("not encrypted, although a passphrase is configured")
	case block.Type != plainPEM && block.Type != encryptedPEM:
		return nil, fmt.Errorf("PEM type %.40q: PKCS#8 is wanted, as openssl pkcs8 -topk8 writes it", block.Type)
	}
	defer clear(block.Bytes)
	private, err := decode(block.Bytes, passphrase)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("keys of type %T cannot sign", private)
	}
	return newFile(signer)
}

// decode opens PKCS#8. The library panics on an initialisation vector or a ciphertext of a
// wrong length: a damaged file is no reason to print a stack.
func decode(der []byte, passphrase secret.Bytes) (private any, err error) {
	defer func() {
		if recover() != nil {
			private, err = nil, errors.New("damaged PKCS#8")
		}
	}()
	private, err = pkcs8.ParsePKCS8PrivateKey(der, passphrase.Reveal())
	switch {
	case err == nil:
		return private, nil
	case passphrase.Len() > 0:
		return nil, errors.New("wrong passphrase, damaged, or encrypted by other means than PBES2 with AES or 3DES-CBC and PBKDF2 (HMAC with SHA-1 or SHA-256) or scrypt")
	}
	return nil, errors.New("damaged PKCS#8, or a type of key that is not known")
}

// newFile judges a key and tries it: a signature that does not verify would otherwise be
// found in the first certificate.
func newFile(private crypto.Signer) (*File, error) {
	a, err := algorithm(private.Public())
	if err != nil {
		return nil, err
	}
	f := &File{private: private, algorithm: a}
	probe := []byte("estuary key self-test")
	signature, err := f.sign(probe)
	if err != nil {
		return nil, fmt.Errorf("testing key: %w", err)
	}
	if err := Verify(f, probe, signature); err != nil {
		return nil, fmt.Errorf("testing key: %w", err)
	}
	return f, nil
}

// Verify checks a signature that s is said to have made over tbs.
func Verify(s Signer, tbs, signature []byte) error {
	holder := x509.Certificate{PublicKey: s.Public()}
	if err := holder.CheckSignature(s.Algorithm(), tbs, signature); err != nil {
		return fmt.Errorf("verifying own signature: %w", err)
	}
	return nil
}
