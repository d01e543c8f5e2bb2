// Package newfiletest holds the test that every command named "setup" passes: it makes what is
// missing, and leaves what is there as it is.
//
// The services' commands call it; the product never imports it.
package newfiletest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/newfile"
)

// Setup is a command under test.
type Setup struct {
	// Dir holds the folders that the command expects, and whatever else shall stay as it is.
	Dir string
	// Run runs it and returns what it says.
	Run func(t *testing.T) (said string, err error)
	// Files are what it makes below Dir, with their modes.
	Files map[string]fs.FileMode
	// Together are the files that are made anew when all of them are missing, and that are
	// refused when some are. Files outside of it are not tried.
	Together [][]string
}

// Container returns a folder with some volumes of a service of compose.yaml, and its configuration
// with that folder in place of /var/lib/estuary and more behind it. It is for the tests of
// MODULE/cmd/SERVICE.
func Container(t *testing.T, service, more string, volumes ...string) (dir, path string) {
	t.Helper()
	dir, path = t.TempDir(), filepath.Join(t.TempDir(), service+".toml")
	for _, volume := range volumes {
		if err := os.Mkdir(filepath.Join(dir, volume), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("../../../deploy/config/compose/" + service + ".toml")
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text)+more, "/var/lib/estuary", dir))
	if err := newfile.Write(newfile.File{Path: path, Mode: newfile.Secret, Data: text}); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// Check runs the command over Dir when nothing is there, when all is, and when parts are.
func (s Setup) Check(t *testing.T) {
	t.Helper()
	want := Tree(t, s.Dir)
	said, err := s.Run(t)
	if err != nil || said == "" {
		t.Fatalf("the first time it says %q, %v", said, err)
	}
	all := Tree(t, s.Dir)
	for name, mode := range s.Files {
		if !strings.HasPrefix(all[name], prefix(mode)) {
			t.Errorf("made %s as %.5q, not with mode %04o", name, all[name], mode)
		}
		want[name] = all[name]
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Fatalf("the first time it made something else (-want +got):\n%s", diff)
	}
	if said, err := s.Run(t); err != nil || said != "" {
		t.Errorf("the second time it says %q, %v", said, err)
	}
	s.unchanged(t, "the second time", all)
	for _, group := range s.Together {
		s.anew(t, group, all)
		all = Tree(t, s.Dir)
		for _, name := range group {
			if len(group) > 1 {
				s.Refused(t, []string{name})
			}
			if len(group) > 2 {
				s.Refused(t, slices.DeleteFunc(slices.Clone(group), func(n string) bool { return n == name }))
			}
		}
	}
}

// anew takes a whole group away, and expects another in its place.
func (s Setup) anew(t *testing.T, group []string, all map[string]string) {
	t.Helper()
	s.remove(t, group)
	if said, err := s.Run(t); err != nil || said == "" {
		t.Fatalf("without %v it says %q, %v", group, said, err)
	}
	got := Tree(t, s.Dir)
	for _, name := range group {
		if !strings.HasPrefix(got[name], prefix(s.Files[name])) {
			t.Errorf("made %s again as %.5q, not with mode %04o", name, got[name], s.Files[name])
		}
		if s.Files[name] == newfile.Secret && got[name] == all[name] {
			t.Errorf("%s is the same secret again", name)
		}
		got[name] = all[name]
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("without %v it changed others (-before +after):\n%s", group, diff)
	}
}

// Refused takes files away, expects an error that names one of them and that nothing changes,
// and puts them back.
func (s Setup) Refused(t *testing.T, names []string) {
	t.Helper()
	taken := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		taken[name] = text
	}
	s.remove(t, names)
	left := Tree(t, s.Dir)
	said, err := s.Run(t)
	named := func(name string) bool { return strings.Contains(err.Error(), filepath.Join(s.Dir, name)+",") }
	if err == nil || said != "" || !slices.ContainsFunc(names, named) || !strings.Contains(err.Error(), " is there, and ") {
		t.Errorf("without %v it says %q, %v", names, said, err)
	}
	s.unchanged(t, fmt.Sprintf("without %v", names), left)
	for name, text := range taken {
		if err := os.WriteFile(filepath.Join(s.Dir, name), text, s.Files[name]); err != nil {
			t.Fatal(err)
		}
	}
}

func (s Setup) remove(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(s.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func (s Setup) unchanged(t *testing.T, when string, before map[string]string) {
	t.Helper()
	if diff := cmp.Diff(before, Tree(t, s.Dir)); diff != "" {
		t.Errorf("%s it changed something (-before +after):\n%s", when, diff)
	}
}

// Tree returns what is below dir: for every file its mode and content, for every folder its mode.
func Tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree, folder := map[string]string{}, os.DirFS(dir)
	err := fs.WalkDir(folder, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			tree[path] = fmt.Sprintf("folder %04o", info.Mode().Perm())
			return nil
		}
		text, err := fs.ReadFile(folder, path)
		tree[path] = prefix(info.Mode()) + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func prefix(mode fs.FileMode) string { return fmt.Sprintf("%04o ", mode.Perm()) }
