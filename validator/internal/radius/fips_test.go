package radius_test

import (
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// Where MD5 is forbidden the client says so at the start: a login would end the process.
func TestNoMD5(t *testing.T) {
	const key = "ESTUARY_TEST_FIPS_CHILD"
	if os.Getenv(key) != "" {
		_, err := radius.New(radius.Config{NASIdentifier: "n", Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), "fips140=only") {
			t.Errorf("New: %v", err)
		}
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoMD5$", "-test.v")
	child.Env = append(os.Environ(), key+"=1", "GODEBUG=fips140=only")
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestNoMD5") {
		t.Errorf("%v\n%s", err, out)
	}
}
