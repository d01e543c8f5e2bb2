package keyfile_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/keyfile"
)

func TestAssertionKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "assertion.pem")
	made, err := keyfile.NewAssertion(path)
	if err != nil {
		t.Fatal(err)
	}
	// What signs and what the signer is told are the same key, read by their own loaders.
	key, err := assertion.LoadSigningKey(made.ID, path)
	if err != nil {
		t.Fatal(err)
	}
	public, err := assertion.ParsePublicKey(made.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Public().Equal(public) {
		t.Error("the printed public key is another one")
	}
	if keyfile.Describe(key.Public()) != made {
		t.Errorf("described as %v, made as %v", keyfile.Describe(key.Public()), made)
	}
	if len(made.ID) != 16 {
		t.Errorf("key id %q", made.ID)
	}
	refusesOverwriting(t, path, func() error {
		_, err := keyfile.NewAssertion(path)
		return err
	})
}

func TestDescribe(t *testing.T) {
	// RFC 8032 section 7.1, TEST 1.
	seed := []byte{
		0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
		0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	want := keyfile.Assertion{ID: "21fe31dfa154a261", PublicKey: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}
	if got := keyfile.Describe(public); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestHexKey(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	var keys [][]byte
	for _, path := range []string{one, two} {
		if err := keyfile.NewHex(path, 32); err != nil {
			t.Fatal(err)
		}
		key, err := secret.ReadKey(path, 32)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.Reveal())
	}
	if bytes.Equal(keys[0], keys[1]) || bytes.Equal(keys[0], make([]byte, 32)) {
		t.Error("the keys are not random")
	}
	refusesOverwriting(t, one, func() error { return keyfile.NewHex(one, 32) })
}

func refusesOverwriting(t *testing.T, path string, again func() error) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	if err := again(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second making: %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the key was overwritten")
	}
}
