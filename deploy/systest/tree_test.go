package systest_test

import (
	"bytes"
	"crypto/sha256"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPackageDocs: every package says what it turns into what, or what it holds.
func TestPackageDocs(t *testing.T) {
	docs := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "state"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		docs[dir] += file.Doc.Text()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) < 20 {
		t.Fatalf("found only %d packages", len(docs))
	}
	for dir, doc := range docs {
		words := strings.Fields(doc)
		name := filepath.Base(dir)
		var ok bool
		switch {
		case len(words) < 3:
		case words[0] == "Command":
			ok = words[1] == name
		default:
			ok = words[0] == "Package" && words[1] == name && (words[2] == "turns" || words[2] == "holds")
		}
		if !ok {
			t.Errorf("%s: the package comment begins %.40q", dir, doc)
		}
	}
}

// TestReproducible: one commit, cloned twice into folders of different names, gives the
// same binaries, byte for byte.
func TestReproducible(t *testing.T) {
	var sums []map[string][32]byte
	for _, name := range []string{"first", "the-second-clone"} {
		dir := filepath.Join(t.TempDir(), name)
		for _, args := range [][]string{
			{"git", "clone", "-q", "--no-hardlinks", root, dir},
			{filepath.Join(dir, "scripts/build"), filepath.Join(dir, "out")},
		} {
			if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
		sums = append(sums, sumsOf(t, filepath.Join(dir, "out")))
	}
	if len(sums[0]) != len(services) {
		t.Fatalf("built %d binaries, not %d", len(sums[0]), len(services))
	}
	for name, sum := range sums[0] {
		if sums[1][name] != sum {
			t.Errorf("%s differs between two clones of one commit", name)
		}
	}
}

func sumsOf(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string][32]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(filepath.Dir(dir))) {
			t.Errorf("%s contains a path of this machine", filepath.Base(f))
		}
		sums[filepath.Base(f)] = sha256.Sum256(b)
	}
	return sums
}

// TestShippedConfiguration: the files that users start from load through the real loader. Every
// file below deploy/config is one of a service, NAME.toml, or of a second one, NAME-2.toml.
func TestShippedConfiguration(t *testing.T) {
	dir := filepath.Join(root, "deploy/config")
	checked := map[string]bool{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, toml := strings.CutSuffix(filepath.Base(file), ".toml")
		name = strings.TrimSuffix(name, "-2")
		if !toml || !slices.Contains(services, name) {
			t.Errorf("%s belongs to no service", file)
			return nil
		}
		relative, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		checked[relative] = true
		if relative == "admin.toml" {
			file = withToken(t, file)
		}
		if out, err := exec.CommandContext(t.Context(), filepath.Join(bin, name), "--check-config", "--config", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		for _, file := range []string{name + ".toml", filepath.Join("compose", name+".toml"), filepath.Join("compose-postgres", name+".toml")} {
			if !checked[file] {
				t.Errorf("%s is not there", file)
			}
		}
	}
}

// withToken fills in what the shipped file leaves to its user: who may administer.
func withToken(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	hash := "sha256:" + strings.Repeat("a", 64)
	filled := bytes.Replace(text, []byte("tokens = []"),
		[]byte(`tokens = [{ token_hash = "`+hash+`", description = "test", scopes = ["otp:read"] }]`), 1)
	if bytes.Equal(filled, text) {
		t.Fatalf("%s has no 'tokens = []' to fill in", file)
	}
	path := filepath.Join(t.TempDir(), "admin.toml")
	if err := os.WriteFile(path, filled, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
