package radius_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/radius"
)

const testSecret = "a secret of 26 octets, say"

// world is a client that runs, with what it tells.
type world struct {
	*radius.Client
	set  *metrics.Set
	log  buffer
	stop func() // ends Run, and waits for that

	mu    sync.Mutex
	ahead time.Duration // guarded by mu; of the client's clock
}

// newWorld starts a client. When the test ends, nothing of it may be left.
func newWorld(t *testing.T, change ...func(*radius.Config)) *world {
	t.Helper()
	w := &world{set: metrics.NewSet()}
	c := radius.Config{NASIdentifier: "validator-1.lab.test", Log: slog.New(slog.NewJSONHandler(&w.log, nil)), Metrics: w.set, Now: w.now}
	for _, f := range change {
		f(&c)
	}
	var err error
	if w.Client, err = radius.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(8 * time.Second):
			t.Error("Run does not end")
		}
		noneLeft(t)
	})
	t.Cleanup(w.stop)
	return w
}

// noneLeft waits until no goroutine runs the client's code.
func noneLeft(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !bytes.Contains(stacks, []byte("validator/internal/radius.(")) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("goroutines are left:\n%s", stacks)
			return
		}
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

// metric returns the sum of all metrics whose line begins so and has all the labels.
func (w *world) metric(t *testing.T, name string, labels ...string) int {
	t.Helper()
	var out bytes.Buffer
	w.set.WritePrometheus(&out)
	sum := 0
lines:
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, name) {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(line, l) {
				continue lines
			}
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]))
		if err != nil {
			t.Fatalf("metric %q: %v", line, err)
		}
		sum += n
	}
	return sum
}

// login asks the target; its error is an *Unknown or ends the test.
func (w *world) login(t *testing.T, target radius.Target, user, password string) (radius.Answer, *radius.Unknown) {
	t.Helper()
	return w.ask(t, target, radius.Request{User: user, Password: text(password)})
}

func (w *world) ask(t *testing.T, target radius.Target, r radius.Request) (radius.Answer, *radius.Unknown) {
	t.Helper()
	answer, err := w.Authenticate(t.Context(), target, r)
	if err == nil {
		return answer, nil
	}
	var unknown *radius.Unknown
	if !errors.As(err, &unknown) {
		t.Errorf("the error is a %T: %v", err, err)
		unknown = &radius.Unknown{Err: err}
	}
	return answer, unknown
}

// want logs in and compares the result.
func (w *world) want(t *testing.T, want radius.Result, target radius.Target, r radius.Request) {
	t.Helper()
	answer, unknown := w.ask(t, target, r)
	if unknown != nil {
		t.Errorf("login of %s: %v (sent: %t)", r.User, unknown, unknown.Sent)
	} else if answer.Result != want {
		t.Errorf("login of %s: result %d instead of %d", r.User, answer.Result, want)
	}
}

func text(s string) secret.Bytes { return secret.New([]byte(s)) }

// each runs n functions, all at once, and waits for them.
func each(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// within waits until something is so.
func within(t *testing.T, d time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", d, what)
		}
	}
}

// buffer is a log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) count(words string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), words)
}

// number returns the number at the end of a user's name.
func number(user string) int {
	n, err := strconv.Atoi(user[strings.LastIndexByte(user, '-')+1:])
	if err != nil {
		panic(fmt.Sprintf("user %q has no number", user))
	}
	return n
}
