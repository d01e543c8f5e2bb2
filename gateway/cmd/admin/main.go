// Command admin serves the API of administrators: enrolment tokens at the validator, and
// the signer's ledger.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
	"github.com/estuary-pki/estuary/gateway/internal/config"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
)

func main() {
	command.Main(command.Service[config.Admin]{
		Name:     "admin",
		Default:  config.DefaultAdmin,
		Ops:      func(c *config.Admin) string { return c.Ops.Listen },
		Serve:    start,
		Commands: commands(),
	})
}

// start opens everything from the inside out and serves until ctx ends.
func start(ctx context.Context, c *config.Admin, _ func() (*config.Admin, error)) error {
	log, set := run.NewLogger(c.Log, os.Stderr), metrics.NewSet()
	slog.SetDefault(log)
	creds, err := mesh.LoadTLS(c.Mesh, log, set)
	if err != nil {
		return err
	}
	validator, err := c.Validator.Dial(creds)
	if err != nil {
		return err
	}
	defer func() { _ = validator.Close() }()
	signer, err := c.Signer.Dial(creds)
	if err != nil {
		return err
	}
	defer func() { _ = signer.Close() }()
	if err := c.API.BearerToken.ReadHashes(); err != nil {
		return err
	}
	stream := audit.NewStream(os.Stdout)
	stream.Measure(set)
	server, err := admin.New(admin.Config{
		API: c.API, Tokens: validatorv1.NewTokenAdminClient(validator), Ledger: signerv1.NewLedgerAdminClient(signer),
		ValidatorHealth: grpc_health_v1.NewHealthClient(validator), SignerHealth: grpc_health_v1.NewHealthClient(signer),
		Audit: stream, Log: log, Metrics: set, Now: time.Now,
	})
	if err != nil {
		return err
	}
	return listen(ctx, c, parts{server: server, validator: validator, signer: signer, stream: stream, log: log, set: set})
}

// parts is what the outermost layer needs of the others.
type parts struct {
	server            *admin.Server
	validator, signer *grpc.ClientConn
	stream            *audit.Stream
	log               *slog.Logger
	set               *metrics.Set
}

func listen(ctx context.Context, c *config.Admin, p parts) error {
	listener, err := run.Listen(ctx, "[admin] listen", c.API.Listen)
	if err != nil {
		return err
	}
	ops := run.NewOps(c.Ops, p.set)
	ops.Check("validator", true, func(ctx context.Context) error { return mesh.Probe(ctx, p.validator) })
	ops.Check("signer", true, func(ctx context.Context) error { return mesh.Probe(ctx, p.signer) })
	ops.Check("audit stream", false, p.stream.Check)
	if err := run.Notify(run.Ready); err != nil {
		return err
	}
	return run.Group(ctx,
		run.Part{Name: "admin", Run: func(ctx context.Context) error { return p.server.Serve(ctx, listener) }},
		run.Part{Name: "ops", Run: ops.Run},
		run.Part{Name: "audit stream", Run: p.stream.Run, Last: true},
	)
}
