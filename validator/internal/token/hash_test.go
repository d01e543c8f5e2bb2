package token_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

func newHasher(t *testing.T, seed byte, a token.Algorithm) *token.Hasher {
	t.Helper()
	h, err := token.NewHasher(secret.New(bytes.Repeat([]byte{seed}, token.KeySize)), a)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashes(t *testing.T) {
	good, other := secret.New([]byte("est_one")), secret.New([]byte("est_two"))
	for _, made := range token.Algorithms {
		a, hash, err := newHasher(t, 1, made).Hash(t.Context(), good)
		if err != nil || a != made {
			t.Fatalf("%s: %s, %v", made, a, err)
		}
		_, again, err := newHasher(t, 1, made).Hash(t.Context(), good)
		if err != nil || bytes.Equal(hash, again) {
			t.Errorf("%s: two hashes of a token are the same: no salt", made)
		}
		if bytes.Contains(hash, good.Reveal()) {
			t.Errorf("%s: the hash holds the token", made)
		}
		// A token is verified by the algorithm of its row, whichever is configured now.
		for _, now := range token.Algorithms {
			h := newHasher(t, 1, now)
			if ok, err := h.Verify(t.Context(), good, made, hash); err != nil || !ok {
				t.Errorf("%s under %s: %v, %v", made, now, ok, err)
			}
			if ok, err := h.Verify(t.Context(), other, made, hash); err != nil || ok {
				t.Errorf("%s under %s: another token: %v, %v", made, now, ok, err)
			}
		}
		for i := range hash {
			// Every octet counts; bcrypt's own text is tried at its digest only, because its
			// cost is in the text too.
			if made == token.Bcrypt && i != len(hash)-2 || made == token.Argon2id && i%16 != 0 {
				continue
			}
			bad := bytes.Clone(hash)
			bad[i] ^= 1
			if ok, err := newHasher(t, 1, made).Verify(t.Context(), good, made, bad); err == nil && ok {
				t.Errorf("%s: octet %d does not count", made, i)
			}
		}
		if ok, _ := newHasher(t, 1, made).Verify(t.Context(), good, made, nil); ok {
			t.Errorf("%s: the empty hash matches", made)
		}
	}
	if _, err := newHasher(t, 1, token.Argon2id).Verify(t.Context(), good, "md5", nil); err == nil {
		t.Error("an unknown algorithm verified")
	}
}

// The parameters are a promise to those whose rules demand them: computed here without the
// code under test.
func TestParameters(t *testing.T) {
	key, tok := bytes.Repeat([]byte{1}, 32), []byte("est_one")
	mac := func(parts ...string) []byte {
		m := hmac.New(sha256.New, key)
		for _, p := range parts {
			m.Write([]byte(p))
		}
		return m.Sum(nil)
	}
	h := newHasher(t, 1, token.SHA256HMAC)
	if got, want := h.Index(secret.New(tok)), mac("estuary/token-index/v1\x00", "est_one"); !bytes.Equal(got, want) {
		t.Errorf("index %x, not %x", got, want)
	}
	_, hash, err := h.Hash(t.Context(), secret.New(tok))
	if err != nil {
		t.Fatal(err)
	}
	if want := mac("estuary/token-hash/v1\x00", string(hash[:16]), "est_one"); !bytes.Equal(hash[16:], want) {
		t.Errorf("sha256-hmac %x, not %x", hash[16:], want)
	}
	_, hash, err = newHasher(t, 1, token.Argon2id).Hash(t.Context(), secret.New(tok))
	if err != nil {
		t.Fatal(err)
	}
	if want := argon2.IDKey(tok, hash[:16], 2, 19*1024, 1, 32); !bytes.Equal(hash[16:], want) {
		t.Errorf("argon2id %x, not %x", hash[16:], want)
	}
	_, hash, err = newHasher(t, 1, token.Bcrypt).Hash(t.Context(), secret.New(tok))
	if err != nil {
		t.Fatal(err)
	}
	if cost, err := bcrypt.Cost(hash); err != nil || cost != 10 {
		t.Errorf("bcrypt cost %d, %v", cost, err)
	}
}

// bcrypt alone would not see the end of a long token.
func TestBcryptSeesEveryOctet(t *testing.T) {
	h := newHasher(t, 1, token.Bcrypt)
	long := bytes.Repeat([]byte("a"), 115)
	_, hash, err := h.Hash(t.Context(), secret.New(long))
	if err != nil {
		t.Fatal(err)
	}
	other := append(bytes.Clone(long[:114]), 'b')
	if ok, err := h.Verify(t.Context(), secret.New(other), token.Bcrypt, hash); err != nil || ok {
		t.Errorf("a token with another last character: %v, %v", ok, err)
	}
}

func TestKeyed(t *testing.T) {
	tok := secret.New([]byte("est_one"))
	one, two := newHasher(t, 1, token.SHA256HMAC), newHasher(t, 2, token.SHA256HMAC)
	if bytes.Equal(one.Index(tok), two.Index(tok)) {
		t.Error("the index does not depend on the key")
	}
	_, hash, err := one.Hash(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := two.Verify(t.Context(), tok, token.SHA256HMAC, hash); ok {
		t.Error("the hash does not depend on the key")
	}
	if _, err := token.NewHasher(secret.New(make([]byte, 31)), token.SHA256HMAC); err == nil {
		t.Error("a short key was accepted")
	}
	if _, err := token.NewHasher(secret.New(make([]byte, 32)), "md5"); err == nil {
		t.Error("an unknown algorithm was accepted")
	}
}

// With every slot taken a slow hash waits for its caller's deadline, and a fast one does not.
func TestSlotsBoundSlowHashes(t *testing.T) {
	tok := secret.New([]byte("est_one"))
	h := newHasher(t, 1, token.Argon2id)
	_, hash, err := h.Hash(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	release := h.TakeAllSlots()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Verify(ended, tok, token.Argon2id, hash); !errors.Is(err, fault.Busy) {
		t.Errorf("verifying without a slot: %v", err)
	}
	if _, _, err := h.Hash(ended, tok); !errors.Is(err, fault.Busy) {
		t.Errorf("hashing without a slot: %v", err)
	}
	fast := newHasher(t, 1, token.SHA256HMAC)
	_, quick, err := fast.Hash(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.Verify(ended, tok, token.SHA256HMAC, quick); err != nil || !ok {
		t.Errorf("a fast hash waited: %v, %v", ok, err)
	}
	release()
	if ok, err := h.Verify(t.Context(), tok, token.Argon2id, hash); err != nil || !ok {
		t.Errorf("after the release: %v, %v", ok, err)
	}
}
