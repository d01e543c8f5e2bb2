package newfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/estuary-pki/estuary/services/newfile"
)

func TestWriteAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	first := newfile.File{Path: at("a.key"), Data: []byte("key"), Mode: newfile.Secret}
	second := newfile.File{Path: at("a.crt"), Data: []byte("crt"), Mode: newfile.Open}
	if err := os.WriteFile(at("a.crt"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newfile.Write(first, second); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second exists: %v", err)
	}
	if _, err := os.Stat(at("a.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first was left behind: %v", err)
	}
	if old, err := os.ReadFile(at("a.crt")); err != nil || string(old) != "old" {
		t.Errorf("the second was touched: %q, %v", old, err)
	}
	if err := os.Remove(at("a.crt")); err != nil {
		t.Fatal(err)
	}
	if err := newfile.Write(first, second); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{at("a.key"): 0o600, at("a.crt"): 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := newfile.Write(newfile.File{Path: at("none/x"), Mode: newfile.Secret}); err == nil {
		t.Error("a folder came from nowhere")
	}
}

func TestReplace(t *testing.T) {
	f := newfile.File{Path: filepath.Join(t.TempDir(), "a"), Mode: newfile.Secret}
	if err := os.WriteFile(f.Path+".new", []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		f.Data = []byte(text)
		if err := newfile.Replace(f); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(f.Path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := os.Stat(f.Path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}
