// Command validator checks the credentials of EST clients and says who they are, in
// assertions that the signer believes.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/clock"
	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/validator/internal/attest"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/serve"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

func main() {
	command.Main(command.Service[config.Config]{
		Name:     "validator",
		Default:  config.Default,
		Ops:      func(c *config.Config) string { return c.Ops.Listen },
		Serve:    start,
		Commands: commands(),
	})
}

// parts is what the layers of the process need of each other.
type parts struct {
	state   *state.Store
	hasher  *token.Hasher // nil when tokens are switched off
	checker *token.Checker
	clock   *clock.Clock
	keeper  *audit.Keeper
	limits  *throttle.Throttle
	logins  *logins  // nil without a directory
	tickets *tickets // nil when tickets are switched off
	stream  *audit.Stream
	log     *slog.Logger
	set     *metrics.Set

	certificates *clientcert.Verifier
}

// start opens everything from the inside out and serves until ctx ends.
func start(ctx context.Context, c *config.Config, _ func() (*config.Config, error)) error {
	p := parts{log: run.NewLogger(c.Log, os.Stderr), set: metrics.NewSet(), stream: audit.NewStream(os.Stdout)}
	p.stream.Measure(p.set)
	slog.SetDefault(p.log)
	macKey, err := secret.ReadKey(string(c.State.MACKey), state.MACKeySize)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: string(c.State.URL), Holder: "validator", Log: p.log})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := p.openState(ctx, c, db, macKey); err != nil {
		return err
	}
	if c.OTP.Enabled {
		if err := p.openTokens(c.OTP); err != nil {
			return err
		}
	}
	if p.limits, err = throttle.New(c.Limits(p.state)); err != nil {
		return err
	}
	if c.Directory.Used() {
		if p.logins, err = p.openLogins(ctx, c); err != nil {
			return err
		}
	}
	if c.GSSAPI.Enabled {
		if p.tickets, err = p.openTickets(c.GSSAPI); err != nil {
			return err
		}
	}
	anchors := c.Verifier()
	anchors.Log, anchors.Metrics = p.log, p.set
	if p.certificates, err = clientcert.New(anchors); err != nil {
		return err
	}
	return listen(ctx, c, p)
}

// openState makes the record, its clock and the keeper of its audit.
func (p *parts) openState(ctx context.Context, c *config.Config, db *store.DB, macKey secret.Bytes) (err error) {
	if p.state, err = state.New(ctx, state.Config{DB: db, MACKey: macKey, Stream: p.stream, Log: p.log}); err != nil {
		return err
	}
	p.clock, err = clock.New(ctx, clock.Config{
		Mark: func(ctx context.Context) (time.Time, error) { return p.state.Chain().NewestTime(ctx, db) },
		Log:  p.log, Metrics: p.set,
	})
	if err != nil {
		return err
	}
	p.keeper, err = audit.NewKeeper(ctx, audit.KeeperConfig{
		DB: db, Chain: p.state.Chain(), Stream: p.stream, File: string(c.State.CheckpointFile), Log: p.log, Metrics: p.set,
		Now: p.clock.Now,
	})
	return err
}

// openTokens makes what finds and checks enrolment tokens.
func (p *parts) openTokens(c config.OTP) error {
	indexKey, err := secret.ReadKey(string(c.IndexKey), token.KeySize)
	if err != nil {
		return err
	}
	if p.hasher, err = token.NewHasher(indexKey, c.HashAlgorithm); err != nil {
		return err
	}
	p.checker, err = token.NewChecker(token.CheckerConfig{State: p.state, Hasher: p.hasher, Match: c.MatchUsername, Now: p.clock.Now})
	return err
}

func listen(ctx context.Context, c *config.Config, p parts) error {
	creds, err := mesh.LoadTLS(c.Mesh.Config, p.log, p.set)
	if err != nil {
		return err
	}
	refusals, err := serve.Refusals(p.state, p.log, p.clock.Now)
	if err != nil {
		return err
	}
	server, err := mesh.NewServer(mesh.ServerConfig{TLS: creds, Allow: c.Mesh.Allow, Log: p.log, Metrics: p.set, Audit: refusals})
	if err != nil {
		return err
	}
	if err := register(server, c, p, creds.Name()); err != nil {
		return err
	}
	listener, err := run.Listen(ctx, "[mesh] listen", c.Mesh.Listen)
	if err != nil {
		return err
	}
	ops := run.NewOps(c.Ops, p.set)
	ops.Check("state", true, p.state.Ping)
	ops.Check("audit chain", true, p.state.Chain().Check)
	ops.Check("audit checkpoints", false, p.keeper.Check)
	ops.Check("audit stream", false, p.stream.Check)
	ops.Check("clock", true, p.clock.Check)
	running := []run.Part{
		{Name: "mesh", Run: func(ctx context.Context) error { return server.Serve(ctx, listener) }},
		{Name: "ops", Run: ops.Run},
		{Name: "clock", Run: p.clock.Run},
		{Name: "purge", Run: func(ctx context.Context) error { return p.clock.Purge(ctx, p.state.Purge) }},
		{Name: "audit checkpoints", Run: p.keeper.Run},
		{Name: "audit stream", Run: p.stream.Run, Last: true},
	}
	if p.logins != nil {
		// Down is degraded: tokens, and accounts of what is up, go on.
		ops.Check("directory", false, p.logins.directory.Check)
		ops.Check("radius", false, p.logins.checkRADIUS)
		running = append(running, p.logins.running...)
	}
	if p.tickets != nil {
		ops.Check("keytab", false, p.tickets.keytab.Check) // the keys that were there are used
	}
	ops.Check("trust anchors", false, func(context.Context) error { return p.certificates.Check() })
	server.SetServing(true)
	if err := run.Notify(run.Ready); err != nil {
		return err
	}
	return run.Group(ctx, running...)
}

// register makes the two services of the validator and adds them to the server. The name is
// this process's own in the mesh: the issuer of its assertions.
func register(server *mesh.Server, c *config.Config, p parts, name string) error {
	key, err := assertion.LoadSigningKey(c.Assertion.KeyID, string(c.Assertion.Key))
	if err != nil {
		return err
	}
	maker, err := attest.New(attest.Config{Key: key, Issuer: name, Audience: c.Assertion.Audience, Now: p.clock.Now})
	if err != nil {
		return err
	}
	checks := authn.Config{Labels: c.LabelRules(), Realm: c.OTP.Realm, Tokens: p.checker, Certificates: p.certificates, Throttle: p.limits, Now: p.clock.Now}
	if p.logins != nil {
		checks.Login = p.logins.login
	}
	if p.tickets != nil {
		checks.Kerberos, checks.Skew, checks.State = p.tickets.acceptor, time.Duration(c.GSSAPI.ClockSkew), p.state
	}
	who, err := authn.New(checks)
	if err != nil {
		return err
	}
	authenticator, err := serve.NewAuthenticator(serve.AuthenticatorConfig{
		Authn: who, Attest: maker, State: p.state, Log: p.log, Metrics: p.set, Now: p.clock.Now,
	})
	if err != nil {
		return err
	}
	admin, err := serve.NewTokenAdmin(serve.TokenAdminConfig{
		State: p.state, Hasher: p.hasher, Octets: c.OTP.TokenLength, MaxUses: c.OTP.MaxUses,
		Validity: time.Duration(c.OTP.Validity), Realm: c.OTP.Realm, Log: p.log, Now: p.clock.Now,
	})
	if err != nil {
		return err
	}
	validatorv1.RegisterAuthenticatorServer(server, authenticator)
	validatorv1.RegisterTokenAdminServer(server, admin)
	return nil
}
