package systest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// directoryTime is [directory] timeout of the tests: what looking an account up may take,
// and then again a bind.
const directoryTime = 2 * time.Second

// TestReliabilityDirectoryFaults: whatever the directory does, a login ends in time with 503
// and Retry-After, enrolment tokens go on, and all is well again within two seconds.
func TestReliabilityDirectoryFaults(t *testing.T) {
	t.Parallel()
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1}, "")
	c.start()
	c.settled(t)
	c.warm(t)
	validator := c.node("validator-1")
	for _, f := range []struct {
		name string
		set  func(ipatest.Fault) error
		f    ipatest.Fault
		last time.Duration // how long a login may take
	}{
		{"down", c.ipa.SetFault, ipatest.Refuse, directoryTime},
		{"not reading", c.ipa.SetFault, ipatest.Deaf, directoryTime},
		{"slow", c.ipa.SetFault, ipatest.Slow, directoryTime},
		{"reset within an answer", c.ipa.SetFault, ipatest.Reset, directoryTime},
		{"mute", c.ipa.SetFault, ipatest.Mute, directoryTime},
		{"stalling TLS", c.ipa.SetFault, ipatest.StallTLS, directoryTime},
		{"garbage", c.ipa.SetFault, ipatest.Garbage, directoryTime},
		{"2 GiB", c.ipa.SetFault, ipatest.Huge, directoryTime},
		{"mute to a bind", c.bindFault, ipatest.Mute, 2 * directoryTime},
		{"slow to bind", c.bindFault, ipatest.Slow, 2 * directoryTime},
		{"reset within a bind", c.bindFault, ipatest.Reset, 2 * directoryTime},
		{"garbage to a bind", c.bindFault, ipatest.Garbage, 2 * directoryTime},
	} {
		base := usageOf(t, validator)
		if err := f.set(f.f); err != nil {
			t.Fatal(err)
		}
		slowest, tokens := c.suffer(t, f.name, f.last)
		if err := f.set(ipatest.NoFault); err != nil {
			t.Fatal(err)
		}
		healed := time.Now()
		c.settled(t)
		recovered := time.Since(healed)
		if recovered > 2*time.Second+directoryTime/10 {
			t.Errorf("%s: served again after %v", f.name, recovered)
		}
		left := usage{}
		within(t, 10*time.Second, func() string { return fmt.Sprintf("%s: %+v were used, and now %+v are", f.name, base, left) }, func() bool {
			left = usageOf(t, validator)
			return left.sockets <= base.sockets+5 && left.goroutines <= base.goroutines+5
		})
		tell(t, "%s: logins took %v at most, %d enrolments by token meanwhile, served again after %v",
			f.name, slowest.Round(10*time.Millisecond), tokens, recovered.Round(10*time.Millisecond))
	}
}

func (c *accounts) bindFault(f ipatest.Fault) error {
	c.ipa.SetBindFault(f)
	return nil
}

// settled waits until a login is served.
func (c *accounts) settled(t *testing.T) {
	t.Helper()
	last := answer{}
	within(t, 10*time.Second, func() string { return "logins are not served: " + last.String() }, func() bool {
		a, err := c.holder(c.user())
		if err != nil {
			t.Fatal(err)
		}
		last = c.enrol(t.Context(), c.userURLs()[0], a)
		return last.status == http.StatusOK
	})
}

// warm has as much going on at once as later, so that every connection is there.
func (c *accounts) warm(t *testing.T) {
	t.Helper()
	devices := c.applicants(64)
	inLanes(16, 64, func(i int) {
		a, err := c.holder(c.user())
		if err != nil {
			t.Error(err)
			return
		}
		for _, got := range []answer{c.enrol(t.Context(), c.userURLs()[0], a), c.enrol(t.Context(), c.est()[0], devices[i])} {
			if got.status != http.StatusOK {
				t.Errorf("nothing is wrong yet: %v", got)
			}
		}
	})
}

// suffer has eight users log in again and again for a while, beside four devices with tokens.
func (c *accounts) suffer(t *testing.T, fault string, last time.Duration) (slowest time.Duration, tokens int64) {
	t.Helper()
	devices := c.applicants(4)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(full(20))*time.Second)
	defer cancel()
	var running sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		running.Go(func() {
			for ctx.Err() == nil {
				a, err := c.holder(c.user())
				if err != nil {
					t.Error(err)
					return
				}
				started := time.Now()
				got := c.enrol(context.WithoutCancel(ctx), c.userURLs()[0], a)
				took := time.Since(started)
				mu.Lock()
				slowest = max(slowest, took)
				mu.Unlock()
				if got.status != http.StatusServiceUnavailable || got.after <= 0 || took > last+200*time.Millisecond {
					t.Errorf("%s: after %v, to come again in %v: %v", fault, took, got.after, got)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	var served atomic.Int64
	for _, d := range devices {
		running.Go(func() {
			for ctx.Err() == nil { // repeats of one enrolment: the whole way but the signature
				if got := c.enrol(context.WithoutCancel(ctx), c.est()[0], d); got.status != http.StatusOK {
					t.Errorf("%s: a token: %v", fault, got)
				}
				served.Add(1)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	running.Wait()
	if served.Load() < 4 {
		t.Errorf("%s: only %d enrolments by token", fault, served.Load())
	}
	return slowest, served.Load()
}

// usage is what a process holds. Files of the store come and go with its own pool.
type usage struct{ sockets, goroutines int }

func usageOf(t *testing.T, n *node) usage {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(n.cmd.Process.Pid), "fd", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no files: %v", n.name, err)
	}
	u := usage{goroutines: -1}
	for _, f := range files {
		if what, err := os.Readlink(f); err == nil && strings.HasPrefix(what, "socket:") {
			u.sockets++
		}
	}
	for name, value := range metricsOf(t, n) {
		if name == "go_goroutines" {
			u.goroutines = int(value)
		}
	}
	if u.goroutines < 0 {
		t.Fatal("the process does not tell its goroutines")
	}
	return u
}

// metricsOf reads /metrics.
func metricsOf(t *testing.T, n *node) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(metricsText(t, n)) {
		name, text, found := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(text, 64); found && err == nil {
			all[name] = value
		}
	}
	return all
}
