// Package serve turns calls of the mesh into work of the signer.
//
// It is the thin face of the process: cmd/signer registers it with mesh, gateways call
// Issuer and Authority, the admin calls LedgerAdmin. It calls issue, ledger, profile, crl
// and ocsp, and knows no rules of its own but the shape of a page.
package serve

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/issue"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/ocsp"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// Config is what a Server needs.
type Config struct {
	// Issuer issues certificates.
	Issuer *issue.Issuer
	// Ledger is shown to the admin, and numbers revocation lists.
	Ledger *ledger.Ledger
	// Authorities are what gateways ask about: the one that issues first, then those that did
	// before it, the newest first.
	Authorities []Authority
	// Announced are further certificates for /cacerts.
	Announced []*x509.Certificate
	// Profiles are what gateways ask about.
	Profiles *profile.Set
	// ListLife is the time from a revocation list to the next at the latest.
	ListLife time.Duration
	// StatusLife is how long an OCSP response is good.
	StatusLife time.Duration
	// Log gets what is not for the caller.
	Log *slog.Logger
	// Now is the clock; time.Now where nil.
	Now func() time.Time
}

// Authority is an authority with what is published of it.
type Authority struct {
	*ca.Authority
	// PublishedAs is its name below /crl/ and /ca/.
	PublishedAs string
	// DistributionPoints are the URLs that its revocation lists say they are found at.
	DistributionPoints []string
}

// Server answers the three services of the signer. It is safe for concurrent use.
type Server struct {
	issuer    issuerServer
	authority authorityServer
	admin     adminServer
	ready     *ready
}

// New returns a Server.
func New(c Config) (*Server, error) {
	if c.Issuer == nil || c.Ledger == nil || len(c.Authorities) == 0 || c.Profiles == nil || c.Log == nil {
		return nil, errors.New("serving needs an issuer, a ledger, an authority, profiles and a log")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ListLife <= 0 {
		return nil, errors.New("serving needs the life of a revocation list")
	}
	if c.StatusLife <= 0 {
		return nil, errors.New("serving needs the life of an OCSP response")
	}
	server := authorityServer{profiles: c.Profiles, announced: c.Announced}
	for i, a := range c.Authorities {
		delegate, err := ocsp.NewDelegate(ocsp.Config{Authority: a.Authority, Ledger: c.Ledger, Log: c.Log, Now: c.Now})
		if err != nil {
			return nil, err
		}
		scope := ledger.Scope{Authority: a.Certificate.SubjectKeyId, Unnamed: i == len(c.Authorities)-1}
		server.all = append(server.all, &served{
			Authority: a, scope: scope,
			lists: &lists{
				authority: a.Authority, scope: scope, ledger: c.Ledger, log: c.Log, now: c.Now, life: c.ListLife,
				points: a.DistributionPoints, building: make(chan struct{}, 1),
			},
			status: &status{ledger: c.Ledger, scope: scope, delegate: delegate, now: c.Now, life: c.StatusLife},
		})
	}
	return &Server{
		issuer: issuerServer{issuer: c.Issuer}, authority: server, admin: adminServer{ledger: c.Ledger},
		ready: &ready{ledger: c.Ledger, authority: c.Authorities[0].Authority, now: c.Now},
	}, nil
}

// Register adds the services to a server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	signerv1.RegisterIssuerServer(r, s.issuer)
	signerv1.RegisterAuthorityServer(r, s.authority)
	signerv1.RegisterLedgerAdminServer(r, s.admin)
}
