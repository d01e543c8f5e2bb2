package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/run"
)

// start serves o until the test ends and returns its address.
func start(t *testing.T, o *run.Ops) string {
	t.Helper()
	ln, err := run.Listen(t.Context(), "[ops] listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return ln.Addr().String()
}

func get(t *testing.T, method, url string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

func TestOps(t *testing.T) {
	set := metrics.NewSet()
	set.NewCounter("estuary_test_total").Add(7)
	addr := start(t, run.NewOps(run.OpsConfig{}, set))
	if code, body, _ := get(t, "GET", "http://"+addr+"/healthz"); code != 200 || body != "alive\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, body, h := get(t, "GET", "http://"+addr+"/readyz"); code != 200 || body != `{"status":"ready","parts":[]}`+"\n" || h.Get("Content-Type") != "application/json" {
		t.Errorf("/readyz: %d %q %v", code, body, h)
	}
	code, body, _ := get(t, "GET", "http://"+addr+"/metrics")
	for _, want := range []string{
		"estuary_test_total 7\n", "\ngo_goroutines ", "\nprocess_resident_memory_bytes ", "\nprocess_cpu_seconds_total ",
		"\nprocess_start_time_seconds ", "\ngo_memstats_heap_inuse_bytes ", "\ngo_gc_cycles_total ",
	} {
		if code != 200 || !strings.Contains(body, want) || strings.Contains(body, want+"0\n") && !strings.Contains(want, "gc") {
			t.Errorf("/metrics %d lacks %q:\n%s", code, want, body)
		}
	}
	for _, c := range []struct {
		method, path string
		code         int
	}{{"POST", "/healthz", 405}, {"DELETE", "/readyz", 405}, {"GET", "/", 404}, {"GET", "/debug/pprof/", 404}, {"HEAD", "/metrics", 200}} {
		if code, _, _ := get(t, c.method, "http://"+addr+c.path); code != c.code {
			t.Errorf("%s %s: %d", c.method, c.path, code)
		}
	}
}

func TestReadiness(t *testing.T) {
	dead := func(context.Context) error { return errors.New("no route") }
	fine := func(context.Context) error { return nil }
	cases := []struct {
		name   string
		checks map[string]bool // critical; the name tells whether it fails
		status string
		code   int
		health string
	}{
		{"all fine", map[string]bool{"fine ledger": true, "fine directory": false}, "ready", 200, ""},
		{"directory down", map[string]bool{"fine ledger": true, "dead directory": false}, "degraded", 200, ""},
		{"ledger down", map[string]bool{"dead ledger": true, "dead directory": false}, "unready", 503, "is unready; dead ledger: no route"},
		{"panic", map[string]bool{"panic ledger": true}, "unready", 503, "panic ledger: panic: oh"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := run.NewOps(run.OpsConfig{}, metrics.NewSet())
			for name, critical := range c.checks {
				f := fine
				switch name[:4] {
				case "dead":
					f = dead
				case "pani":
					f = func(context.Context) error { panic("oh") }
				}
				o.Check(name, critical, f)
			}
			addr := start(t, o)
			code, body, _ := get(t, "GET", "http://"+addr+"/readyz")
			var state run.Readiness
			if err := json.Unmarshal([]byte(body), &state); err != nil {
				t.Fatal(err)
			}
			if code != c.code || state.Status != c.status || len(state.Parts) != len(c.checks) {
				t.Errorf("%d %s", code, body)
			}
			for _, p := range state.Parts {
				if strings.HasPrefix(p.Name, "fine") != (p.Error == "") || p.Critical != c.checks[p.Name] {
					t.Errorf("%+v", p)
				}
			}
			err := run.Health(t.Context(), addr)
			if (err == nil) != (c.health == "") || err != nil && !strings.HasSuffix(err.Error(), c.health) {
				t.Errorf("health: %v", err)
			}
		})
	}
}

func TestHealthOfNobody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	if err := run.Health(t.Context(), addr); err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "\n") {
		t.Errorf("health of a closed port: %v", err)
	}
	// An environment's proxy has no part in it.
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	up := start(t, run.NewOps(run.OpsConfig{}, metrics.NewSet()))
	_, port, _ := net.SplitHostPort(up)
	if err := run.Health(t.Context(), "0.0.0.0:"+port); err != nil {
		t.Errorf("health of every address: %v", err)
	}
}

// Checks run side by side, end with their time, and are not run again for each asker.
func TestReadinessTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := run.NewOps(run.OpsConfig{}, metrics.NewSet())
		var ran atomic.Int64
		for i := range 3 {
			o.Check(fmt.Sprint("slow", i), false, func(ctx context.Context) error {
				ran.Add(1)
				<-ctx.Done()
				return ctx.Err()
			})
		}
		begin := time.Now()
		gone, cancel := context.WithCancel(t.Context())
		cancel() // an asker who left
		first := o.Readiness(gone)
		if took := time.Since(begin); took != run.CheckTime || first.Status != "degraded" {
			t.Errorf("%s after %v", first.Status, took)
		}
		time.Sleep(run.KeepTime - 1)
		if diff := cmp.Diff(first, o.Readiness(t.Context())); diff != "" || ran.Load() != 3 {
			t.Errorf("asked again: %d checks ran, %s", ran.Load(), diff)
		}
		time.Sleep(time.Nanosecond)
		if o.Readiness(t.Context()); ran.Load() != 6 {
			t.Errorf("asked later: %d checks ran", ran.Load())
		}
	})
}

// Slow clients are hung up on.
func TestOpsTimeouts(t *testing.T) {
	addr := start(t, run.NewOps(run.OpsConfig{}, metrics.NewSet()))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\nX-")); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_ = conn.SetReadDeadline(begin.Add(10 * time.Second))
	if _, err := io.ReadAll(conn); err != nil || time.Since(begin) > 4*time.Second {
		t.Errorf("half a header: open for %v, %v", time.Since(begin), err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Big", strings.Repeat("x", 32<<10))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("32 KiB of header: %s", response.Status)
	}
}

func TestTakenPort(t *testing.T) {
	ln, err := run.Listen(t.Context(), "[mesh] listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	addr := ln.Addr().String()
	_, err = run.Listen(t.Context(), "[mesh] listen", addr)
	want := "[mesh] listen: another process listens on " + addr + " already: stop it, or choose another address"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	err = run.NewOps(run.OpsConfig{Listen: addr}, metrics.NewSet()).Run(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "[ops] listen: another process listens on "+addr) {
		t.Errorf("ops: %v", err)
	}
	for address, says := range map[string]string{"192.0.2.1:0": "does not have the address", "nonsense": "listening on nonsense"} {
		if _, err := run.Listen(t.Context(), "[x] listen", address); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestConfig(t *testing.T) {
	cases := map[string]string{
		"[ops]\nlisten = \"127.0.0.1:9100\"":                        "",
		"[ops]\nlisten = \"[::1]:9100\"":                            "",
		"[ops]\nlisten = \"localhost:9100\"":                        "",
		"[ops]\nlisten = \"0.0.0.0:9100\"":                          "ops.listen: 0.0.0.0:9100 can be reached from other machines",
		"[ops]\nlisten = \"ops.example:9100\"":                      "can be reached from other machines",
		"[ops]\nlisten = \"0.0.0.0:9100\"\nallow_remote = true":     "",
		"[ops]\nlisten = \"nonsense\"\nallow_remote = true":         "has to be of the form host:port",
		"[ops]\nlisten = \":9100\"":                                 "has to be of the form host:port",
		"[ops]\nlisten = \"127.0.0.1:99999\"":                       "is not the number of a port",
		"":                                                          "ops.listen: names no address",
		"[ops]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"DEBUG\"": "log.level: has to be debug, info, warn or error",
	}
	for text, says := range cases {
		path := filepath.Join(t.TempDir(), "x.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := struct {
			Ops run.OpsConfig `toml:"ops" doc:"x"`
			Log run.LogConfig `toml:"log" doc:"x"`
		}{Log: run.LogConfig{Level: "info"}}
		err := config.Load(path, &c)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
