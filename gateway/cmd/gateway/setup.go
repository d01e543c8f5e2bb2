package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/config"
	"github.com/estuary-pki/estuary/gateway/internal/selfsigned"
	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/run"
)

func commands() []command.Command {
	return []command.Command{{Words: "setup", Usage: "--config FILE HOST...", Run: setup}}
}

// setup makes a self-signed TLS certificate for the hosts where [tls] names one that is not there.
func setup(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	path := flags.String("config", "", "")
	if err := flags.Parse(args); err != nil || *path == "" || flags.NArg() == 0 {
		return run.Usagef("usage: gateway setup --config FILE HOST...")
	}
	c := config.DefaultGateway()
	if err := common.Load(*path, c); err != nil {
		return err
	}
	made, err := selfsigned.Make(string(c.TLS.Certificate), string(c.TLS.Key), flags.Args(), time.Now())
	if err != nil || !made {
		return err
	}
	_, err = fmt.Fprintf(out, "made the certificate %s for %v\n", c.TLS.Certificate, flags.Args())
	return err
}
