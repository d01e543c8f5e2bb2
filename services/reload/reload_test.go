package reload_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/estuary-pki/estuary/services/reload"
)

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var reads, loaded, kept int
	c := reload.Config[string]{
		Paths: []string{path, ""},
		Read: func() (string, error) {
			reads++
			b, err := os.ReadFile(path)
			if err == nil && len(b) < 4 {
				err = errors.New("too short")
			}
			return string(b), err
		},
		Loaded: func(string) { loaded++ },
		Kept:   func(string, error) { kept++ },
	}
	if _, err := reload.Open(c); err == nil {
		t.Error("opened without a file")
	}
	write("first")
	reads = 0
	f, err := reload.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(step, current string, wantReads, wantLoaded, wantKept int, bad bool) {
		t.Helper()
		for range 2 {
			if got := f.Current(); got != current {
				t.Errorf("%s: %q, not %q", step, got, current)
			}
		}
		if reads != wantReads || loaded != wantLoaded || kept != wantKept || (f.Bad() != nil) != bad {
			t.Errorf("%s: read %d times, loaded %d, kept %d, %v", step, reads, loaded, kept, f.Bad())
		}
	}
	expect("unchanged", "first", 1, 0, 0, false)
	write("second")
	expect("changed", "second", 2, 1, 0, false)
	write("bad")
	expect("bad: read each time, told once", "second", 4, 1, 1, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("gone is another change", "second", 6, 1, 2, true)
	write("third")
	expect("good again", "third", 7, 2, 2, false)
}
