// Package attest turns the proof of an identity into a sealed assertion.
//
// serve calls it once authn has accepted a credential; the signing itself is in
// services/assertion. The assertion is good for one certificate request, presented by one
// gateway, for a minute.
package attest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/validator/internal/authn"
)

const idOctets = 16

// Config is what a Maker needs; every field is required.
type Config struct {
	// Key signs.
	Key assertion.SigningKey
	// Issuer is this validator's own mesh name.
	Issuer string
	// Audience is the name of the certification authority that may accept the assertions.
	Audience string
	// Now tells the time.
	Now func() time.Time
}

// Maker makes assertions. It is safe for concurrent use.
type Maker struct{ c Config }

// New returns a Maker.
func New(c Config) (*Maker, error) {
	if c.Key.ID() == "" || c.Issuer == "" || c.Audience == "" || c.Now == nil {
		return nil, errors.New("making assertions needs a key, an issuer, an audience and a clock")
	}
	return &Maker{c: c}, nil
}

// Request is what a client asked for, and through whom.
type Request struct {
	// Gateway is the mesh name of the peer that asked.
	Gateway string
	// Operation is the EST operation.
	Operation assertionv1.Operation
	// Label is the EST label.
	Label string
	// CSR is the certificate request.
	CSR *csr.Request
}

// Sealed is a signed assertion with its id, 16 octets, for the audit.
type Sealed struct {
	// Message goes to the gateway.
	Message *assertionv1.SealedAssertion
	// ID is the assertion_id.
	ID []byte
}

// Seal states that the proof was given for the request, and signs that.
func (m *Maker) Seal(r Request, p authn.Proof) (Sealed, error) {
	id := make([]byte, idOctets)
	_, _ = rand.Read(id) // never fails: it ends the process instead
	now := m.c.Now()
	if verified := p.Authentication.GetVerifiedAt().AsTime(); now.Before(verified) {
		now = verified // the clock was set back in between
	}
	csrHash, keyHash := r.CSR.SHA256(), r.CSR.SPKISHA256()
	sealed, err := assertion.Seal(&assertionv1.Assertion{
		Version:        assertion.Version,
		AssertionId:    id,
		Issuer:         m.c.Issuer,
		Audience:       m.c.Audience,
		Gateway:        r.Gateway,
		IssuedAt:       timestamppb.New(now),
		NotAfter:       timestamppb.New(now.Add(assertion.MaxLife)),
		Operation:      r.Operation,
		Label:          r.Label,
		CsrSha256:      csrHash[:],
		SpkiSha256:     keyHash[:],
		Identity:       p.Identity,
		Authentication: p.Authentication,
		Token:          p.Token,
		Spend:          p.Spend,

		PresentedCertificate: p.Certificate,
	}, m.c.Key)
	if err != nil {
		return Sealed{}, fmt.Errorf("attesting to %s: %w", p.Identity.GetPrincipal(), err)
	}
	return Sealed{Message: sealed, ID: id}, nil
}
