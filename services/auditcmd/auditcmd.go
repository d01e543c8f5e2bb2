// Package auditcmd holds the sub-commands with which an operator looks at an audit chain.
//
// signer and validator add them to their own. "audit verify", "audit export" and "audit key"
// read the database beside the process that uses it, and write nothing; "audit accept" and
// "clock reset" take the place of that process.
package auditcmd

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/run"
)

// Place is where a service has its audit chain.
type Place struct {
	// DB is its database.
	DB audit.Database
	// Chain is the chain, by its key.
	Chain *audit.Chain
	// File is the service's checkpoint file.
	File string
	// Close closes the database.
	Close func() error
}

// Opener opens the place that the configuration file at path names, for reading alone or,
// while no other process does, for writing.
type Opener func(ctx context.Context, path string, write bool) (Place, error)

const (
	verifyUsage = "--config FILE [--checkpoint FILE]... [--stream FILE]..."
	exportUsage = "--config FILE [--after NUMBER]"
	keyUsage    = "--config FILE"
	acceptUsage = "--config FILE --reason TEXT"
	resetUsage  = "--config FILE --reason TEXT"
)

// Commands returns the sub-commands of a service whose chain open opens.
func Commands(open Opener) []command.Command {
	var commands []command.Command
	for _, c := range []struct {
		words, usage string
		run          func(context.Context, call) error
	}{
		{"audit verify", verifyUsage, verify},
		{"audit export", exportUsage, export},
		{"audit key", keyUsage, public},
		{"audit accept", acceptUsage, accept},
		{"clock reset", resetUsage, reset},
	} {
		commands = append(commands, command.Command{
			Words: c.words, Usage: c.usage,
			Run: func(ctx context.Context, args []string, out io.Writer) error {
				return c.run(ctx, call{open: open, usage: c.words + " " + c.usage, args: args, out: out})
			},
		})
	}
	return commands
}

// call is one call of a sub-command.
type call struct {
	open  Opener
	usage string
	args  []string
	out   io.Writer
}

// place parses the arguments, and opens what --config names.
func (c call) place(ctx context.Context, flags *flag.FlagSet, write bool) (Place, error) {
	path := flags.String("config", "", "")
	if err := flags.Parse(c.args); err != nil || *path == "" || flags.NArg() > 0 {
		return Place{}, run.Usagef("usage: %s", c.usage)
	}
	return c.open(ctx, *path, write)
}

// verify goes along the whole chain. What is wrong is printed, the first record first, and
// makes an error.
func verify(ctx context.Context, in call) (err error) {
	flags := command.Flags()
	var checkpoints, streams []string
	flags.Func("checkpoint", "", func(name string) error { checkpoints = append(checkpoints, name); return nil })
	flags.Func("stream", "", func(name string) error { streams = append(streams, name); return nil })
	p, err := in.place(ctx, flags, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	c := audit.VerifyConfig{DB: p.DB, Chain: p.Chain}
	if c.Known, err = known(p, checkpoints); err != nil {
		return err
	}
	c.Lines = lines(streams)
	start := time.Now()
	report, err := audit.Verify(ctx, c)
	if err != nil {
		return err
	}
	return show(in.out, report, time.Since(start))
}

// known reads the service's own checkpoint file, if there is one yet, and those that the
// operator has: they must be there.
func known(p Place, files []string) ([]audit.Checkpoint, error) {
	var all []audit.Checkpoint
	for i, name := range append([]string{p.File}, files...) {
		c, exists, err := audit.ReadCheckpoint(name, p.Chain.Public())
		switch {
		case err != nil:
			return nil, err
		case exists:
			all = append(all, c)
		case i > 0:
			return nil, fmt.Errorf("reading a checkpoint: there is no file %s", name)
		}
	}
	return all, nil
}

// lines returns the lines of exported streams, one file after the other.
func lines(files []string) func(yield func(audit.Line, error) bool) {
	return func(yield func(audit.Line, error) bool) {
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				yield(audit.Line{}, fmt.Errorf("opening an exported stream: %w", err))
				return
			}
			goOn := true
			for l, err := range audit.ReadLines(f) {
				if err != nil {
					err = fmt.Errorf("%s: %w", name, err)
				}
				if goOn = yield(l, err); !goOn {
					break
				}
			}
			_ = f.Close() // it was only read
			if !goOn {
				return
			}
		}
	}
}

// name prints what is wrong.
func name(out io.Writer, r audit.Report) error {
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(out, p.What); err != nil {
			return err
		}
	}
	return nil
}

func show(out io.Writer, r audit.Report, took time.Duration) error {
	if err := name(out, r); err != nil {
		return err
	}
	if r.Found > 0 {
		return fmt.Errorf("the audit chain was tampered with: problems found: %d, records: %d", r.Found, r.Records)
	}
	newest := "none yet"
	if r.Records > 0 {
		newest = "the newest of " + r.Last.UTC().Format(time.RFC3339)
	}
	_, err := fmt.Fprintf(out, "records: %d, %s; checkpoints: %d; nothing was altered (%v)\n",
		r.Records, newest, r.Checkpoints, took.Round(time.Millisecond))
	return err
}

// export writes the records behind a number as the lines of the stream.
func export(ctx context.Context, in call) (err error) {
	flags := command.Flags()
	after := flags.Int64("after", 0, "")
	p, err := in.place(ctx, flags, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return audit.Export(ctx, p.DB, *after, in.out)
}

// public prints the key under which checkpoints verify.
func public(ctx context.Context, in call) (err error) {
	p, err := in.place(ctx, command.Flags(), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	_, err = fmt.Fprintln(in.out, base64.StdEncoding.EncodeToString(p.Chain.Public()))
	return err
}
