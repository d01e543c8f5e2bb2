package serve

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// authorityServer answers signerv1.Authority.
type authorityServer struct {
	signerv1.UnimplementedAuthorityServer
	authority *ca.Authority
	profiles  *profile.Set
	lists     *lists
}

// GetChain returns the authority's chain, its own certificate first.
func (s authorityServer) GetChain(context.Context, *signerv1.GetChainRequest) (*signerv1.GetChainResponse, error) {
	r := &signerv1.GetChainResponse{Name: s.authority.Name}
	for _, c := range s.authority.Chain {
		r.Certificates = append(r.Certificates, c.Raw)
	}
	return r, nil
}

// ListProfiles returns what every profile says to everybody.
func (s authorityServer) ListProfiles(context.Context, *signerv1.ListProfilesRequest) (*signerv1.ListProfilesResponse, error) {
	return &signerv1.ListProfilesResponse{Profiles: s.profiles.Facts()}, nil
}

// GetCRL returns the newest revocation list.
func (s authorityServer) GetCRL(ctx context.Context, _ *signerv1.GetCRLRequest) (*signerv1.GetCRLResponse, error) {
	l, err := s.lists.current(ctx)
	if err != nil {
		return nil, err
	}
	return &signerv1.GetCRLResponse{CrlDer: l.der, NextUpdate: timestamppb.New(l.nextUpdate)}, nil
}
