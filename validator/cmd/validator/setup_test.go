package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/newfile/newfiletest"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/keyfile"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// TestSetup: every key that the configuration names, as the validator reads it, and the public
// half as the signer does.
func TestSetup(t *testing.T) {
	dir, path := newfiletest.Container(t, "validator", "[one_time]\nspend_keys = [\"/var/lib/estuary/own/spend-1.key\", \"/var/lib/estuary/own/spend-2.key\"]\n", "own", "public")
	newfiletest.Setup{
		Dir: dir,
		Run: func(t *testing.T) (string, error) {
			var out strings.Builder
			err := setup(t.Context(), []string{"--config", path, "--public", filepath.Join(dir, "public/validator.pub")}, &out)
			return out.String(), err
		},
		Files: map[string]fs.FileMode{
			"own/assertion.key": 0o600, "public/validator.pub": 0o644,
			"own/mac.key": 0o600, "own/index.key": 0o600, "own/spend-1.key": 0o600, "own/spend-2.key": 0o600,
		},
		Together: [][]string{
			{"own/assertion.key", "public/validator.pub"},
			{"own/mac.key"},
			{"own/index.key"},
			{"own/spend-1.key"},
			{"own/spend-2.key"},
		},
	}.Check(t)
	key, err := assertion.LoadSigningKey("x", filepath.Join(dir, "own/assertion.key"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(filepath.Join(dir, "public/validator.pub"))
	if err != nil || string(public) != keyfile.Describe(key.Public()).PublicKey+"\n" {
		t.Errorf("the public half is %q, %v", public, err)
	}
	for name, size := range map[string]int{"mac": state.MACKeySize, "index": token.KeySize, "spend-1": login.KeySize, "spend-2": login.KeySize} {
		if _, err := secret.ReadKey(filepath.Join(dir, "own", name+".key"), size); err != nil {
			t.Error(err)
		}
	}
}

// TestSetupWithoutTokens: where no tokens are accepted, no key for them is made.
func TestSetupWithoutTokens(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "validator.toml")
	put(t, path, []byte(strings.Replace(ticketConfig, "[otp]\n", "[otp]\nenabled = false\n", 1)))
	if err := setup(t.Context(), []string{"--config", path, "--public", filepath.Join(dir, "public")}, &strings.Builder{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"assertion.key", "mac.key", "public", "validator.toml"}, ls(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestSetupRefuses: what cannot be done leaves nothing behind.
func TestSetupRefuses(t *testing.T) {
	dir, path := newfiletest.Container(t, "validator", "", "own", "public")
	before := newfiletest.Tree(t, dir)
	public := filepath.Join(dir, "public/validator.pub")
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "usage: validator setup"},
		{[]string{"--config", path}, "usage: validator setup"},
		{[]string{"--public", public}, "usage: validator setup"},
		{[]string{"--config", path, "--public", public, "more"}, "usage: validator setup"},
		{[]string{"--config", path + ".none", "--public", public}, "no such file"},
		{[]string{"--config", path, "--public", filepath.Join(dir, "none/validator.pub")}, filepath.Join(dir, "none/validator.pub")},
		{[]string{"--config", path, "--public", filepath.Join(dir, "own/assertion.key")}, "file exists"},
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
