package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/auditcmd"
	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/keyfile"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

func commands() []command.Command {
	return append([]command.Command{
		{Words: "key init", Usage: "--dir FOLDER", Run: keyInit},
		{Words: "setup", Usage: "--config FILE --public FILE", Run: setup},
		{Words: "check", Usage: "--config FILE [--account NAME]", Run: check},
		{Words: "keytab list", Usage: "(--config FILE | KEYTAB)", Run: keytabList},
	}, auditcmd.Commands(openAudit)...)
}

// openAudit opens the audit chain of a validator.
func openAudit(ctx context.Context, path string, write bool) (auditcmd.Place, error) {
	c := config.Default()
	if err := common.Load(path, c); err != nil {
		return auditcmd.Place{}, err
	}
	macKey, err := secret.ReadKey(string(c.State.MACKey), state.MACKeySize)
	if err != nil {
		return auditcmd.Place{}, err
	}
	chain, err := audit.NewChain(macKey)
	if err != nil {
		return auditcmd.Place{}, err
	}
	db, err := store.Open(ctx, store.Config{
		URL: string(c.State.URL), Holder: "validator", ReadOnly: !write, Log: run.NewLogger(c.Log, os.Stderr),
	})
	if err != nil {
		return auditcmd.Place{}, err
	}
	return auditcmd.Place{DB: db, Chain: chain, File: string(c.State.CheckpointFile), Close: db.Close}, nil
}

// keyInit makes the validator's keys in a folder: assertion.key with its public half in
// assertion.pub, mac.key, index.key and spend.key. It makes all of them or none, and overwrites nothing.
func keyInit(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	dir := flags.String("dir", "", "")
	if err := flags.Parse(args); err != nil || *dir == "" || flags.NArg() > 0 {
		return run.Usagef("usage: validator key init --dir FOLDER")
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return fmt.Errorf("making the folder: %w", err)
	}
	made, err := makeKeys(*dir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "made assertion.key (proposed key_id %s), assertion.pub, mac.key, index.key and spend.key in %s\n", made.ID, *dir)
	return err
}

// newFile is a file to be made, by something that overwrites nothing.
type newFile struct {
	path string
	make func(path string) error
}

// makeKeys makes the five files, or none.
func makeKeys(dir string) (made keyfile.Assertion, err error) {
	err = makeAll([]newFile{
		{filepath.Join(dir, "assertion.key"), func(path string) (err error) { made, err = keyfile.NewAssertion(path); return err }},
		{filepath.Join(dir, "assertion.pub"), func(path string) error { return writePublic(path, made.PublicKey) }},
		{filepath.Join(dir, "mac.key"), func(path string) error { return keyfile.NewHex(path, state.MACKeySize) }},
		{filepath.Join(dir, "index.key"), func(path string) error { return keyfile.NewHex(path, token.KeySize) }},
		{filepath.Join(dir, "spend.key"), func(path string) error { return keyfile.NewHex(path, login.KeySize) }},
	})
	return made, err
}

// makeAll makes the files. When one of them is there already, or cannot be made, it leaves
// none of its own behind.
func makeAll(files []newFile) error {
	for _, f := range files {
		switch _, err := os.Lstat(f.path); {
		case err == nil:
			return fmt.Errorf("%s exists already: nothing was made", f.path)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("looking for %s: %w", f.path, err)
		}
	}
	for i, f := range files {
		err := f.make(f.path)
		if err == nil {
			continue
		}
		ours := files[:i]
		if !errors.Is(err, fs.ErrExist) { // else somebody else has made it since
			ours = files[:i+1]
		}
		for _, f := range ours {
			if gone := os.Remove(f.path); !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
		return err
	}
	return nil
}

// writePublic writes the public key to a new file that everybody may read.
func writePublic(path, key string) error {
	return newfile.Write(newfile.File{Path: path, Data: []byte(key + "\n"), Mode: newfile.Open})
}
