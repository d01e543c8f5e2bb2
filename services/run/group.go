package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Part is one of the things that a process does side by side.
type Part struct {
	// Name stands before its error.
	Name string
	// Run works until ctx ends, or until it is finished.
	Run func(ctx context.Context) error
	// Last gives it the time of the others: its context ends when all of them have returned.
	Last bool
}

// Group runs the parts until all have returned, and returns the first error, with the name of
// its part. An error or a panic of one ends the context of all. A part that returns nil stops
// nothing; one that returns because ctx has ended has not failed.
func Group(ctx context.Context, parts ...Part) error {
	g, inner := errgroup.WithContext(ctx)
	last, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var others sync.WaitGroup
	for _, p := range parts {
		if p.Last {
			g.Go(func() error { return p.run(last) })
			continue
		}
		others.Add(1)
		g.Go(func() error {
			defer others.Done()
			return p.run(inner)
		})
	}
	g.Go(func() error {
		others.Wait()
		end()
		return nil
	})
	return g.Wait()
}

// run returns the error of the part under its name, unless it is that ctx has ended.
func (p Part) run(ctx context.Context) error {
	err := guarded(func() error { return p.Run(ctx) })
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", p.Name, err)
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
