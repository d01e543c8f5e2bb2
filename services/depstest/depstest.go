// Package depstest holds the test that a binary links exactly the modules on its list, each
// with a reason. The deps_test.go of every service calls it.
package depstest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const own = "github.com/estuary-pki/estuary/"

// Check compares the modules that the package main links with the lines "MODULE REASON" of
// the file list, and fails for every one that is missing, superfluous or without a reason.
// What is linked are the modules of packages that the program imports, not all of go.sum.
// At most budget modules are allowed, and none whose path contains a forbidden text.
func Check(t *testing.T, main, list string, budget int, forbidden ...string) {
	t.Helper()
	want := read(t, list)
	got := linked(t, main)
	if len(got) > budget {
		t.Errorf("%s links %d modules: at most %d are allowed", main, len(got), budget)
	}
	for _, module := range got {
		if _, ok := want[module]; !ok {
			t.Errorf("%s links %s, which is not in %s", main, module, list)
		}
		for _, text := range forbidden {
			if strings.Contains(module, text) {
				t.Errorf("%s links %s: nothing with %q may be linked here", main, module, text)
			}
		}
		delete(want, module)
	}
	for module := range want {
		t.Errorf("%s names %s, which %s does not link", list, module, main)
	}
}

func read(t *testing.T, list string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		module, reason, _ := strings.Cut(line, " ")
		if strings.TrimSpace(reason) == "" {
			t.Errorf("%s gives no reason for %s", list, module)
		}
		want[module] = reason
	}
	return want
}

func linked(t *testing.T, main string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", main) //nolint:gosec // of a test
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing what %s links: %v", main, err)
	}
	var modules []string
	for _, module := range strings.Fields(string(out)) {
		if !strings.HasPrefix(module, own) {
			modules = append(modules, module)
		}
	}
	slices.Sort(modules)
	return slices.Compact(modules)
}
