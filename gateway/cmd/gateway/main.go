// Command gateway terminates TLS and speaks EST: it has credentials checked by the
// validator and certificates issued by the signer.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	"github.com/estuary-pki/estuary/gateway/internal/config"
	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	"github.com/estuary-pki/estuary/gateway/internal/est"
	"github.com/estuary-pki/estuary/gateway/internal/facts"
	"github.com/estuary-pki/estuary/gateway/internal/problem"
	"github.com/estuary-pki/estuary/gateway/internal/publish"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
)

func main() {
	command.Main(command.Service[config.Gateway]{
		Name:    "gateway",
		Default: config.DefaultGateway,
		Ops:     func(c *config.Gateway) string { return c.Ops.Listen },
		Serve:   start,

		Commands: commands(),
	})
}

// parts is what the layers of the process need of each other.
type parts struct {
	validator, signer *grpc.ClientConn
	facts             *facts.Cache
	lists             *publish.Lists
	log               *slog.Logger
	set               *metrics.Set
}

// start opens everything from the inside out and serves until ctx ends.
func start(ctx context.Context, c *config.Gateway, _ func() (*config.Gateway, error)) error {
	p := parts{log: run.NewLogger(c.Log, os.Stderr), set: metrics.NewSet()}
	slog.SetDefault(p.log)
	creds, err := mesh.LoadTLS(c.Mesh, p.log, p.set)
	if err != nil {
		return err
	}
	if p.validator, err = c.Validator.Dial(creds); err != nil {
		return err
	}
	defer func() { _ = p.validator.Close() }()
	if p.signer, err = c.Signer.Dial(creds); err != nil {
		return err
	}
	defer func() { _ = p.signer.Close() }()
	p.facts, err = facts.New(facts.Config{Authority: signerv1.NewAuthorityClient(p.signer), Log: p.log, Now: time.Now})
	if err != nil {
		return err
	}
	p.lists, err = publish.NewLists(publish.ListsConfig{
		Signer: signerv1.NewAuthorityClient(p.signer), Authority: p.facts, Log: p.log, Metrics: p.set, Now: time.Now,
	})
	if err != nil {
		return err
	}
	handler, err := newHandler(c, p)
	if err != nil {
		return err
	}
	anchors, err := accept.NewAnchors(accept.AnchorsConfig{
		File: string(c.TLS.ClientAuth.TrustAnchors), Authority: p.facts.Issuing, Log: p.log, Metrics: p.set,
	})
	if err != nil {
		return err
	}
	server, err := accept.New(accept.Config{
		Certificate: string(c.TLS.Certificate), Key: string(c.TLS.Key), Limits: c.Limits.Accept(),
		ClientAuth: accept.ClientAuth{Mode: c.TLS.ClientAuth.Mode, Anchors: anchors},
		Handler:    handler, Log: p.log, Metrics: p.set, Now: time.Now,
	})
	if err != nil {
		return err
	}
	return listen(ctx, c, p, server)
}

// newHandler makes what answers EST requests.
func newHandler(c *config.Gateway, p parts) (*est.Handler, error) {
	enroller, err := enroll.New(enroll.Config{
		Validator: validatorv1.NewAuthenticatorClient(p.validator), Signer: signerv1.NewIssuerClient(p.signer),
	})
	if err != nil {
		return nil, err
	}
	refusals, err := problem.NewRefusals(time.Duration(c.Refusal.Floor), time.Now)
	if err != nil {
		return nil, err
	}
	return est.New(est.Config{
		Labels: c.Labels(), DefaultLabel: c.EST.DefaultLabel, Facts: p.facts, Enroller: enroller, Refusals: refusals,
		CRLs: func(ctx context.Context) (ders [][]byte, err error) {
			lists, err := p.lists.Current(ctx)
			for _, list := range lists {
				ders = append(ders, list.Raw)
			}
			return ders, err
		},
		ClientAuth: c.TLS.ClientAuth.Mode, Revoked: p.lists.Revoked,
		Timeout: time.Duration(c.Limits.RequestTimeout), Log: p.log, Metrics: p.set, Now: time.Now,
	})
}

func listen(ctx context.Context, c *config.Gateway, p parts, server *accept.Server) error {
	listener, err := run.Listen(ctx, "[tls] listen", c.TLS.Listen)
	if err != nil {
		return err
	}
	ops := run.NewOps(c.Ops, p.set)
	ops.Check("certificate", false, server.Check)
	ops.Check("facts", true, p.facts.Check)
	ops.Check("validator", true, func(ctx context.Context) error { return mesh.Probe(ctx, p.validator) })
	ops.Check("signer", true, func(ctx context.Context) error { return mesh.Probe(ctx, p.signer) })
	ops.Check("revocation list", false, p.lists.Check)
	running := []run.Part{
		{Name: "est", Run: func(ctx context.Context) error { return server.Serve(ctx, listener) }},
		{Name: "facts", Run: p.facts.Run},
		{Name: "revocation list", Run: p.lists.Run},
		{Name: "ops", Run: ops.Run},
	}
	if c.Publish.Listen != "" {
		part, err := publishing(ctx, c, p)
		if err != nil {
			return err
		}
		running = append(running, part)
	}
	if err := run.Notify(run.Ready); err != nil {
		return err
	}
	return run.Group(ctx, running...)
}

// publishing returns the listener for everybody.
func publishing(ctx context.Context, c *config.Gateway, p parts) (run.Part, error) {
	responses, err := publish.NewResponses(publish.ResponsesConfig{
		Signer: signerv1.NewAuthorityClient(p.signer), Authority: p.facts, Log: p.log, Metrics: p.set, Now: time.Now,
	})
	if err != nil {
		return run.Part{}, err
	}
	server, err := publish.NewServer(publish.ServerConfig{Lists: p.lists, Responses: responses, Authority: p.facts, Log: p.log})
	if err != nil {
		return run.Part{}, err
	}
	listener, err := run.Listen(ctx, "[publish] listen", c.Publish.Listen)
	if err != nil {
		return run.Part{}, err
	}
	return run.Part{Name: "publish", Run: func(ctx context.Context) error { return server.Serve(ctx, listener) }}, nil
}
