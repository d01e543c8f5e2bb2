package serve

import (
	"context"
	"strconv"
	"strings"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

const (
	defaultPage = 100
	maxPage     = 1000
	maxIDs      = 1000
)

// adminServer answers signerv1.LedgerAdmin.
type adminServer struct {
	signerv1.UnimplementedLedgerAdminServer
	ledger *ledger.Ledger
}

// ListCertificates returns a page of entries. A page may be shorter than asked for although
// more follow: only an empty token is the end.
func (s adminServer) ListCertificates(ctx context.Context, r *signerv1.ListCertificatesRequest) (*signerv1.ListCertificatesResponse, error) {
	size := int(r.GetPageSize())
	switch {
	case size == 0:
		size = defaultPage
	case size > maxPage:
		return nil, fault.New(fault.Malformed, "serve.ListCertificates", "page_size is at most 1000", nil)
	}
	after := int64(0)
	if t := r.GetPageToken(); t != "" {
		var err error
		if after, err = strconv.ParseInt(t, 10, 64); err != nil || after <= 0 {
			return nil, fault.New(fault.Malformed, "serve.ListCertificates", "page_token is not one of ours", err)
		}
	}
	filter, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	entries, next, err := s.ledger.List(ctx, after, size, filter)
	if err != nil {
		return nil, err
	}
	page := &signerv1.ListCertificatesResponse{Entries: entries}
	if next != 0 {
		page.NextPageToken = strconv.FormatInt(next, 10)
	}
	return page, nil
}

const maxText = 255 // octets of what a filter asks for, and of who asked for a revocation

func filterOf(r *signerv1.ListCertificatesRequest) (ledger.Filter, error) {
	f := ledger.Filter{Status: r.GetStatus(), Subject: r.GetSubject(), Principal: r.GetPrincipal()}
	if _, known := signerv1.CertificateStatus_name[int32(f.Status)]; !known {
		return f, fault.New(fault.Malformed, "serve.ListCertificates", "the status is unknown", nil)
	}
	if len(f.Subject) > maxText || len(f.Principal) > maxText {
		return f, fault.New(fault.Malformed, "serve.ListCertificates", "subject and principal have at most 255 octets", nil)
	}
	if t := r.GetExpiresBefore(); t != nil {
		if err := t.CheckValid(); err != nil {
			return f, fault.New(fault.Malformed, "serve.ListCertificates", "expires_before is no time", err)
		}
		f.ExpiresBefore = t.AsTime()
	}
	return f, nil
}

// RevokeCertificate ends a certificate, holds it, or ends a hold.
func (s adminServer) RevokeCertificate(ctx context.Context, r *signerv1.RevokeCertificateRequest) (*signerv1.RevokeCertificateResponse, error) {
	if _, known := signerv1.RevocationReason_name[int32(r.GetReason())]; !known {
		return nil, fault.New(fault.Malformed, "serve.RevokeCertificate", "the reason is not one that can be given", nil)
	}
	if by := r.GetRevokedBy(); by == "" || len(by) > maxText {
		return nil, fault.New(fault.Malformed, "serve.RevokeCertificate", "revoked_by has to be 1 to 255 octets", nil)
	}
	entry, also, err := s.ledger.Revoke(ctx, ledger.Revocation{
		Serial: strings.ToLower(r.GetSerial()), Reason: r.GetReason(), By: r.GetRevokedBy(),
		Peer: mesh.PeerName(ctx), RequestID: mesh.RequestID(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &signerv1.RevokeCertificateResponse{Entry: entry, AlsoRevoked: also}, nil
}

// GetCertificate returns one entry. The serial number may be written in either case.
func (s adminServer) GetCertificate(ctx context.Context, r *signerv1.GetCertificateRequest) (*signerv1.GetCertificateResponse, error) {
	entry, der, err := s.ledger.Get(ctx, strings.ToLower(r.GetSerial()))
	if err != nil {
		return nil, err
	}
	return &signerv1.GetCertificateResponse{Entry: entry, CertificateDer: der}, nil
}

// CountUses returns how often ids were used.
func (s adminServer) CountUses(ctx context.Context, r *signerv1.CountUsesRequest) (*signerv1.CountUsesResponse, error) {
	if len(r.GetIds()) > maxIDs {
		return nil, fault.New(fault.Malformed, "serve.CountUses", "at most 1000 ids are counted at once", nil)
	}
	used, err := s.ledger.CountUses(ctx, r.GetIds())
	if err != nil {
		return nil, err
	}
	return &signerv1.CountUsesResponse{Used: used}, nil
}
