package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/auditcmd"
	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/config"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/meshca"
)

const (
	initUsage  = "--certificate FILE --key FILE [--subject DN] [--key-type TYPE] [--passphrase FILE] [--validity 3650d] [--path-length N] [--request FILE]"
	nextUsage  = "--config FILE --certificate FILE --key FILE --announce FILE [--key-type TYPE] [--passphrase FILE] [--validity 3650d]"
	setupUsage = "--config FILE [--subject DN]"
	fileUsage  = "--certificate FILE --key FILE [--passphrase FILE] [--chain FILE] CERTIFICATES.pem"
)

func commands() []command.Command {
	return append([]command.Command{
		{Words: "ca init", Usage: initUsage, Run: caInit},
		{Words: "ca import", Usage: fileUsage, Run: caImport},
		{Words: "ca next", Usage: nextUsage, Run: caNext},
		{Words: "setup", Usage: setupUsage, Run: setup},
		{Words: "mesh setup", Usage: "FOLDER NAME...", Run: meshSetup},
		{Words: "mesh init", Usage: "FOLDER NAME...", Run: meshInit},
		{Words: "mesh issue", Usage: "FOLDER NAME", Run: meshIssue},
		{Words: "key new", Usage: "FILE", Run: keyNew},
		{Words: "ledger verify", Usage: ledgerUsage, Run: ledgerVerify},
	}, auditcmd.Commands(openAudit)...)
}

// caInit makes the CA key and its self-signed certificate or, with --request, a PKCS#10
// request for another authority, whose answer "ca import" takes.
func caInit(ctx context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	o := ca.Options{Now: time.Now(), Files: ca.Config{Name: "ca"}}
	validity := common.Duration(0)
	flags.StringVar((*string)(&o.Files.Certificate), "certificate", "", "")
	flags.StringVar((*string)(&o.Files.Key), "key", "", "")
	flags.StringVar((*string)(&o.Files.Passphrase), "passphrase", "", "")
	flags.StringVar((*string)(&o.KeyType), "key-type", string(key.P384), "")
	flags.StringVar(&o.Subject, "subject", "CN=Estuary CA", "")
	flags.Func("validity", "", func(text string) error { return validity.UnmarshalText([]byte(text)) })
	flags.IntVar(&o.PathLen, "path-length", 0, "")
	request := flags.String("request", "", "")
	if err := flags.Parse(args); err != nil {
		return run.Usagef("%s\nusage: signer ca init %s\nkey types: %v", err, initUsage, key.Types())
	}
	if flags.NArg() > 0 || o.Files.Key == "" || (o.Files.Certificate == "") == (*request == "") {
		return run.Usagef("name the key, and either the certificate or the request to make\nusage: signer ca init %s", initUsage)
	}
	o.Validity = time.Duration(validity)
	if *request != "" {
		if err := ca.Request(ctx, o, *request); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "made the key %s and the request %s\nwhen it has been certified: signer ca import %s\n", o.Files.Key, *request, fileUsage)
		return err
	}
	certificate, err := ca.Init(ctx, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "made the root %s (%s), valid until %s\n", certificate.Subject, o.Files.Certificate, certificate.NotAfter.Format(time.RFC3339))
	return err
}

// caImport takes the certificate that another authority made from a request of caInit.
func caImport(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	files := ca.Config{Name: "ca"}
	flags.StringVar((*string)(&files.Certificate), "certificate", "", "")
	flags.StringVar((*string)(&files.Key), "key", "", "")
	flags.StringVar((*string)(&files.Passphrase), "passphrase", "", "")
	flags.StringVar((*string)(&files.Chain), "chain", "", "")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || files.Key == "" || files.Certificate == "" {
		return run.Usagef("usage: signer ca import %s", fileUsage)
	}
	a, err := ca.Import(files, flags.Arg(0), time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "imported %s, valid until %s\n", a.Certificate.Subject, a.Certificate.NotAfter.Format(time.RFC3339))
	return err
}

// caNext makes the next key of a root, and what /cacerts has to hand out until all have it.
func caNext(ctx context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	o := ca.NextOptions{Now: time.Now()}
	path := flags.String("config", "", "")
	validity := common.Duration(0)
	flags.StringVar((*string)(&o.Next.Certificate), "certificate", "", "")
	flags.StringVar((*string)(&o.Next.Key), "key", "", "")
	flags.StringVar((*string)(&o.Next.Passphrase), "passphrase", "", "")
	flags.StringVar(&o.Announce, "announce", "", "")
	flags.StringVar((*string)(&o.KeyType), "key-type", string(key.P384), "")
	flags.Func("validity", "", func(text string) error { return validity.UnmarshalText([]byte(text)) })
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *path == "" || o.Next.Key == "" || o.Next.Certificate == "" || o.Announce == "" {
		return run.Usagef("usage: signer ca next %s\nkey types: %v", nextUsage, key.Types())
	}
	c := config.Default()
	if err := common.Load(*path, c); err != nil {
		return err
	}
	o.Current, o.Validity = c.CA, time.Duration(validity)
	next, err := ca.Next(ctx, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `made the next root %s (%s), valid until %s
1. now: [ca] announce = %q, and the next root into trust_anchors of the validators
2. when all clients have fetched /cacerts: the present key becomes a [[former_ca]], the next one [ca] certificate and key, under another published_as
3. when the last certificate of the former key has ended: without that table, and without announce
`, next.Subject, o.Next.Certificate, next.NotAfter.Format(time.RFC3339), o.Announce)
	return err
}

func meshInit(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 || strings.HasPrefix(args[0], "-") {
		return run.Usagef("usage: signer mesh init FOLDER NAME...")
	}
	if err := meshca.Init(ctx, meshca.Options{Dir: args[0], Now: time.Now()}, args[1:]); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "made the mesh authority and certificates for %s in %s\n", strings.Join(args[1:], ", "), args[0])
	return err
}

func meshIssue(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 || strings.HasPrefix(args[0], "-") {
		return run.Usagef("usage: signer mesh issue FOLDER NAME")
	}
	if err := meshca.Issue(ctx, meshca.Options{Dir: args[0], Now: time.Now()}, args[1]); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "made a certificate for %s in %s\n", args[1], args[0])
	return err
}

// keyNew makes the key of [ledger] mac_key.
func keyNew(_ context.Context, args []string, out io.Writer) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return run.Usagef("usage: signer key new FILE")
	}
	octets := make([]byte, ledger.MACKeySize)
	if _, err := rand.Read(octets); err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	if err := secret.WriteNew(args[0], []byte(hex.EncodeToString(octets)+"\n")); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "made the key %s\n", args[0])
	return err
}
