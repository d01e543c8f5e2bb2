package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/validator/internal/keyfile"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

func commands() []command.Command {
	return []command.Command{{Words: "key init", Usage: "--dir FOLDER", Run: keyInit}}
}

// keyInit makes the validator's keys in a folder: assertion.key with its public half in
// assertion.pub, mac.key and index.key. It overwrites nothing.
func keyInit(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	dir := flags.String("dir", "", "")
	if err := flags.Parse(args); err != nil || *dir == "" || flags.NArg() > 0 {
		return run.Usagef("usage: validator key init --dir FOLDER")
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return fmt.Errorf("making the folder: %w", err)
	}
	made, err := keyfile.NewAssertion(filepath.Join(*dir, "assertion.key"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*dir, "assertion.pub"), []byte(made.PublicKey+"\n"), 0o644); err != nil { //nolint:gosec // a public key is for everybody to read
		return fmt.Errorf("writing the public key: %w", err)
	}
	if err := keyfile.NewHex(filepath.Join(*dir, "mac.key"), state.MACKeySize); err != nil {
		return err
	}
	if err := keyfile.NewHex(filepath.Join(*dir, "index.key"), token.KeySize); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "made assertion.key (proposed key_id %s), assertion.pub, mac.key and index.key in %s\n", made.ID, *dir)
	return err
}
