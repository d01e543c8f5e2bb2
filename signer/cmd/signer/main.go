// Command signer holds the CA key: it believes validators' assertions, records first, signs
// second, and shows its ledger.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/clock"
	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/config"
	"github.com/estuary-pki/estuary/signer/internal/issue"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
	"github.com/estuary-pki/estuary/signer/internal/serve"
)

func main() {
	command.Main(command.Service[config.Config]{
		Name:     "signer",
		Default:  config.Default,
		Ops:      func(c *config.Config) string { return c.Ops.Listen },
		Serve:    start,
		Commands: commands(),
	})
}

// start opens everything from the inside out and serves until ctx ends.
func start(ctx context.Context, c *config.Config, again func() (*config.Config, error)) error {
	p := parts{log: run.NewLogger(c.Log, os.Stderr), set: metrics.NewSet(), stream: audit.NewStream(os.Stdout), again: again}
	slog.SetDefault(p.log)
	p.stream.Measure(p.set)
	macKey, err := secret.ReadKey(string(c.Ledger.MACKey), ledger.MACKeySize)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: string(c.Ledger.URL), Holder: "signer", Log: p.log})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := p.openLedger(ctx, c, db, macKey); err != nil {
		return err
	}
	if err := p.openIssuer(ctx, c); err != nil {
		return err
	}
	return listen(ctx, c, p)
}

// openLedger makes the record, its clock and the keeper of its audit.
func (p *parts) openLedger(ctx context.Context, c *config.Config, db *store.DB, macKey secret.Bytes) error {
	name, err := instance(c)
	if err != nil {
		return err
	}
	p.ledger, err = ledger.New(ctx, ledger.Config{
		Store: db, MACKey: macKey, Audit: p.stream, Log: p.log, Instance: name,
		Now: func() time.Time { return p.clock.Now() }, // made below, from the ledger's own records
	})
	if err != nil {
		return err
	}
	p.clock, err = clock.New(ctx, clock.Config{
		Mark: func(ctx context.Context) (time.Time, error) { return p.ledger.Chain().NewestTime(ctx, db) },
		Log:  p.log, Metrics: p.set,
	})
	if err != nil {
		return err
	}
	p.keeper, err = audit.NewKeeper(ctx, audit.KeeperConfig{
		DB: db, Chain: p.ledger.Chain(), Stream: p.stream, File: string(c.Ledger.CheckpointFile), Log: p.log, Metrics: p.set,
		Now: p.clock.Now,
	})
	return err
}

// openIssuer makes what issues.
func (p *parts) openIssuer(ctx context.Context, c *config.Config) error {
	authority, err := ca.Load(ctx, c.CA, p.clock.Now(), p.log)
	if err != nil {
		return err
	}
	authorities, announced, err := p.authorities(ctx, c, authority)
	if err != nil {
		return err
	}
	var others []*x509.Certificate
	for _, former := range authorities[1:] {
		others = append(others, former.Certificate)
	}
	profiles, err := profile.NewSet(profile.Config{
		Profiles: c.Profiles, Protected: c.Protected, Authority: authority.Certificate, Others: append(others, announced...),
	})
	if err != nil {
		return err
	}
	for _, label := range profiles.AnyKey() {
		p.log.LogAttrs(ctx, slog.LevelWarn, "certificates are renewed for any key: whoever can use one for a moment can have a key of their own certified (rekey)",
			slog.String("label", label))
	}
	keys, err := c.PublicKeys()
	if err != nil {
		return err
	}
	p.opener, err = assertion.NewOpener(assertion.OpenerConfig{Audience: c.CA.Name, Keys: keys, Now: p.clock.Now})
	if err != nil {
		return err
	}
	p.issuer, err = issue.New(issue.Config{
		Authority: authority, Profiles: profiles, Opener: p.opener, Ledger: p.ledger, Log: p.log, Metrics: p.set, Now: p.clock.Now,
	})
	if err != nil {
		return err
	}
	p.services, err = serve.New(serve.Config{
		Issuer: p.issuer, Ledger: p.ledger, Authorities: authorities, Announced: announced, Profiles: profiles, Log: p.log, Now: p.clock.Now,
		ListLife:   time.Duration(c.CRL.NextUpdate),
		StatusLife: time.Duration(c.OCSP.NextUpdate),
	})
	return err
}

// authorities returns the current authority with the former ones that have not ended, and what
// /cacerts announces beside them.
func (p *parts) authorities(ctx context.Context, c *config.Config, current *ca.Authority) (all []serve.Authority, announced []*x509.Certificate, err error) {
	all = []serve.Authority{{Authority: current, PublishedAs: c.CA.Published(), DistributionPoints: c.CRL.DistributionPoints}}
	known := []*x509.Certificate{current.Certificate}
	for _, f := range c.FormerCAs {
		former, err := ca.LoadFormer(ctx, f, current, p.clock.Now(), p.log)
		if err != nil {
			return nil, nil, err
		}
		if former != nil {
			all = append(all, serve.Authority{Authority: former, PublishedAs: f.PublishedAs, DistributionPoints: f.DistributionPoints})
			known = append(known, former.Certificate)
		}
	}
	announced, err = ca.ReadAnnounced(c.CA, known)
	return all, announced, err
}

// instance names this signer among those of its ledger: the same at every start, and another
// one for each of those that run at once, because they listen elsewhere.
func instance(c *config.Config) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("naming this signer: %w", err)
	}
	return host + " " + c.Mesh.Listen, nil
}

// parts is what the outermost layer needs of the others.
type parts struct {
	services *serve.Server
	issuer   *issue.Issuer
	clock    *clock.Clock
	keeper   *audit.Keeper
	ledger   *ledger.Ledger
	stream   *audit.Stream
	opener   *assertion.Opener
	again    func() (*config.Config, error)
	log      *slog.Logger
	set      *metrics.Set
}

func listen(ctx context.Context, c *config.Config, p parts) error {
	creds, err := mesh.LoadTLS(c.Mesh.Config, p.log, p.set)
	if err != nil {
		return err
	}
	server, err := mesh.NewServer(mesh.ServerConfig{
		TLS: creds, Allow: c.Mesh.Allow, Log: p.log, Metrics: p.set, Audit: refusals(p.ledger, p.log),
	})
	if err != nil {
		return err
	}
	p.services.Register(server)
	listener, err := run.Listen(ctx, "[mesh] listen", c.Mesh.Listen)
	if err != nil {
		return err
	}
	// Who has the address is the only one of this name: what an earlier process left is ours.
	if err := p.issuer.Recover(ctx, true); err != nil {
		p.log.LogAttrs(ctx, slog.LevelError, "open intents could not be ended", slog.String("error", err.Error()))
	}
	ops := run.NewOps(c.Ops, p.set)
	ops.Check("ledger", true, p.services.CheckLedger)
	ops.Check("key", true, p.services.CheckKey)
	ops.Check("validators", true, p.checkUsable)
	ops.Check("validator keys", false, p.checkKeys)
	ops.Check("audit chain", true, p.ledger.Chain().Check)
	ops.Check("audit checkpoints", false, p.keeper.Check)
	ops.Check("audit stream", false, p.stream.Check)
	ops.Check("clock", true, p.clock.Check)
	server.SetServing(true)
	if err := run.Notify(run.Ready); err != nil {
		return err
	}
	return run.Group(ctx,
		run.Part{Name: "mesh", Run: func(ctx context.Context) error { return server.Serve(ctx, listener) }},
		run.Part{Name: "ops", Run: ops.Run},
		run.Part{Name: "recovery", Run: p.issuer.RunRecovery},
		run.Part{Name: "clock", Run: p.clock.Run},
		run.Part{Name: "purge", Run: func(ctx context.Context) error { return p.clock.Purge(ctx, p.ledger.Purge) }},
		run.Part{Name: "reload", Run: func(ctx context.Context) error { return reload(ctx, p) }},
		run.Part{Name: "audit checkpoints", Run: p.keeper.Run},
		run.Part{Name: "audit stream", Run: p.stream.Run, Last: true},
	)
}

// warnBefore is how long before its end a validator's key is named by readiness.
const warnBefore = 14 * 24 * time.Hour

// checkKeys names the validators' keys that end soon.
func (p parts) checkKeys(context.Context) error {
	if ids := p.opener.Ending(warnBefore); len(ids) > 0 {
		return fmt.Errorf("validators' keys end within 14 days or have ended: %s", strings.Join(ids, ", "))
	}
	return nil
}

// checkUsable tells that no validator would be believed.
func (p parts) checkUsable(context.Context) error {
	if p.opener.Usable() == 0 {
		return errors.New("every validator's key has ended: [[validator]] needs a new one")
	}
	return nil
}

// refusals records calls that the mesh refused.
func refusals(l *ledger.Ledger, log *slog.Logger) func(context.Context, mesh.Call) {
	return func(ctx context.Context, c mesh.Call) {
		err := l.RecordRefusal(ctx, audit.Record{
			Time: time.Now(), Event: "call.refused", Outcome: audit.Refused, Actor: c.Peer, Address: c.Address,
			RequestID: c.RequestID, Reason: c.Reason, Detail: map[string]string{"method": c.Method},
		})
		if err != nil {
			log.LogAttrs(ctx, slog.LevelError, "a refused call could not be recorded",
				slog.String("method", c.Method), slog.String("peer", c.Peer), slog.String("error", err.Error()))
		}
	}
}

// reload takes up the validators' keys of the configuration file at every SIGHUP: a key
// that is gone stops working then. What cannot be read changes nothing.
func reload(ctx context.Context, p parts) error {
	hup := run.Hup(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		}
		c, err := p.again()
		if err == nil {
			err = setKeys(p.opener, c)
		}
		if err != nil {
			p.log.LogAttrs(ctx, slog.LevelError, "reload refused, the old keys stay", slog.String("error", err.Error()))
			continue
		}
		p.log.LogAttrs(ctx, slog.LevelInfo, "validators' keys reloaded", slog.Int("keys", len(c.Validators)))
	}
}

func setKeys(o *assertion.Opener, c *config.Config) error {
	keys, err := c.PublicKeys()
	if err != nil {
		return err
	}
	return o.SetKeys(keys)
}
