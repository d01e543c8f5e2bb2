package main

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/newfile/newfiletest"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/config"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// TestSetup: the CA and the key of the ledger, as the signer reads them.
func TestSetup(t *testing.T) {
	dir, path := newfiletest.Container(t, "signer", "", "own", "public")
	newfiletest.Setup{
		Dir: dir,
		Run: func(t *testing.T) (string, error) {
			var out strings.Builder
			err := setup(t.Context(), []string{"--config", path, "--subject", "CN=Lab CA"}, &out)
			return out.String(), err
		},
		Files:    map[string]fs.FileMode{"own/ca.key": 0o600, "own/mac.key": 0o600, "public/ca.crt": 0o644},
		Together: [][]string{{"own/ca.key", "public/ca.crt"}, {"own/mac.key"}},
	}.Check(t)
	c := config.Default()
	if err := common.Load(path, c); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Load(t.Context(), c.CA, time.Now(), slog.New(slog.DiscardHandler))
	if err != nil || a.Certificate.Subject.String() != "CN=Lab CA" {
		t.Errorf("the CA: %+v, %v", a, err)
	}
	if _, err := secret.ReadKey(string(c.Ledger.MACKey), ledger.MACKeySize); err != nil {
		t.Error(err)
	}
}

// TestSetupRefuses: what cannot be done leaves nothing behind.
func TestSetupRefuses(t *testing.T) {
	dir, path := newfiletest.Container(t, "signer", "", "own", "public")
	before := newfiletest.Tree(t, dir)
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "usage: signer setup"},
		{[]string{"--config", path, "more"}, "usage: signer setup"},
		{[]string{"--config", path + ".none"}, "no such file"},
		{[]string{"--config", path, "--subject", "Lab CA"}, `reading subject "Lab CA"`},
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
	if err := os.Remove(filepath.Join(dir, "public")); err != nil {
		t.Fatal(err)
	}
	delete(before, "public")
	err := setup(t.Context(), []string{"--config", path}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "public/ca.crt")) {
		t.Errorf("without the folder of the certificate: %v", err)
	}
	if diff := cmp.Diff(before, newfiletest.Tree(t, dir)); diff != "" {
		t.Errorf("without the folder of the certificate, it left:\n%s", diff)
	}
}

func TestMeshSetupCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mesh")
	for _, args := range [][]string{nil, {dir}, {"", ""}, {"--dir", dir}} {
		if err := meshSetup(t.Context(), args, &strings.Builder{}); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	for _, want := range []string{"made mesh certificate and key for a.test\nmade mesh certificate and key for b.test\n", ""} {
		var out strings.Builder
		if err := meshSetup(t.Context(), []string{dir, "a.test", "b.test"}, &out); err != nil || out.String() != want {
			t.Errorf("says %q, %v, not %q", out.String(), err, want)
		}
	}
}
