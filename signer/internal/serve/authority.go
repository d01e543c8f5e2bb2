package serve

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// authorityServer answers signerv1.Authority.
type authorityServer struct {
	signerv1.UnimplementedAuthorityServer
	authority *ca.Authority
	profiles  *profile.Set
	lists     *lists
	status    *status
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

// partOctets is the size of a part of a revocation list: a message of the mesh holds 256 KiB.
const partOctets = 128 << 10

// GetCRL returns a part of the newest revocation list. Those behind the first are parts of
// the same list, as long as this signer has it.
func (s authorityServer) GetCRL(ctx context.Context, r *signerv1.GetCRLRequest) (*signerv1.GetCRLResponse, error) {
	l := s.lists.kept()
	if r.GetOffset() == 0 {
		var err error
		if l, err = s.lists.current(ctx); err != nil {
			return nil, err
		}
	}
	size := uint64(len(l.der))
	switch {
	case r.GetNumber() != 0 && r.GetNumber() != l.number, size == 0:
		return nil, fault.New(fault.Conflict, "serve.GetCRL", "there is another revocation list now: begin again", nil)
	case r.GetOffset() >= size:
		return nil, fault.New(fault.Malformed, "serve.GetCRL", "the offset is behind the end of the revocation list", nil)
	}
	part := l.der[r.GetOffset():min(size, r.GetOffset()+partOctets)]
	return &signerv1.GetCRLResponse{CrlDer: part, NextUpdate: timestamppb.New(l.nextUpdate), Number: l.number, Size: size}, nil
}
