package main

import (
	"context"
	"fmt"
	"io"

	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/keyfile"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// setup makes the keys that the configuration names and that are not there; the public half of
// [assertion] key goes to a file for the signer. What is there stays as it is.
func setup(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	path, public := flags.String("config", "", ""), flags.String("public", "", "")
	if err := flags.Parse(args); err != nil || *path == "" || *public == "" || flags.NArg() > 0 {
		return run.Usagef("usage: validator setup --config FILE --public FILE")
	}
	c := config.Default()
	if err := common.Load(*path, c); err != nil {
		return err
	}
	missing, err := newfile.Missing(string(c.Assertion.Key), *public)
	if err != nil {
		return err
	}
	if missing {
		var made keyfile.Assertion
		err := makeAll([]newFile{
			{string(c.Assertion.Key), func(path string) (err error) { made, err = keyfile.NewAssertion(path); return err }},
			{*public, func(path string) error { return writePublic(path, made.PublicKey) }},
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "made %s, with its public half in %s\n", c.Assertion.Key, *public); err != nil {
			return err
		}
	}
	keys := map[common.Path]int{c.State.MACKey: state.MACKeySize}
	if c.OTP.Enabled {
		keys[c.OTP.IndexKey] = token.KeySize
	}
	for _, key := range c.OneTime.SpendKeys {
		keys[key] = login.KeySize
	}
	for key, size := range keys {
		missing, err := newfile.Missing(string(key))
		if err == nil && missing {
			if err = keyfile.NewHex(string(key), size); err == nil {
				_, err = fmt.Fprintf(out, "made the key %s\n", key)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
