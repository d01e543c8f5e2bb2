package run_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/estuary-pki/estuary/services/run"
)

// TestMain lets the test binary be the command that a test starts and signals.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	run.Main("child", child)
}

func child(ctx context.Context, args []string) error {
	switch args[0] {
	case "fine":
		return nil
	case "wrong":
		return errors.New("reading key /k: no such file")
	case "report":
		return errors.New("a.toml:1: x: wrong\na.toml:2: y: wrong")
	case "usage":
		return run.Usagef("unknown flag %s", args[1])
	case "help":
		return flag.ErrHelp
	case "panic":
		panic("at the discothèque")
	case "stop":
		fmt.Println("running")
		<-ctx.Done()
		return run.Group(ctx, run.Part{Name: "late", Run: func(ctx context.Context) error { return ctx.Err() }})
	case "canceled":
		fmt.Println("running")
		<-ctx.Done()
		return fmt.Errorf("serving: %w", ctx.Err())
	case "fail":
		fmt.Println("running")
		<-ctx.Done()
		return errors.New("closing the store: disk full")
	case "stubborn":
		fmt.Println("running")
		<-ctx.Done()
		fmt.Println("stopping")
		time.Sleep(time.Minute)
	case "protected":
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		var core unix.Rlimit
		err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_CORE, &core))
		fmt.Println(dumpable, core.Cur, core.Max)
		return err
	case "hup":
		reload := run.Hup(ctx)
		fmt.Println("running")
		<-reload
		fmt.Println("reloading")
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond) // Hup has let go
		fmt.Println("stopping")
		time.Sleep(100 * time.Millisecond)
	case "pipe":
		fmt.Println("running")
		<-ctx.Done()
		_, err := fmt.Println("for nobody")
		return err
	}
	return nil
}

// command returns the child with what it does.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), "RUN_TEST_CHILD=1")
	return c
}

func TestExit(t *testing.T) {
	cases := []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"fine"}, 0, ""},
		{[]string{"wrong"}, 1, "child: reading key /k: no such file\n"},
		{[]string{"report"}, 1, "child: a.toml:1: x: wrong\nchild: a.toml:2: y: wrong\n"},
		{[]string{"usage", "-x"}, 2, "child: unknown flag -x\n"},
		{[]string{"help"}, 0, ""},
	}
	for _, c := range cases {
		var stderr bytes.Buffer
		cmd := command(t, c.args...)
		cmd.Stderr = &stderr
		_ = cmd.Run()
		if cmd.ProcessState.ExitCode() != c.code || stderr.String() != c.err {
			t.Errorf("%v: exit %d, %q", c.args, cmd.ProcessState.ExitCode(), stderr.String())
		}
	}
	var stderr bytes.Buffer
	cmd := command(t, "panic")
	cmd.Stderr = &stderr
	_ = cmd.Run()
	first, rest, _ := strings.Cut(stderr.String(), "\n")
	if cmd.ProcessState.ExitCode() != 1 || first != "child: panic: at the discothèque" || !strings.Contains(rest, "main_test.go") {
		t.Errorf("panic: exit %d, %s", cmd.ProcessState.ExitCode(), stderr.String())
	}
}

func TestProtected(t *testing.T) {
	out, err := command(t, "protected").Output()
	if err != nil || string(out) != "0 0 0\n" {
		t.Errorf("dumpable and core limits %q, %v", out, err)
	}
}

func TestSignals(t *testing.T) {
	type step struct {
		wait string // line of output
		sig  syscall.Signal
	}
	cases := []struct {
		name  string
		steps []step
		code  int
		err   string
	}{
		{"stop", []step{{"running", syscall.SIGTERM}}, 0, ""},
		{"stop", []step{{"running", syscall.SIGINT}}, 0, ""},
		{"canceled", []step{{"running", syscall.SIGTERM}}, 0, ""},
		{"fail", []step{{"running", syscall.SIGTERM}}, 1, "child: closing the store: disk full\n"},
		{"stubborn", []step{{"running", syscall.SIGTERM}, {"stopping", syscall.SIGTERM}}, 1, "child: terminated came again while stopping: exiting at once\n"},
		{"stubborn", []step{{"running", syscall.SIGINT}, {"stopping", syscall.SIGINT}}, 1, "child: interrupt came again while stopping: exiting at once\n"},
		{"hup", []step{{"running", syscall.SIGHUP}, {"reloading", syscall.SIGTERM}, {"stopping", syscall.SIGHUP}}, 0, ""},
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.name, c.steps), func(t *testing.T) {
			cmd := command(t, c.name)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			for _, s := range c.steps {
				if !lines.Scan() || lines.Text() != s.wait {
					t.Fatalf("%q in place of %q; %s", lines.Text(), s.wait, stderr.String())
				}
				if err := cmd.Process.Signal(s.sig); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			_ = cmd.Wait()
			if cmd.ProcessState.ExitCode() != c.code || stderr.String() != c.err {
				t.Errorf("exit %d, %q", cmd.ProcessState.ExitCode(), stderr.String())
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("ended after %v", took)
			}
		})
	}
}

// Who closes a terminal or reloads what cannot reload does not end the process, and neither
// does a reader of its output that goes away: the write is told.
func TestOutlives(t *testing.T) {
	cmd := command(t, "pipe")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if lines := bufio.NewScanner(stdout); !lines.Scan() {
		t.Fatal(lines.Err(), stderr.String())
	}
	if err := errors.Join(stdout.Close(), cmd.Process.Signal(syscall.SIGHUP)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // for SIGHUP to do its worst
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || stderr.String() != "child: write /dev/stdout: broken pipe\n" {
		t.Errorf("%v, %q", cmd.ProcessState, stderr.String())
	}
}

// A command that does not stop is left behind after its time.
func TestStopTime(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM
		var out strings.Builder
		start := time.Now()
		code := run.Supervise("x", &out, cancel, make(chan error), signals)
		if took := time.Since(start); code != 1 || took != run.StopTime {
			t.Errorf("exit %d after %v", code, took)
		}
		if ctx.Err() == nil || !strings.HasPrefix(out.String(), "x: not stopped 15s after the signal") {
			t.Errorf("context %v, said %q", ctx.Err(), out.String())
		}
	})
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := run.Notify(run.Ready); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	dir := t.TempDir()
	names := map[string]string{"path": filepath.Join(dir, "notify"), "abstract": "@" + filepath.Join(dir, "notify")}
	for name, env := range names {
		t.Run(name, func(t *testing.T) {
			address := strings.Replace(env, "@", "\x00", 1)
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			t.Setenv("NOTIFY_SOCKET", env)
			for state, want := range map[run.State]string{
				run.Ready: "READY=1", run.Stopping: "STOPPING=1", run.Reloading: "RELOADING=1\nMONOTONIC_USEC=",
			} {
				if err := run.Notify(state); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				n, err := conn.Read(buf)
				got := string(buf[:n])
				if err != nil || !strings.HasPrefix(got, want) {
					t.Errorf("%q, %v", got, err)
				}
				if stamp := strings.TrimPrefix(got, want); strings.Trim(stamp, "0123456789") != "" || (stamp == "") == (state == run.Reloading) {
					t.Errorf("%q behind the state", stamp)
				}
			}
		})
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "nobody"))
	if err := run.Notify(run.Ready); err == nil {
		t.Error("nobody listens, and there is no error")
	}
}

// Main itself says that the process is stopping.
func TestMainNotifiesStopping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	cmd := command(t, "stop")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	bufio.NewScanner(stdout).Scan()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "STOPPING=1" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestGroup(t *testing.T) {
	until := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	broken := errors.New("broken")
	err := run.Group(t.Context(), run.Part{Name: "waits", Run: until},
		run.Part{Name: "done", Run: func(context.Context) error { return nil }},
		run.Part{Name: "fails", Run: func(context.Context) error { return broken }})
	if !errors.Is(err, broken) || err.Error() != "fails: broken" {
		t.Errorf("first failure: %v", err)
	}
	err = run.Group(t.Context(), run.Part{Name: "waits", Run: until},
		run.Part{Name: "panics", Run: func(context.Context) error { panic("oh") }})
	if err == nil || err.Error() != "panics: panic: oh" {
		t.Errorf("panic: %v", err)
	}
	// A part that is done does not stop the others.
	ctx, cancel := context.WithCancel(t.Context())
	ended := false
	err = run.Group(ctx, run.Part{Name: "done", Run: func(context.Context) error { return nil }},
		run.Part{Name: "waits", Run: func(inner context.Context) error {
			select {
			case <-inner.Done():
				ended = true
			case <-time.After(50 * time.Millisecond):
			}
			cancel()
			return until(inner)
		}})
	if err != nil || ended {
		t.Errorf("asked to stop: %v, stopped too early: %v", err, ended)
	}
	// Cancelled without having been asked to is a failure.
	err = run.Group(t.Context(), run.Part{Name: "odd", Run: func(context.Context) error { return context.Canceled }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("odd: %v", err)
	}
}

// A last part works until the others have returned, whatever made them, and fails like them.
func TestGroupLast(t *testing.T) {
	broken := errors.New("broken")
	for name, fail := range map[string]error{"stopped": nil, "failed": broken} {
		ctx, cancel := context.WithCancel(t.Context())
		early := false
		var order []string
		err := run.Group(ctx,
			run.Part{Name: "audit", Last: true, Run: func(ctx context.Context) error {
				<-ctx.Done()
				order = append(order, "last")
				return nil
			}},
			run.Part{Name: "slow", Run: func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(20 * time.Millisecond)
				early = len(order) > 0
				return ctx.Err()
			}},
			run.Part{Name: "first", Run: func(context.Context) error { cancel(); return fail }})
		if !errors.Is(err, fail) || early || len(order) != 1 {
			t.Errorf("%s: %v, ended early: %v, %v", name, err, early, order)
		}
	}
	err := run.Group(t.Context(),
		run.Part{Name: "audit", Last: true, Run: func(context.Context) error { return broken }},
		run.Part{Name: "waits", Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	if err == nil || err.Error() != "audit: broken" {
		t.Errorf("a last part failed: %v", err)
	}
}
