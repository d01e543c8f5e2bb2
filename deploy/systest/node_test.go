package systest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// given holds the addresses that a node of this test run has.
var given sync.Map

// node is one process of a cluster. One goroutine at a time may start, kill or stop it.
type node struct {
	service, name string // "signer", "signer-1"
	binary        string
	config, log   string
	address, ops  string
	env           []string
	// wrap is a command that runs the one behind it, in the same process.
	wrap []string

	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	err   error         // how; may be read once ended is closed
}

func newNode(t *testing.T, s *stack, folder, service string, replica int) *node {
	t.Helper()
	n := &node{
		service: service, name: fmt.Sprintf("%s-%d", service, replica), binary: filepath.Join(folder, service),
		address: listenAddress(t), ops: listenAddress(t), env: s.env,
	}
	n.config, n.log = filepath.Join(s.state, n.name+".toml"), s.log(n.name)
	return n
}

// start starts the process with these additions to its environment; it may take a moment
// until it is ready.
func (n *node) start(t *testing.T, env ...string) {
	t.Helper()
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{}, n.wrap...), n.binary, "--config", n.config)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append([]string{}, n.env...), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that panics leaves nothing behind
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		t.Fatal(err)
	}
	n.cmd, n.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) { // ends with the process
		n.err = cmd.Wait()
		close(ended)
	}(n.ended)
}

// awaitReady waits until the process says that it can do its work.
func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	last := ""
	within(t, 20*time.Second, func() string { return n.name + " is not ready: " + last + "\n" + n.said() }, func() bool {
		select {
		case <-n.ended:
			t.Fatalf("%s has ended: %v\n%s", n.name, n.err, n.said())
		default:
		}
		var ok bool
		ok, last = n.ready()
		return ok
	})
}

// ready asks /readyz.
func (n *node) ready() (ok bool, answer string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.ops+"/readyz", nil)
	if err != nil {
		return false, err.Error()
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK, string(text)
}

func (n *node) said() string {
	text, _ := os.ReadFile(n.log)
	return tail(text)
}

// warned returns the last lines of the log that are more than information, cut to a width.
func (n *node) warned() string {
	text, _ := os.ReadFile(n.log)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"level":"INFO"`) || strings.HasPrefix(line, `{"seq":`) || strings.HasPrefix(line, `{"audit":`) || strings.HasPrefix(line, `{"checkpoint":`) {
			continue
		}
		line = strings.TrimSuffix(line, "\n")
		lines = append(lines, line[:min(len(line), 400)])
	}
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// signal sends a signal to the process, which has to be there.
func (n *node) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
}

// kill ends the process at once and waits for it.
func (n *node) kill(t *testing.T) {
	t.Helper()
	n.signal(t, syscall.SIGKILL)
	n.awaitEnd(t)
}

// awaitEnd waits until the process has been ended by SIGKILL.
func (n *node) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case <-n.ended:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not end", n.name)
	}
	status, ok := n.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("%s ended by itself: %v\n%s", n.name, n.err, n.said())
	}
	n.cmd = nil
}

// awaitStop waits until the process has been stopped by SIGSTOP.
func (n *node) awaitStop(t *testing.T) {
	t.Helper()
	within(t, 20*time.Second, func() string { return n.name + " does not stop" }, func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		var name, state string // no service has a space in its name
		_, err = fmt.Sscan(string(text), &pid, &name, &state)
		return err == nil && state == "T"
	})
}

// stop ends the process in order, when it runs.
func (n *node) stop() error {
	if n.cmd == nil {
		return nil
	}
	cmd := n.cmd
	n.cmd = nil
	_ = cmd.Process.Signal(syscall.SIGCONT) // it may have been stopped
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-n.ended
		return fmt.Errorf("%s has ended before: %w\n%s", n.name, n.err, n.said())
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if <-n.ended; n.err != nil {
		return fmt.Errorf("%s ended with %w\n%s", n.name, n.err, n.said())
	}
	return nil
}

// within polls until done is true, and fails the test with what otherwise says where that
// takes longer than limit.
func within(t *testing.T, limit time.Duration, otherwise func() string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", limit, otherwise())
		}
	}
}
