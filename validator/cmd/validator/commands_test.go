package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/keyfile"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

var keyFiles = []string{"assertion.key", "assertion.pub", "index.key", "mac.key", "spend.key"} // in the order of ls

func ls(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestKeyInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	var out strings.Builder
	if err := keyInit(t.Context(), []string{"--dir", dir}, &out); err != nil {
		t.Fatal(err)
	}
	if got := ls(t, dir); !slices.Equal(got, keyFiles) {
		t.Errorf("made %v", got)
	}
	key, err := assertion.LoadSigningKey("x", filepath.Join(dir, "assertion.key"))
	if err != nil {
		t.Fatal(err)
	}
	made := keyfile.Describe(key.Public())
	public, err := os.ReadFile(filepath.Join(dir, "assertion.pub"))
	if err != nil || string(public) != made.PublicKey+"\n" || !strings.Contains(out.String(), made.ID) {
		t.Errorf("public key %q, %v, said %q", public, err, out.String())
	}
	for name, size := range map[string]int{"mac.key": state.MACKeySize, "index.key": token.KeySize, "spend.key": login.KeySize} {
		if _, err := secret.ReadKey(filepath.Join(dir, name), size); err != nil {
			t.Error(err)
		}
	}
}

// One file that exists is named, stays as it is, and keeps the others from being made.
func TestKeyInitOverwritesNothing(t *testing.T) {
	for _, name := range keyFiles {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := keyInit(t.Context(), []string{"--dir", dir}, &strings.Builder{})
		if err == nil || err.Error() != path+" exists already: nothing was made" {
			t.Errorf("%s: %v", name, err)
		}
		if content, err := os.ReadFile(path); err != nil || string(content) != "mine" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
		if got := ls(t, dir); len(got) != 1 {
			t.Errorf("%s: left %v", name, got)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "index.key")); err != nil {
		t.Fatal(err)
	}
	if err := keyInit(t.Context(), []string{"--dir", dir}, &strings.Builder{}); err == nil || len(ls(t, dir)) != 1 {
		t.Errorf("a dangling link: %v, %v", err, ls(t, dir))
	}
}

// What was made is removed when a later file cannot be; what somebody else made meanwhile is
// theirs.
func TestMakeAll(t *testing.T) {
	full := errors.New("disk full")
	for name, c := range map[string]struct {
		err  error
		left []string
	}{
		"exists": {fs.ErrExist, []string{"two"}},
		"fails":  {full, nil},
	} {
		dir := t.TempDir()
		write := func(path string) error { return os.WriteFile(path, nil, 0o600) }
		err := makeAll([]newFile{
			{filepath.Join(dir, "one"), write},
			{filepath.Join(dir, "two"), func(path string) error { return errors.Join(write(path), c.err) }},
			{filepath.Join(dir, "three"), write},
		})
		if !errors.Is(err, c.err) || !slices.Equal(ls(t, dir), c.left) {
			t.Errorf("%s: %v, left %v", name, err, ls(t, dir))
		}
	}
}
