// Package filelock turns the name of a file into an exclusive lock that dies with its process.
//
// store takes one for a SQLite file, audit one for a checkpoint file.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// HeldError says that another process, or this one, has the lock.
type HeldError struct {
	// Path is the lock file, By what its holder wrote into it.
	Path, By string
}

func (e *HeldError) Error() string { return "in use by " + e.By + " (lock file " + e.Path + ")" }

// Take takes the exclusive lock on path for the life of the returned file, and writes holder,
// process id and time into it. The kernel gives it free when the process dies, however it
// dies; the file itself stays, because removing it would let two processes lock two files of
// one name. A lock that is held is a *HeldError.
func Take(path, holder string, now time.Time) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock file: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = &HeldError{Path: path, By: owner(path)}
	}
	if err == nil {
		err = sign(f, holder, now)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sign writes who has the lock, for the error of the next who wants it.
func sign(f *os.File, holder string, now time.Time) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("emptying the lock file: %w", err)
	}
	line := fmt.Sprintf("%s, process %d, since %s\n", holder, os.Getpid(), now.UTC().Format(time.RFC3339))
	if _, err := f.WriteAt([]byte(line), 0); err != nil {
		return fmt.Errorf("writing the lock file: %w", err)
	}
	return nil
}

// owner reads what the holder of the lock wrote. Between taking the lock and writing its
// name the holder has none.
func owner(path string) string {
	b, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(b)); err == nil && name != "" {
		return name
	}
	return "a process that has not written its name yet"
}
