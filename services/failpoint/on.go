//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Here does what the environment wants to happen at p. After kill it does not return, after
// stop not before SIGCONT.
func Here(p Point) {
	for _, r := range rules() {
		if r.point == p && r.passed.Add(1) == r.at {
			r.act()
		}
	}
}

// Note appends a line with p and text to the file that ESTUARY_FAILPOINT_LOG names, with one
// write, and returns when the kernel has it: the process may die right after. text is one
// line. A file that cannot be written ends the process, or a test would trust what is missing.
func Note(p Point, text string) {
	rules() // a list that cannot be read is told at the first point of either kind
	path := os.Getenv("ESTUARY_FAILPOINT_LOG")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		end(err)
	}
	if _, err := fmt.Fprintf(f, "%s %s\n", p, text); err != nil {
		end(err)
	}
	if err := f.Close(); err != nil {
		end(err)
	}
}

// rule is one element of the list.
type rule struct {
	point  Point
	action string        // kill, stop or sleep
	pause  time.Duration // of sleep
	at     int64         // the pass at which it happens, from 1
	passed atomic.Int64
}

// rules are those of the environment, read once.
var rules = sync.OnceValue(func() []*rule {
	list, err := parse(os.Getenv("ESTUARY_FAILPOINTS"))
	if err != nil {
		end(fmt.Errorf("reading ESTUARY_FAILPOINTS: %w", err))
	}
	return list
})

// act says on standard error what it does, and does it.
func (r *rule) act() {
	fmt.Fprintf(os.Stderr, "failpoint %s: %s at pass %d\n", r.point, r.action, r.at)
	switch r.action {
	case "sleep":
		time.Sleep(r.pause)
	case "stop":
		send(syscall.SIGSTOP)
	case "kill":
		send(syscall.SIGKILL)
	}
}

// send signals the calling thread: a signal to the process may be taken by another thread
// first, and this one would run on past the point.
func send(s syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Tgkill(os.Getpid(), syscall.Gettid(), s); err != nil {
		end(fmt.Errorf("sending %s: %w", s, err))
	}
}

// end stops a process whose test would otherwise test nothing.
func end(err error) {
	fmt.Fprintln(os.Stderr, "failpoint:", err)
	os.Exit(2)
}
