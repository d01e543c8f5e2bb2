package meshca_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/newfile/newfiletest"
	"github.com/estuary-pki/estuary/signer/internal/meshca"
)

func setup(t *testing.T, dir string, names ...string) (string, error) {
	t.Helper()
	made, err := meshca.Setup(t.Context(), meshca.Options{Dir: dir, Now: time.Now()}, names)
	return strings.Join(made, " "), err
}

// volumes returns a folder with an empty one in it for each name, as volumes are mounted.
func volumes(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// files returns the three files of a name.
func files(name string) []string {
	return []string{filepath.Join(name, name+".key"), filepath.Join(name, name+".crt"), filepath.Join(name, "ca.crt")}
}

// TestSetup: the authority, and three files in the folder of each name.
func TestSetup(t *testing.T) {
	all := newfiletest.Setup{
		Dir: volumes(t, signer, gateway),
		Files: map[string]fs.FileMode{
			"ca.key": 0o600, "ca.crt": 0o644,
			files(signer)[0]: 0o600, files(signer)[1]: 0o644, files(signer)[2]: 0o644,
			files(gateway)[0]: 0o600, files(gateway)[1]: 0o644, files(gateway)[2]: 0o644,
		},
		Together: [][]string{files(signer), files(gateway)},
	}
	all.Run = func(t *testing.T) (string, error) { return setup(t, all.Dir, signer, gateway) }
	all.Check(t)
	// Another authority would not be that of the certificates that are there: half of it is not
	// made, and not all of it either.
	all.Refused(t, []string{"ca.crt"})
	all.Refused(t, []string{"ca.key", "ca.crt"})

	// Its key may be kept elsewhere until it is needed.
	key, away := filepath.Join(all.Dir, "ca.key"), filepath.Join(t.TempDir(), "ca.key")
	if err := os.Rename(key, away); err != nil {
		t.Fatal(err)
	}
	if made, err := setup(t, all.Dir, signer, gateway); err != nil || made != "" {
		t.Errorf("with the key elsewhere: made %q, %v", made, err)
	}
	if made, err := setup(t, all.Dir, signer, gateway, "later.estuary.internal"); err == nil || !strings.Contains(err.Error(), key+", which belongs to it, is not") {
		t.Errorf("one more name with the key elsewhere: made %q, %v", made, err)
	}
	if err := os.Rename(away, key); err != nil {
		t.Fatal(err)
	}

	if made, err := setup(t, all.Dir, signer, gateway, "later.estuary.internal"); err != nil || made != "later.estuary.internal" {
		t.Fatalf("one more name: made %q, %v", made, err)
	}
	root := read(t, all.Dir, "ca")
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for _, name := range []string{signer, gateway, "later.estuary.internal"} {
		own := filepath.Join(all.Dir, name)
		if _, err := read(t, own, name).Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		copied, err := os.ReadFile(filepath.Join(own, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		if original, err := os.ReadFile(filepath.Join(all.Dir, "ca.crt")); err != nil || !bytes.Equal(copied, original) {
			t.Errorf("%s: its ca.crt is another authority's, %v", name, err)
		}
	}
}

// TestSetupFolders: folders that nothing is mounted on are made, for nobody else.
func TestSetupFolders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "mesh")
	if made, err := setup(t, dir, signer); err != nil || made != signer {
		t.Fatalf("made %q, %v", made, err)
	}
	for _, folder := range []string{dir, filepath.Join(dir, signer)} {
		if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", folder, info, err)
		}
	}
}

// TestSetupStops: a name that is refused keeps what was made before it, and says what.
func TestSetupStops(t *testing.T) {
	dir := volumes(t, signer)
	made, err := setup(t, dir, signer, "Bad.estuary.internal", gateway)
	if made != signer || err == nil || !strings.Contains(err.Error(), `"Bad.estuary.internal" is not a DNS name`) {
		t.Errorf("made %q, %v", made, err)
	}
	for _, name := range []string{"Bad.estuary.internal", gateway} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s has a folder: %v", name, err)
		}
	}
	before := newfiletest.Tree(t, dir)
	if made, err := setup(t, dir, signer, gateway); err != nil || made != gateway {
		t.Errorf("the rest: made %q, %v", made, err)
	}
	after := newfiletest.Tree(t, dir)
	for _, name := range append(files(gateway), gateway) {
		delete(after, name)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("making the rest changed (-before +after):\n%s", diff)
	}
}
