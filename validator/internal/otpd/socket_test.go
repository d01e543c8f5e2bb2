package otpd_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/validator/internal/otpd"
)

// run runs a server at path for a moment.
func run(t *testing.T, path string) error {
	t.Helper()
	o, err := otpd.New(otpd.Config{
		Listen: "unix:" + path, Timeout: time.Second, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Login: func(context.Context, otpd.Request) bool { return true },
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	return o.Run(ctx)
}

// Only root and the validator's user can connect, from the first moment and whatever the
// umask.
func TestSocketMode(t *testing.T) {
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	s := start(t, func(context.Context, otpd.Request) bool { return true })
	if info, err := os.Lstat(s.path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What is there already is replaced only when it is a socket that nobody listens on.
func TestSocketThatIsThere(t *testing.T) {
	s := start(t, func(context.Context, otpd.Request) bool { return true })
	if err := run(t, s.path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("a socket in use: %v", err)
	}
	if got := exchange(t, s.dial(t), ask(1, "otto", "x")); got != accepted {
		t.Errorf("who listens there: code %d", got)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(filepath.Dir(s.path), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, filepath.Dir(file)} {
		if err := run(t, path); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file is %q, %v", text, err)
	}
	stale := filepath.Join(filepath.Dir(s.path), "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if err := run(t, stale); err != nil {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
	if _, err := os.Lstat(stale); err == nil {
		t.Error("it is still there")
	}
}

// A socket whose queue is full has somebody who listens, only slowly.
func TestSocketThatIsBusy(t *testing.T) {
	dir, err := os.MkdirTemp("", "otpd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "busy")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 8 { // nobody accepts them
		if conn, err := net.Dial("unix", path); err == nil {
			t.Cleanup(func() { _ = conn.Close() })
		}
	}
	if err := run(t, path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("a busy socket: %v", err)
	}
}

func TestNewNeedsAll(t *testing.T) {
	good := otpd.Config{
		Listen: "unix:/x", Timeout: time.Second, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Login: func(context.Context, otpd.Request) bool { return true },
	}
	for i, change := range []func(*otpd.Config){
		func(c *otpd.Config) { c.Listen = "127.0.0.1:1" },
		func(c *otpd.Config) { c.Listen = "unix:" },
		func(c *otpd.Config) { c.Login = nil },
		func(c *otpd.Config) { c.Timeout = 0 },
		func(c *otpd.Config) { c.Log = nil },
		func(c *otpd.Config) { c.Metrics = nil },
	} {
		c := good
		change(&c)
		if _, err := otpd.New(c); err == nil {
			t.Errorf("case %d was made", i)
		}
	}
}
