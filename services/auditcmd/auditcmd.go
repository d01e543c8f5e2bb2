// Package auditcmd holds the sub-commands with which an operator looks at an audit chain.
//
// signer and validator add them to their own: "audit verify", "audit export", "audit key".
// They read the database beside the process that uses it, and write nothing.
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
	// DB is its database, open for reading.
	DB audit.Database
	// Chain is the chain, by its key.
	Chain *audit.Chain
	// File is the service's checkpoint file.
	File string
	// Close closes the database.
	Close func() error
}

// Opener opens the place that the configuration file at path names.
type Opener func(ctx context.Context, path string) (Place, error)

const verifyUsage = "--config FILE [--checkpoint FILE]... [--stream FILE]..."

// Commands returns the sub-commands of a service whose chain open opens.
func Commands(open Opener) []command.Command {
	return []command.Command{
		{Words: "audit verify", Usage: verifyUsage, Run: func(ctx context.Context, args []string, out io.Writer) error {
			return verify(ctx, open, args, out)
		}},
		{Words: "audit export", Usage: "--config FILE [--after NUMBER]", Run: func(ctx context.Context, args []string, out io.Writer) error {
			return export(ctx, open, args, out)
		}},
		{Words: "audit key", Usage: "--config FILE", Run: func(ctx context.Context, args []string, out io.Writer) error {
			return public(ctx, open, args, out)
		}},
	}
}

// place parses args, and opens what --config names.
func place(ctx context.Context, open Opener, flags *flag.FlagSet, args []string, usage string) (Place, error) {
	path := flags.String("config", "", "")
	if err := flags.Parse(args); err != nil || *path == "" || flags.NArg() > 0 {
		return Place{}, run.Usagef("usage: %s", usage)
	}
	return open(ctx, *path)
}

// verify goes along the whole chain. What is wrong is printed, the first record first, and
// makes an error.
func verify(ctx context.Context, open Opener, args []string, out io.Writer) (err error) {
	flags := command.Flags()
	var checkpoints, streams []string
	flags.Func("checkpoint", "", func(name string) error { checkpoints = append(checkpoints, name); return nil })
	flags.Func("stream", "", func(name string) error { streams = append(streams, name); return nil })
	p, err := place(ctx, open, flags, args, "audit verify "+verifyUsage)
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
	return show(out, report, time.Since(start))
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

func show(out io.Writer, r audit.Report, took time.Duration) error {
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(out, p.What); err != nil {
			return err
		}
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
func export(ctx context.Context, open Opener, args []string, out io.Writer) (err error) {
	flags := command.Flags()
	after := flags.Int64("after", 0, "")
	p, err := place(ctx, open, flags, args, "audit export --config FILE [--after NUMBER]")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return audit.Export(ctx, p.DB, *after, out)
}

// public prints the key under which checkpoints verify.
func public(ctx context.Context, open Opener, args []string, out io.Writer) (err error) {
	p, err := place(ctx, open, command.Flags(), args, "audit key --config FILE")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	_, err = fmt.Fprintln(out, base64.StdEncoding.EncodeToString(p.Chain.Public()))
	return err
}
