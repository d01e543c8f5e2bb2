package systest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// root is the repository, bin the folder of the binaries under test.
var root, bin string

// TestMain builds the binaries once, as they are shipped.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "estuary-systest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if root, err = filepath.Abs("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = filepath.Join(dir, "bin")
	if err := build(bin, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// crashing returns the folder of the same binaries with crash points in them, which the
// first test that wants them builds.
var crashing = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(bin), "crashing")
	return dir, build(dir, "-tags=failpoint")
})

// build has scripts/build write the binaries to dir, with further flags for Go.
func build(dir, flags string) error {
	cmd := exec.Command(filepath.Join(root, "scripts/build"), dir)
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" "+flags))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the binaries: %w", err)
	}
	return nil
}
