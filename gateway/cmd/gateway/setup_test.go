package main

import (
	"crypto/tls"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/newfile/newfiletest"
)

// TestSetup: a certificate and key for the hosts. Package selfsigned tests what is in them.
func TestSetup(t *testing.T) {
	dir, path := newfiletest.Container(t, "gateway", "", "own")
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
	dir, path := newfiletest.Container(t, "gateway", "", "own")
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
