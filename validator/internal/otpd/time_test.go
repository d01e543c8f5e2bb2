package otpd_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/validator/internal/otpd"
)

// pipe returns the client's end of a connection, and a channel that is closed when the
// server has left it. logins counts.
func pipe(t *testing.T, logins *int) (net.Conn, <-chan struct{}) {
	t.Helper()
	o, err := otpd.New(otpd.Config{
		Listen: "unix:/unused", Timeout: time.Minute, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Login: func(context.Context, otpd.Request) bool {
			*logins++
			return true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	left := make(chan struct{})
	go func() {
		defer close(left)
		o.Serve(t.Context(), there)
	}()
	t.Cleanup(func() { _ = here.Close() })
	return here, left
}

// A request is known again for 30 s after its answer, not for longer.
func TestMemoryInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logins := 0
		conn, _ := pipe(t, &logins)
		q := ask(1, "otto", "x")
		for _, c := range []struct {
			later time.Duration
			want  int
		}{{0, 1}, {29 * time.Second, 1}, {2 * time.Second, 2}, {29 * time.Second, 2}} {
			time.Sleep(c.later)
			if got := exchange(t, conn, q); got != accepted || logins != c.want {
				t.Errorf("after %v: code %d, %d logins, not %d", c.later, got, logins, c.want)
			}
		}
	})
}

// However many requests come, only so many are remembered: the last ones.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logins := 0
		conn, _ := pipe(t, &logins)
		first := ask(1, "otto", "x")
		last := first
		exchange(t, conn, first)
		for range otpd.RememberMost + 1 {
			last = ask(1, "otto", "x")
			exchange(t, conn, last)
		}
		before := logins
		exchange(t, conn, last)
		if logins != before {
			t.Error("the last request is forgotten")
		}
		exchange(t, conn, first)
		if logins != before+1 {
			t.Error("the first request is remembered")
		}
	})
}

// A client that asks and does not read is left after one write's time, not after one for
// each of its requests.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logins := 0
		conn, left := pipe(t, &logins)
		began := time.Now()
		for n := range byte(50) {
			if _, err := conn.Write(ask(n, "otto", "x").octets()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // logins are counted one by one
		}
		<-left
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("left after %v", took)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection: %v", err)
		}
		if logins != 50 {
			t.Errorf("%d logins", logins)
		}
	})
}

// A client may be silent for long, not for ever.
func TestIdleClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logins := 0
		conn, left := pipe(t, &logins)
		time.Sleep(9 * time.Minute)
		if got := exchange(t, conn, ask(1, "otto", "x")); got != accepted {
			t.Errorf("code %d", got)
		}
		began := time.Now()
		<-left
		if took := time.Since(began); took != 10*time.Minute {
			t.Errorf("left after %v", took)
		}
	})
}
