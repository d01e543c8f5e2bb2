package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/config"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/meshca"
)

// setup makes what the configuration names and is not there: the CA, as a root of its own, and
// the key of [ledger] mac_key. What is there stays as it is.
func setup(ctx context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	path := flags.String("config", "", "")
	subject := flags.String("subject", "CN=Estuary CA", "")
	if err := flags.Parse(args); err != nil || *path == "" || flags.NArg() > 0 {
		return run.Usagef("usage: signer setup %s", setupUsage)
	}
	c := config.Default()
	if err := common.Load(*path, c); err != nil {
		return err
	}
	missing, err := newfile.Missing(string(c.CA.Key), string(c.CA.Certificate))
	if err != nil {
		return err
	}
	if missing {
		certificate, err := ca.Init(ctx, ca.Options{Files: c.CA, KeyType: key.P384, Subject: *subject, Now: time.Now()})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "made the root %s, valid until %s\n", certificate.Subject, certificate.NotAfter.Format(time.RFC3339)); err != nil {
			return err
		}
	}
	if missing, err = newfile.Missing(string(c.Ledger.MACKey)); err != nil || !missing {
		return err
	}
	return keyNew(ctx, []string{string(c.Ledger.MACKey)}, out)
}

// meshSetup makes the mesh authority in a folder, where there is none, and for each name, where
// they are not there, certificate and key in a folder of its own, beside the authority's
// certificate: each can be given to one service.
func meshSetup(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 || strings.HasPrefix(args[0], "-") {
		return run.Usagef("usage: signer mesh setup FOLDER NAME...")
	}
	made, err := meshca.Setup(ctx, meshca.Options{Dir: args[0], Now: time.Now()}, args[1:])
	for _, name := range made {
		if _, err := fmt.Fprintf(out, "made mesh certificate and key for %s\n", name); err != nil {
			return err
		}
	}
	return err
}
