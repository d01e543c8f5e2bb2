package filelock_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/filelock"
)

// Who has a lock is named to who wants it; closing the file gives it free.
func TestTake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	held, err := filelock.Take(path, "signer", at)
	if err != nil {
		t.Fatal(err)
	}
	var who *filelock.HeldError
	_, err = filelock.Take(path, "another", at)
	if want := fmt.Sprintf("in use by signer, process %d, since 2026-11-22T12:00:00Z", os.Getpid()); !errors.As(err, &who) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, not %q", err, want)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := filelock.Take(path, "another", at)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := filelock.Take(filepath.Join(t.TempDir(), "nowhere", "x.lock"), "signer", at); err == nil {
		t.Error("a lock in a folder that does not exist")
	}
}
