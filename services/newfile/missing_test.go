package newfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/newfile"
)

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	key, certificate := filepath.Join(dir, "key"), filepath.Join(dir, "certificate")
	if missing, err := newfile.Missing(key, certificate); err != nil || !missing {
		t.Errorf("nothing is there: %v, %v", missing, err)
	}
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newfile.Missing(key, certificate); err == nil || !strings.Contains(err.Error(), certificate) {
		t.Errorf("half is there: %v", err)
	}
	if err := os.WriteFile(certificate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if missing, err := newfile.Missing(key, certificate); err != nil || missing {
		t.Errorf("both are there: %v, %v", missing, err)
	}
	if _, err := newfile.Missing(filepath.Join(key, "below")); err == nil {
		t.Error("below a file")
	}
}
