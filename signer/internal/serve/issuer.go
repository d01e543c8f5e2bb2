package serve

import (
	"context"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/failpoint"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/signer/internal/issue"
)

// issuerServer answers signerv1.Issuer.
type issuerServer struct {
	signerv1.UnimplementedIssuerServer
	issuer *issue.Issuer
}

// Issue prepares and issues. The peer is who TLS says it is.
func (s issuerServer) Issue(ctx context.Context, r *signerv1.IssueRequest) (*signerv1.IssueResponse, error) {
	prepared, err := s.issuer.Prepare(ctx, mesh.PeerName(ctx), r)
	if err != nil {
		return nil, err
	}
	c, err := s.issuer.Issue(ctx, prepared)
	if err != nil {
		return nil, err
	}
	failpoint.Here(failpoint.SignerReply)
	return &signerv1.IssueResponse{CertificateDer: c.DER, Repeated: c.Repeated}, nil
}
