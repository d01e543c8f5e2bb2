package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// Part is one of the things that a process does side by side.
type Part struct {
	// Name stands before its error.
	Name string
	// Run works until ctx ends, or until it is finished.
	Run func(ctx context.Context) error
}

// Group runs the parts until all have returned, and returns the first error, with the name of
// its part. An error or a panic of one ends the context of all. A part that returns nil stops
// nothing; one that returns because ctx has ended has not failed.
func Group(ctx context.Context, parts ...Part) error {
	g, inner := errgroup.WithContext(ctx)
	for _, p := range parts {
		g.Go(func() error {
			err := guarded(func() error { return p.Run(inner) })
			if err == nil || inner.Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return fmt.Errorf("%s: %w", p.Name, err)
		})
	}
	return g.Wait()
}

// panicError is a panic as an error: the other parts get their time to stop.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// guarded returns what f returns, and its panic as an error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return f()
}
