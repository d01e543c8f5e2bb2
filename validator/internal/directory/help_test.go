package directory_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// buffer is a bytes.Buffer for many goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// settings is a configuration for servers on unix sockets; log and metrics are its own.
func settings(servers ...string) (directory.Config, *buffer) {
	var log buffer
	return directory.Config{
		Servers: servers, BindDN: account, Password: secret.New([]byte("service password")),
		BaseDN: base, Realm: realm, PrincipalAttribute: "krbPrincipalName", OTPRequiredControl: true,
		Groups: []string{"admins", "vpn"}, Timeout: 2 * time.Second, Pool: 4,
		Log: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: metrics.NewSet(), Now: time.Now,
	}, &log
}

// client makes a Client whose connections are closed at the end of the test.
func client(t *testing.T, c directory.Config) *directory.Client {
	t.Helper()
	d, err := directory.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = d.Run(ended) // closes the pool
	})
	return d
}

// running runs the client's upkeep for the rest of the test.
func running(t *testing.T, d *directory.Client) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		all.Wait()
	})
}

// person is the entry of a user, with more attributes or others.
func person(name string, more map[string][]string) entry {
	e := entry{"uid=" + name + ",cn=users,cn=accounts," + base, map[string][]string{
		"objectClass":      {"top", "person", "inetOrgPerson", "krbprincipalaux"},
		"uid":              {name},
		"krbPrincipalName": {name + "@" + realm},
	}}
	maps.Copy(e.attrs, more)
	return e
}

// people is a search that finds the entries by their krbPrincipalName alone.
func people(all ...entry) func(string, string) answer {
	return func(_, filter string) (a answer) {
		for _, e := range all {
			for _, name := range e.attrs["krbPrincipalName"] {
				if strings.Contains(filter, "(krbPrincipalName="+name+")") {
					a.entries = append(a.entries, e)
				}
			}
		}
		return a
	}
}

// settled fails the test when more goroutines stay than there were.
func settled(t *testing.T, before int) {
	t.Helper()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
}
