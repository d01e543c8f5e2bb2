package main

import (
	"context"
	"fmt"
	"io"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
)

func commands() []command.Command {
	return []command.Command{{Words: "token new", Usage: "--out FILE", Run: tokenNew}}
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
