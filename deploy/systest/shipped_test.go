package systest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/estuary-pki/estuary/services/failpoint"
)

// TestNoFailpointsShipped: what is shipped cannot be made to crash at a named point, and
// does not even hold the names. A binary built for such crashes does.
func TestNoFailpointsShipped(t *testing.T) {
	for _, name := range services {
		if found := failpointsIn(t, filepath.Join(bin, name)); found != nil {
			t.Errorf("%s holds %q", name, found)
		}
	}
	path := filepath.Join(t.TempDir(), "gateway")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "failpoint", "-o", path, "./cmd/gateway")
	build.Dir = filepath.Join(root, "gateway")
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building a gateway with failpoints: %v\n%s", err, out)
	}
	if found := failpointsIn(t, path); len(found) != len(failpoint.Points())+1 {
		t.Errorf("a gateway with failpoints holds only %q: this test cannot see them", found)
	}
}

// failpointsIn returns what a binary with failpoints holds, as far as this one does.
func failpointsIn(t *testing.T, path string) []string {
	t.Helper()
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	traces := []string{"ESTUARY_FAILPOINT"}
	for _, p := range failpoint.Points() {
		traces = append(traces, string(p))
	}
	var found []string
	for _, trace := range traces {
		if bytes.Contains(binary, []byte(trace)) {
			found = append(found, trace)
		}
	}
	return found
}
