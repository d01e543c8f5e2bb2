package serve

import (
	"context"
	"crypto"
	"fmt"
	"math/big"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/ocsp"
)

// status answers for single certificates.
type status struct {
	ledger   *ledger.Ledger
	scope    ledger.Scope
	delegate *ocsp.Delegate
	now      func() time.Time
	life     time.Duration // of a response
}

// maxSerial is the longest serial number, in octets (RFC 5280 section 4.1.2.2).
const maxSerial = 20

var ocspHashes = map[signerv1.OCSPHash]crypto.Hash{
	signerv1.OCSPHash_OCSP_HASH_SHA1: crypto.SHA1, signerv1.OCSPHash_OCSP_HASH_SHA256: crypto.SHA256,
}

// GetOCSP returns a signed response on the status of a certificate, as the ledger has it at
// this moment.
func (s authorityServer) GetOCSP(ctx context.Context, r *signerv1.GetOCSPRequest) (*signerv1.GetOCSPResponse, error) {
	serial := new(big.Int).SetBytes(r.GetSerial())
	hash, known := ocspHashes[r.GetHash()]
	switch {
	case len(r.GetSerial()) > maxSerial || serial.Sign() == 0:
		return nil, fault.New(fault.Malformed, "serve.GetOCSP", "a serial number is positive and has at most 20 octets", nil)
	case !known:
		return nil, fault.New(fault.Malformed, "serve.GetOCSP", "the hash function is unknown", nil)
	case len(r.GetNonce()) > ocsp.MaxNonce:
		return nil, fault.New(fault.Malformed, "serve.GetOCSP", "a nonce has at most 128 octets", nil)
	}
	of, err := s.find(r.GetAuthority())
	if err != nil {
		return nil, err
	}
	// The time before the look: what comes in between is in the next response.
	now := of.status.now()
	revoked, err := of.status.ledger.Status(ctx, of.scope, fmt.Sprintf("%x", serial.Bytes()))
	if err != nil {
		return nil, err
	}
	responder, err := of.status.delegate.Responder(ctx)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "serve.GetOCSP", "", err)
	}
	response := ocsp.Response{
		Serial: serial, Hash: hash, Nonce: r.GetNonce(),
		ProducedAt: now, ThisUpdate: now.Add(-listBackdate), NextUpdate: now.Add(of.status.life),
	}
	if end := responder.Certificate.NotAfter; response.NextUpdate.After(end) {
		response.NextUpdate = end
	}
	if revoked != nil {
		response.RevokedAt, response.Reason = revoked.At, revoked.Reason
	}
	der, err := responder.Sign(response)
	if err != nil {
		return nil, fault.New(fault.Internal, "serve.GetOCSP", "", err)
	}
	return &signerv1.GetOCSPResponse{ResponseDer: der}, nil
}
