// Package run holds the frame of a process: signals, exit codes, the logger, the operations
// listener and what systemd is told.
//
// The commands of every service call Main with their whole work, and in it Group with the
// parts that run side by side. Package mesh and the services know nothing of it.
package run

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The exit codes of a command.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// stopTime is how long a command may take to end after a signal; the mesh gives calls 10 s
// of it.
const stopTime = 15 * time.Second

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// Usagef returns an error for a mistake on the command line: Main exits with code 2.
func Usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// Main runs cmd with the command line behind the program's name, and exits: with 0 when it
// returned nil, or stopped because of SIGINT or SIGTERM; with 2 for an error of Usagef; else
// with 1. The error is printed on standard error, "NAME: ERROR", one line unless it is a
// report of many.
//
// The first SIGINT or SIGTERM ends ctx, and cmd has 15 s to return; a second signal, or the
// end of that time, exits with 1 at once. SIGHUP does nothing unless cmd calls Hup, and a
// write to a pipe that nobody reads is an error, on standard output too. No other user can
// read this process's memory, and no core is written.
func Main(name string, cmd func(ctx context.Context, args []string) error) {
	if err := harden(); err != nil {
		os.Exit(finish(name, os.Stderr, fmt.Errorf("protecting the process's memory: %w", err)))
	}
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- guarded(func() error { return cmd(ctx, os.Args[1:]) }) }() // ends with the process
	os.Exit(supervise(name, os.Stderr, cancel, done, signals))
}

// supervise waits for the command and for signals, and returns the exit code.
func supervise(name string, out io.Writer, cancel context.CancelFunc, done <-chan error, signals <-chan os.Signal) int {
	defer cancel()
	select {
	case err := <-done:
		return finish(name, out, err)
	case <-signals:
	}
	notifyErr := Notify(Stopping)
	cancel()
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case err := <-done:
		if errors.Is(err, context.Canceled) {
			err = nil // this is what was asked for
		}
		return finish(name, out, errors.Join(err, notifyErr))
	case s := <-signals:
		return finish(name, out, fmt.Errorf("%s came again while stopping: exiting at once", s))
	case <-timer.C:
		return finish(name, out, fmt.Errorf("not stopped %v after the signal: exiting", stopTime))
	}
}

// finish prints err and returns its exit code.
func finish(name string, out io.Writer, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(out, "%s: %s\n", name, strings.TrimSuffix(line, "\n"))
	}
	var p *panicError
	if errors.As(err, &p) {
		_, _ = out.Write(p.stack)
	}
	var u *usageError
	if errors.As(err, &u) {
		return exitUsage
	}
	return exitError
}

// harden keeps keys and passwords in memory from other processes of the same user
// (ptrace, /proc/PID/mem) and out of core files.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("setting PR_SET_DUMPABLE: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setting RLIMIT_CORE: %w", err)
	}
	return nil
}

// Hup returns a channel that receives when a SIGHUP asks for a reload; several that come
// close together count as one. It is never closed; signals are let go when ctx ends, and do
// nothing then.
func Hup(ctx context.Context) <-chan struct{} {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	reload := make(chan struct{}, 1)
	go func() { // ends with ctx
		defer signal.Stop(signals) // and SIGHUP is ignored again, as Main has set it
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				select {
				case reload <- struct{}{}:
				default: // one is waiting already
				}
			}
		}
	}()
	return reload
}
