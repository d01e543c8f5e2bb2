// Package command turns the arguments of a service's binary into what it does.
//
// Every main function calls Main with its configuration and its own sub-commands; serving,
// --check-config, health, version and describe-config are the same in all of them.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/run"
)

// Service is a binary that serves under a configuration of type C.
type Service[C any] struct {
	// Name is the binary's.
	Name string
	// Default returns a configuration that holds the defaults.
	Default func() *C
	// Ops returns the address of the [ops] listener, which "health" asks.
	Ops func(c *C) string
	// Serve serves under c until ctx ends; again reads the file once more, for a reload.
	Serve func(ctx context.Context, c *C, again func() (*C, error)) error
	// Commands are the binary's own sub-commands.
	Commands []Command
}

// Command is a sub-command of one or two words.
type Command struct {
	// Words are what is typed: "ca init".
	Words string
	// Usage is what follows them.
	Usage string
	// Run does it and writes its result to out. The arguments are those behind the words; an
	// error made by run.Usagef ends the process with status 2.
	Run func(ctx context.Context, args []string, out io.Writer) error
}

// Main runs the binary and does not return.
func Main[C any](s Service[C]) {
	run.Main(s.Name, s.dispatch)
}

func (s Service[C]) dispatch(ctx context.Context, args []string) error {
	for _, c := range s.all() {
		words := strings.Fields(c.Words)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return c.Run(ctx, args[len(words):], os.Stdout)
		}
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return run.Usagef("there is no command %q\n%s", args[0], s.usage())
	}
	return s.serve(ctx, args)
}

// all returns the sub-commands of every service, and this one's own.
func (s Service[C]) all() []Command {
	return append([]Command{
		{"health", "--config FILE", s.health},
		{"version", "", version},
		{"describe-config", "", s.describe},
	}, s.Commands...)
}

func (s Service[C]) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s --config FILE [--check-config]", s.Name)
	for _, c := range s.all() {
		fmt.Fprintf(&b, "\n       %s %s %s", s.Name, c.Words, c.Usage)
	}
	return b.String()
}

func (s Service[C]) serve(ctx context.Context, args []string) error {
	flags := Flags()
	path := flags.String("config", "", "")
	check := flags.Bool("check-config", false, "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		_, err := fmt.Fprintln(os.Stdout, s.usage())
		return err
	} else if err != nil || *path == "" || flags.NArg() > 0 {
		return run.Usagef("%s", s.usage())
	}
	load := func() (*C, error) {
		c := s.Default()
		return c, config.Load(*path, c)
	}
	c, err := load()
	if err != nil {
		return err
	}
	if *check {
		_, err := fmt.Fprintf(os.Stdout, "%s: no mistake found\n", *path)
		return err
	}
	return s.Serve(ctx, c, load)
}

// health asks the running service whether it is ready; status 1 means that it is not.
func (s Service[C]) health(ctx context.Context, args []string, _ io.Writer) error {
	flags := Flags()
	path := flags.String("config", "", "")
	if err := flags.Parse(args); err != nil || *path == "" || flags.NArg() > 0 {
		return run.Usagef("usage: %s health --config FILE", s.Name)
	}
	c := s.Default()
	if err := config.Load(*path, c); err != nil {
		return err
	}
	return run.Health(ctx, s.Ops(c))
}

// describe prints the reference of the configuration file in Markdown.
func (s Service[C]) describe(_ context.Context, _ []string, out io.Writer) error {
	if _, err := fmt.Fprintf(out, "## %s.toml\n\n| key | type | default | meaning |\n|---|---|---|---|\n", s.Name); err != nil {
		return err
	}
	for _, k := range config.Describe(s.Default()) {
		value := ""
		if k.Default != "" {
			value = "`" + k.Default + "`"
		}
		if _, err := fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", k.Key, cell(k.Type), cell(value), cell(k.Doc)); err != nil {
			return err
		}
	}
	return nil
}

// cell makes text fit into a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", `\|`), "\n", " ")
}

func version(_ context.Context, _ []string, out io.Writer) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this binary carries no build information")
	}
	revision := "unknown"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	_, err := fmt.Fprintf(out, "%s %s (%s)\n", info.Main.Version, revision, info.GoVersion)
	return err
}

// Flags returns a flag set that prints nothing by itself.
func Flags() *flag.FlagSet {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}
