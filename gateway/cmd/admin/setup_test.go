package main

import (
	"crypto/sha256"
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/config"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/newfile/newfiletest"
	"github.com/estuary-pki/estuary/services/secret"
)

// TestSetup: a certificate and key for the hosts, and a token of which the admin reads the hash.
func TestSetup(t *testing.T) {
	dir, path := newfiletest.Container(t, "admin", "", "own")
	file := filepath.Join(dir, "own/token")
	all := newfiletest.Setup{
		Dir: dir,
		Run: func(t *testing.T) (string, error) {
			var out strings.Builder
			err := setup(t.Context(), []string{"--config", path, "--token", file, "admin.example.test", "127.0.0.1"}, &out)
			if text, _ := os.ReadFile(file); len(text) > 0 && strings.Contains(out.String(), strings.TrimSpace(string(text))) {
				t.Error("it says the token itself")
			}
			return out.String(), err
		},
		Files:    map[string]fs.FileMode{"own/tls.key": 0o600, "own/tls.crt": 0o644, "own/token": 0o600, "own/token.hash": 0o644},
		Together: [][]string{{"own/tls.key", "own/tls.crt"}},
	}
	all.Check(t)
	all.Refused(t, []string{"own/token.hash"})
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "own/tls.crt"), filepath.Join(dir, "own/tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"admin.example.test", "127.0.0.1"} {
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	c := config.DefaultAdmin()
	if err := common.Load(path, c); err != nil {
		t.Fatal(err)
	}
	if err := c.API.BearerToken.ReadHashes(); err != nil {
		t.Fatal(err)
	}
	token, err := secret.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.API.BearerToken.Tokens[0].TokenHash, config.TokenHash(sha256.Sum256(token.Reveal())); got != want {
		t.Errorf("the hash is %s, the token's %s", got, want)
	}
	// Taken away by its holder.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	before := newfiletest.Tree(t, dir)
	if said, err := all.Run(t); err != nil || said != "" {
		t.Errorf("without the token it says %q, %v", said, err)
	}
	if diff := cmp.Diff(before, newfiletest.Tree(t, dir)); diff != "" {
		t.Errorf("without the token it made something:\n%s", diff)
	}
}

// TestSetupRefuses: what cannot be done leaves nothing behind.
func TestSetupRefuses(t *testing.T) {
	dir, path := newfiletest.Container(t, "admin", "", "own")
	before := newfiletest.Tree(t, dir)
	file := filepath.Join(dir, "own/token")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	inline := filepath.Join(t.TempDir(), "admin.toml")
	hash := `token_hash = "sha256:` + strings.Repeat("a", 64) + `"`
	text = []byte(strings.Replace(string(text), `token_hash_file = "`+dir+`/own/token.hash"`, hash, 1))
	if err := os.WriteFile(inline, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "usage: admin setup"},
		{[]string{"--config", path, "--token", file}, "usage: admin setup"},
		{[]string{"--config", path, "localhost"}, "usage: admin setup"},
		{[]string{"--token", file, "localhost"}, "usage: admin setup"},
		{[]string{"--config", path + ".none", "--token", file, "localhost"}, "no such file"},
		{[]string{"--config", inline, "--token", file, "localhost"}, "the configuration names no token_hash_file"},
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
