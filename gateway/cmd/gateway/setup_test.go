package main

import (
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/newfile/newfiletest"
)

// container returns a folder with the volume of a gateway in compose.yaml, and its configuration
// with that folder in place of /var/lib/estuary.
func container(t *testing.T) (dir, path string) {
	t.Helper()
	dir, path = t.TempDir(), filepath.Join(t.TempDir(), "gateway.toml")
	if err := os.Mkdir(filepath.Join(dir, "own"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../../deploy/config/compose/gateway.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/var/lib/estuary", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// TestSetup: a certificate and key for the hosts. Package selfsigned tests what is in them.
func TestSetup(t *testing.T) {
	dir, path := container(t)
	newfiletest.Setup{
		Dir: dir,
		Run: func(t *testing.T) (string, error) {
			var out strings.Builder
			err := setup(t.Context(), []string{"--config", path, "est.example.test", "localhost", "127.0.0.1"}, &out)
			return out.String(), err
		},
		Files:    map[string]fs.FileMode{"own/tls.key": 0o600, "own/tls.crt": 0o644},
		Together: [][]string{{"own/tls.key", "own/tls.crt"}},
	}.Check(t)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "own/tls.crt"), filepath.Join(dir, "own/tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"est.example.test", "localhost", "127.0.0.1"} {
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
}

// TestSetupRefuses: what cannot be done leaves nothing behind.
func TestSetupRefuses(t *testing.T) {
	dir, path := container(t)
	before := newfiletest.Tree(t, dir)
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "usage: gateway setup"},
		{[]string{"--config", path}, "usage: gateway setup"},
		{[]string{"localhost"}, "usage: gateway setup"},
		{[]string{"--config", path + ".none", "localhost"}, "no such file"},
	} {
		var out strings.Builder
		err := setup(t.Context(), test.args, &out)
		if err == nil || !strings.Contains(err.Error(), test.want) || out.Len() > 0 {
			t.Errorf("%v: says %q, %v", test.args, out.String(), err)
		}
		if diff := cmp.Diff(before, newfiletest.Tree(t, dir)); diff != "" {
			t.Errorf("%v: made something:\n%s", test.args, diff)
		}
	}
}
