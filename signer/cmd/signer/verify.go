package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/auditcmd"
	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/config"
	"github.com/estuary-pki/estuary/signer/internal/inspect"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

const ledgerUsage = "--config FILE [--retired FILE]"

// maxShown is how many problems are printed.
const maxShown = 100

// reading is the ledger of a configuration, without a signer.
type reading struct {
	config *config.Config
	db     *store.DB
	macKey secret.Bytes
}

func openReading(ctx context.Context, path string, write bool) (reading, error) {
	c := config.Default()
	if err := common.Load(path, c); err != nil {
		return reading{}, err
	}
	macKey, err := secret.ReadKey(string(c.Ledger.MACKey), ledger.MACKeySize)
	if err != nil {
		return reading{}, err
	}
	db, err := store.Open(ctx, store.Config{
		URL: string(c.Ledger.URL), Holder: "signer", ReadOnly: !write, Log: run.NewLogger(c.Log, os.Stderr),
	})
	return reading{config: c, db: db, macKey: macKey}, err
}

// openAudit opens the audit chain of a signer.
func openAudit(ctx context.Context, path string, write bool) (auditcmd.Place, error) {
	r, err := openReading(ctx, path, write)
	if err != nil {
		return auditcmd.Place{}, err
	}
	chain, err := audit.NewChain(r.macKey)
	if err != nil {
		return auditcmd.Place{}, errors.Join(err, r.db.Close())
	}
	return auditcmd.Place{DB: r.db, Chain: chain, File: string(r.config.Ledger.CheckpointFile), Close: r.db.Close}, nil
}

// ledgerVerify holds every certificate against the assertion that it was issued on.
func ledgerVerify(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := command.Flags()
	path := flags.String("config", "", "")
	retired := flags.String("retired", "", "")
	if err := flags.Parse(args); err != nil || *path == "" || flags.NArg() > 0 {
		return run.Usagef("usage: signer ledger verify %s", ledgerUsage)
	}
	r, err := openReading(ctx, *path, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	c, err := r.inspection(*retired)
	if err != nil {
		return err
	}
	start := time.Now()
	report, err := inspect.Run(ctx, c)
	if err != nil {
		return err
	}
	return showLedger(out, report, time.Since(start))
}

// inspection is what r's ledger is held against: the validators' keys of its configuration
// and those of the file retired, if there is one.
func (r reading) inspection(retired string) (inspect.Config, error) {
	authorities, keys, err := readRetired(retired)
	if err != nil {
		return inspect.Config{}, err
	}
	today, err := ca.ReadCertificate(r.config.CA)
	if err != nil {
		return inspect.Config{}, err
	}
	authorities = append(authorities, today)
	for _, f := range r.config.FormerCAs {
		former, err := ca.ReadCertificate(ca.Config{Certificate: f.Certificate})
		if err != nil {
			return inspect.Config{}, err
		}
		authorities = append(authorities, former)
	}
	believed, err := r.config.PublicKeys()
	if err != nil {
		return inspect.Config{}, err
	}
	for _, k := range believed {
		if !slices.ContainsFunc(keys, func(old assertion.PublicKey) bool { return old.ID == k.ID }) {
			keys = append(keys, k)
		}
	}
	opener, err := assertion.NewOpener(assertion.OpenerConfig{Audience: r.config.CA.Name, Keys: keys})
	if err != nil {
		return inspect.Config{}, err
	}
	reader, err := ledger.NewReader(r.db, r.macKey)
	return inspect.Config{Ledger: reader, Opener: opener, Authorities: authorities}, err
}

// readRetired reads the authorities and keys of the past from a file; none when its name is
// empty.
func readRetired(file string) (authorities []*x509.Certificate, keys []assertion.PublicKey, err error) {
	if file == "" {
		return nil, nil, nil
	}
	old := &config.Retired{}
	if err := common.Load(file, old); err != nil {
		return nil, nil, err
	}
	for _, path := range old.Authorities {
		c, err := ca.ReadCertificate(ca.Config{Certificate: path})
		if err != nil {
			return nil, nil, err
		}
		authorities = append(authorities, c)
	}
	keys, err = old.PublicKeys()
	return authorities, keys, err
}

func showLedger(out io.Writer, r inspect.Report, took time.Duration) error {
	for _, p := range r.Problems[:min(len(r.Problems), maxShown)] {
		if _, err := fmt.Fprintln(out, p.What); err != nil {
			return err
		}
	}
	if r.Found > 0 {
		return fmt.Errorf("the ledger is not whole: problems found: %d, rows: %d", r.Found, r.Issued+r.Failed+r.Open)
	}
	_, err := fmt.Fprintf(out, "certificates: %d, given up: %d, under way: %d; each stands on its validator's word (%v)\n",
		r.Issued, r.Failed, r.Open, took.Round(time.Millisecond))
	return err
}
