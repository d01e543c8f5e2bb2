package systest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// services are the processes of a stack, in the order in which they start.
var services = []string{"signer", "validator", "gateway", "admin"}

// stack is one running Estuary with a development state of its own.
type stack struct {
	state string
	env   []string
	ports map[string]int
	procs map[string]*exec.Cmd
}

// newStack makes the state; nothing runs yet.
func newStack(ctx context.Context, state string) (*stack, error) {
	s := &stack{state: state, ports: map[string]int{}, procs: map[string]*exec.Cmd{}}
	s.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	for _, name := range []string{"EST_PORT", "ADMIN_PORT", "VALIDATOR_PORT", "SIGNER_PORT", "OPS_PORT"} {
		count := 1
		if name == "OPS_PORT" {
			count = len(services)
		}
		port, err := freePorts(ctx, count)
		if err != nil {
			return nil, err
		}
		s.ports[name] = port
		s.env = append(s.env, fmt.Sprintf("%s=%d", name, port))
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts/dev-state"), state)
	cmd.Env = s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making the state: %w\n%s", err, out)
	}
	// For curl's -H @file: what proves an administrator.
	token, err := os.ReadFile(filepath.Join(state, "admin/token"))
	if err != nil {
		return nil, err
	}
	header := "Authorization: Bearer " + strings.TrimSpace(string(token)) + "\n"
	return s, os.WriteFile(filepath.Join(state, "admin/header"), []byte(header), 0o600)
}

// freePorts returns the first of count consecutive ports on which nobody listens.
func freePorts(ctx context.Context, count int) (int, error) {
	var config net.ListenConfig
	for range 100 {
		first, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := first.Addr().(*net.TCPAddr).Port
		held := []net.Listener{first}
		for i := 1; i < count; i++ {
			l, err := config.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port+i))
			if err != nil {
				break
			}
			held = append(held, l)
		}
		for _, l := range held {
			_ = l.Close()
		}
		if len(held) == count {
			return port, nil
		}
	}
	return 0, fmt.Errorf("found no %d free ports in a row", count)
}

func (s *stack) config(service string) string { return filepath.Join(s.state, service+".toml") }
func (s *stack) log(service string) string    { return filepath.Join(s.state, "log", service+".log") }

func (s *stack) est() string {
	return fmt.Sprintf("https://localhost:%d/.well-known/est", s.ports["EST_PORT"])
}

func (s *stack) admin() string {
	return fmt.Sprintf("https://localhost:%d/admin", s.ports["ADMIN_PORT"])
}

// start starts the named services and waits until each says that it is ready.
func (s *stack) start(ctx context.Context, names ...string) error {
	for _, name := range names {
		log, err := os.OpenFile(s.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		cmd := exec.Command(filepath.Join(bin, name), "--config", s.config(name))
		cmd.Stdout, cmd.Stderr, cmd.Env = log, log, s.env
		if err := errors.Join(cmd.Start(), log.Close()); err != nil {
			return err
		}
		s.procs[name] = cmd
	}
	for _, name := range names {
		if err := s.ready(ctx, name); err != nil {
			text, _ := os.ReadFile(s.log(name))
			return fmt.Errorf("%s is not ready: %w\n%s", name, err, text)
		}
	}
	return nil
}

func (s *stack) ready(ctx context.Context, name string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		out, err := exec.CommandContext(ctx, filepath.Join(bin, name), "health", "--config", s.config(name)).CombinedOutput()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// stop ends the named services and reports those that did not end well by themselves.
func (s *stack) stop(names ...string) error {
	var problems []error
	for _, name := range names {
		cmd := s.procs[name]
		if cmd == nil {
			continue
		}
		delete(s.procs, name)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			problems = append(problems, fmt.Errorf("%s has ended before: %w", name, err))
		}
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			text, _ := os.ReadFile(s.log(name))
			problems = append(problems, fmt.Errorf("%s ended with %w\n%s", name, err, tail(text)))
		}
		timer.Stop()
	}
	return errors.Join(problems...)
}

func (s *stack) stopAll() error { return s.stop("gateway", "admin", "validator", "signer") }

func tail(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
