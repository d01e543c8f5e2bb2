// Package admin turns HTTPS requests of administrators into calls to the validator and the
// signer.
//
// It is the API behind cmd/admin: enrolment tokens are made, listed and revoked at the
// validator, certificates are looked up in the signer's ledger. It holds no state. Who asks
// is proved by a client certificate or a bearer token; every act and every refusal leaves
// an audit record, and no act is begun without one.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/net/netutil"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/estuary-pki/estuary/gateway/internal/config"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
)

// Limits of the listener. Administrators are few and their requests small.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second
	answerTimeout  = 20 * time.Second
	idleTimeout    = time.Minute
	stopTimeout    = 10 * time.Second
	maxHeader      = 16 << 10
	maxBody        = 16 << 10
	maxConnections = 128
)

// Auditor takes the audit records of the administration. An *audit.Stream is one.
type Auditor interface {
	Tell(r audit.Record) error
}

// Config is what a Server needs; every field is required.
type Config struct {
	// API is the [admin] section, already checked.
	API config.AdminAPI
	// Tokens makes and revokes enrolment tokens, at the validator.
	Tokens validatorv1.TokenAdminClient
	// Ledger shows certificates and counts uses, at the signer.
	Ledger signerv1.LedgerAdminClient
	// ValidatorHealth and SignerHealth tell whether the two can serve.
	ValidatorHealth, SignerHealth healthv1.HealthClient
	// Audit gets a record before and after every act, and of every refusal.
	Audit Auditor
	// Log gets a line per request.
	Log *slog.Logger
	// Metrics gets estuary_admin_….
	Metrics *metrics.Set
	// Now is the clock.
	Now func() time.Time
}

func (c *Config) complete() error {
	if c.Tokens == nil || c.Ledger == nil || c.ValidatorHealth == nil || c.SignerHealth == nil {
		return errors.New("a client of the validator or the signer is missing")
	}
	if c.Audit == nil || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return errors.New("audit, log, metrics or clock is missing")
	}
	return nil
}

// Server is the admin API.
type Server struct {
	tokens  validatorv1.TokenAdminClient
	ledger  signerv1.LedgerAdminClient
	health  []part
	audit   Auditor
	log     *slog.Logger
	metrics *metrics.Set
	now     func() time.Time
	gate    gate
	files   *files
	routes  []route
	guard   *http.CrossOriginProtection
}

// New reads the certificate files of c and returns a server.
func New(c Config) (*Server, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("making the admin server: %w", err)
	}
	files, err := openFiles(c.API, c.Log, c.Metrics)
	if err != nil {
		return nil, fmt.Errorf("making the admin server: %w", err)
	}
	s := &Server{
		tokens:  c.Tokens,
		ledger:  c.Ledger,
		health:  []part{{"validator", c.ValidatorHealth}, {"signer", c.SignerHealth}},
		audit:   c.Audit,
		log:     c.Log,
		metrics: c.Metrics,
		now:     c.Now,
		gate:    newGate(c.API),
		files:   files,
		guard:   http.NewCrossOriginProtection(),
	}
	s.routes = s.table()
	return s, nil
}

// Serve answers on ln until ctx ends; then it lets the requests in work finish, for at most
// 10 seconds.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 answerTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		Protocols:                    new(http.Protocols),
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true,
	}
	server.Protocols.SetHTTP1(true) // a second protocol is not worth its limits here
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- server.Shutdown(bounded)
	})
	err := server.Serve(tls.NewListener(netutil.LimitListener(ln, maxConnections), s.files.serverConfig()))
	if stop() { // ctx has not ended: the listener failed
		return fmt.Errorf("serving the admin API: %w", err)
	}
	if err := <-stopped; err != nil {
		_ = server.Close() // the error of Shutdown says more
		return fmt.Errorf("stopping the admin API: %w", err)
	}
	return nil
}
