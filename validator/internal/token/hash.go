package token

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
)

// Algorithm names a way to hash a token, as [otp] hash_algorithm and each stored row do.
// Its parameters are fixed: other ones would be another algorithm with another name.
type Algorithm string

// The algorithms. Tokens are random, so that a fast keyed hash is as strong as a slow one;
// the slow ones are there for those whose rules demand them.
const (
	// SHA256HMAC is HMAC-SHA256 (RFC 2104) under the index key over salt and token.
	SHA256HMAC Algorithm = "sha256-hmac"
	// Argon2id is RFC 9106 with 19 MiB, two passes and one lane.
	Argon2id Algorithm = "argon2id"
	// Bcrypt is bcrypt of cost 10 over the token's SHA-256, because bcrypt reads no more
	// than 72 octets.
	Bcrypt Algorithm = "bcrypt"
)

// slow tells whether a hash costs milliseconds, so that a second one is worth sparing.
func (a Algorithm) slow() bool { return a != SHA256HMAC }

// Algorithms is every algorithm, the default first.
var Algorithms = []Algorithm{SHA256HMAC, Argon2id, Bcrypt}

// KeySize is the size of the index key in octets.
const KeySize = 32

const (
	indexDomain  = "estuary/token-index/v1\x00"
	hashDomain   = "estuary/token-hash/v1\x00"
	saltOctets   = 16
	argonPasses  = 2
	argonKiB     = 19 << 10
	argonLanes   = 1
	argonOctets  = 32
	bcryptCost   = 10
	bcryptDomain = "estuary/token-bcrypt/v1\x00"
)

// Hasher turns tokens into what is stored of them.
type Hasher struct {
	key       secret.Bytes
	algorithm Algorithm
	slots     chan struct{} // a slow hash holds one: bounds memory and processors
	started   atomic.Int64  // slow hashes that got a slot
}

// NewHasher returns a Hasher that hashes new tokens with the algorithm and verifies every
// one. The key has KeySize octets and keeps its value as long as tokens shall be found.
func NewHasher(key secret.Bytes, a Algorithm) (*Hasher, error) {
	if key.Len() != KeySize {
		return nil, fmt.Errorf("token index key of %d octets: %d are needed", key.Len(), KeySize)
	}
	if a != SHA256HMAC && a != Argon2id && a != Bcrypt {
		return nil, fmt.Errorf("unknown hash algorithm %q", string(a))
	}
	return &Hasher{key: key, algorithm: a, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}, nil
}

// Index returns the 32 octets under which the token is found: HMAC-SHA256 under the index
// key, so that a copy of the database does not help to recognise a token.
func (h *Hasher) Index(tok secret.Bytes) []byte { return h.mac(indexDomain, nil, tok) }

// Hash returns the configured algorithm and the token's hash by it. It waits for a free
// slot where the algorithm is slow; the error is Busy when ctx ends first.
func (h *Hasher) Hash(ctx context.Context, tok secret.Bytes) (Algorithm, []byte, error) {
	salt := make([]byte, saltOctets)
	_, _ = rand.Read(salt) // never fails: it ends the process instead
	if !h.algorithm.slow() {
		return h.algorithm, append(salt, h.mac(hashDomain, salt, tok)...), nil
	}
	if err := h.acquire(ctx); err != nil {
		return "", nil, err
	}
	defer h.release()
	if h.algorithm == Argon2id {
		return h.algorithm, append(salt, argon(tok, salt)...), nil
	}
	hash, err := bcrypt.GenerateFromPassword(bcryptInput(tok), bcryptCost)
	if err != nil {
		return "", nil, fmt.Errorf("hashing with bcrypt: %w", err)
	}
	return h.algorithm, hash, nil
}

// Verify tells whether the hash is the token's by the algorithm of its row, whichever is
// configured now. Slow hashes wait as in Hash.
func (h *Hasher) Verify(ctx context.Context, tok secret.Bytes, a Algorithm, hash []byte) (bool, error) {
	if !a.slow() {
		salt, sum, ok := split(hash, sha256.Size)
		return ok && subtle.ConstantTimeCompare(sum, h.mac(hashDomain, salt, tok)) == 1, nil
	}
	if err := h.acquire(ctx); err != nil {
		return false, err
	}
	defer h.release()
	switch a {
	case Argon2id:
		salt, sum, ok := split(hash, argonOctets)
		return ok && subtle.ConstantTimeCompare(sum, argon(tok, salt)) == 1, nil
	case Bcrypt:
		err := bcrypt.CompareHashAndPassword(hash, bcryptInput(tok))
		if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, fmt.Errorf("comparing with bcrypt: %w", err)
		}
		return err == nil, nil
	}
	return false, fmt.Errorf("stored token has the unknown hash algorithm %q", string(a))
}

func (h *Hasher) acquire(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		h.started.Add(1)
		return nil
	case <-ctx.Done():
		return fault.New(fault.Busy, "token.Hasher", "", fmt.Errorf("waiting to hash a token: %w", ctx.Err()))
	}
}

func (h *Hasher) release() { <-h.slots }

func (h *Hasher) mac(domain string, salt []byte, tok secret.Bytes) []byte {
	m := hmac.New(sha256.New, h.key.Reveal())
	m.Write([]byte(domain))
	m.Write(salt) // of one size per domain: no length needed
	m.Write(tok.Reveal())
	return m.Sum(nil)
}

func argon(tok secret.Bytes, salt []byte) []byte {
	return argon2.IDKey(tok.Reveal(), salt, argonPasses, argonKiB, argonLanes, argonOctets)
}

// bcryptInput is printable: bcrypt stops at NUL.
func bcryptInput(tok secret.Bytes) []byte {
	h := sha256.New()
	h.Write([]byte(bcryptDomain))
	h.Write(tok.Reveal())
	return base64.RawStdEncoding.AppendEncode(nil, h.Sum(nil))
}

func split(hash []byte, size int) (salt, sum []byte, ok bool) {
	if len(hash) != saltOctets+size {
		return nil, nil, false
	}
	return hash[:saltOctets], hash[saltOctets:], true
}
