package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
	"github.com/estuary-pki/estuary/gateway/internal/config"
	"github.com/estuary-pki/estuary/gateway/internal/selfsigned"
	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
)

func commands() []command.Command {
	return []command.Command{
		{Words: "token new", Usage: "--out FILE", Run: tokenNew},
		{Words: "setup", Usage: setupUsage, Run: setup},
	}
}

const setupUsage = "--config FILE --token FILE HOST..."

// setup makes what the configuration names and is not there: a self-signed TLS certificate for the
// hosts, and a bearer token, of which the file --token gets the token and the first
// token_hash_file the hash. The token may be taken away: the hash is what the admin reads.
func setup(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	path, file := flags.String("config", "", ""), flags.String("token", "", "")
	if err := flags.Parse(args); err != nil || *path == "" || *file == "" || flags.NArg() == 0 {
		return run.Usagef("usage: admin setup %s", setupUsage)
	}
	c := config.DefaultAdmin()
	if err := common.Load(*path, c); err != nil {
		return err
	}
	i := slices.IndexFunc(c.API.BearerToken.Tokens, func(t config.AdminToken) bool { return t.HashFile != "" })
	if i < 0 {
		return run.Usagef("the configuration names no token_hash_file")
	}
	made, err := selfsigned.Make(string(c.API.TLS.Certificate), string(c.API.TLS.Key), flags.Args(), time.Now())
	if err == nil && made {
		_, err = fmt.Fprintf(out, "made the certificate %s for %v\n", c.API.TLS.Certificate, flags.Args())
	}
	if err != nil {
		return err
	}
	hashFile := string(c.API.BearerToken.Tokens[i].HashFile)
	if missing, err := newfile.Missing(hashFile); err != nil || !missing {
		return err
	}
	if _, err := newfile.Missing(*file, hashFile); err != nil {
		return err
	}
	token, hash := admin.NewBearerToken()
	err = newfile.Write(
		newfile.File{Path: *file, Data: []byte(token + "\n"), Mode: newfile.Secret},
		newfile.File{Path: hashFile, Data: []byte(hash + "\n"), Mode: newfile.Open},
	)
	if err == nil {
		_, err = fmt.Fprintf(out, "made a bearer token in %s\n", *file)
	}
	return err
}

// tokenNew makes an administrator's bearer token: the token goes to a new file that only its
// owner can read, its hash, for [admin.bearer_token], to out.
func tokenNew(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	file := flags.String("out", "", "")
	if err := flags.Parse(args); err != nil || *file == "" || flags.NArg() > 0 {
		return run.Usagef("usage: admin token new --out FILE")
	}
	token, hash := admin.NewBearerToken()
	if err := secret.WriteNew(*file, []byte(token+"\n")); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, hash)
	return err
}
