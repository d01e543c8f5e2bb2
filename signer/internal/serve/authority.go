package serve

import (
	"bytes"
	"context"
	"crypto/x509"

	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// authorityServer answers signerv1.Authority.
type authorityServer struct {
	signerv1.UnimplementedAuthorityServer
	all       []*served // the one that issues first
	announced []*x509.Certificate
	profiles  *profile.Set
}

// served is an authority with what signs for it.
type served struct {
	Authority
	scope  ledger.Scope
	lists  *lists
	status *status
}

// find returns the authority with a subject key identifier, the one that issues for none.
func (s authorityServer) find(id []byte) (*served, error) {
	if len(id) == 0 {
		return s.all[0], nil
	}
	for _, a := range s.all {
		if bytes.Equal(a.Certificate.SubjectKeyId, id) {
			return a, nil
		}
	}
	return nil, fault.New(fault.NotFound, "serve.find", "this signer has no such authority", nil)
}

// GetChain returns the authority's chain, its own certificate first, and what else there is.
func (s authorityServer) GetChain(context.Context, *signerv1.GetChainRequest) (*signerv1.GetChainResponse, error) {
	r := &signerv1.GetChainResponse{Name: s.all[0].PublishedAs, Certificates: ders(s.all[0].Chain), Announced: ders(s.announced)}
	for _, a := range s.all[1:] {
		r.Former = append(r.Former, &signerv1.FormerAuthority{Name: a.PublishedAs, Certificates: ders(a.Chain)})
	}
	return r, nil
}

func ders(certificates []*x509.Certificate) (all [][]byte) {
	for _, c := range certificates {
		all = append(all, c.Raw)
	}
	return all
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
	of, err := s.find(r.GetAuthority())
	if err != nil {
		return nil, err
	}
	l := of.lists.kept()
	if r.GetOffset() == 0 {
		if l, err = of.lists.current(ctx); err != nil {
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
