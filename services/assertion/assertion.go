// Package assertion turns the validator's statement of who asks into sealed bytes, and
// sealed bytes back into a statement that the signer may believe.
//
// The validator calls Seal, the signer calls Open. What is signed is the exact payload
// behind a fixed prefix: there is no algorithm field to confuse and no canonical form to
// disagree on. A Verified exists only where Open has checked everything.
package assertion

import (
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
)

// Version is the format that Seal writes and Open accepts.
const Version = 1

const (
	// MaxLife is the longest time between issued_at and not_after.
	MaxLife = 60 * time.Second
	// Skew is how far the clocks of validator and signer may differ, either way.
	Skew = 30 * time.Second
	// MaxProofAge is how old the proof itself may be when the assertion is used: a repeat
	// within five minutes inherits the time of the first.
	MaxProofAge = 6 * time.Minute
	// maxLoginSkew is how far the clocks of validator and KDC may differ.
	maxLoginSkew = 5 * time.Minute
)

// SpendCertificate begins the spend id of a client certificate, before its SHA-256. No other
// method spends such a thing.
const SpendCertificate = "certificate:"

const (
	prefix   = "estuary/identity-assertion/v1\x00"
	idSize   = 16
	maxSpend = 64
	// maxPayload bounds the work before the signature is known to be good.
	maxPayload = 64 << 10
)

// Verified is an assertion that Open has checked. The zero value is nobody's.
type Verified struct {
	msg    *assertionv1.Assertion
	sealed *assertionv1.SealedAssertion

	maxPerHour int64
}

// Message returns the statement. It must not be changed.
func (v Verified) Message() *assertionv1.Assertion { return v.msg }

// Sealed returns the sealed assertion as received: the ledger keeps it.
func (v Verified) Sealed() *assertionv1.SealedAssertion { return v.sealed }

// Payload returns the exact bytes that were signed. They must not be changed.
func (v Verified) Payload() []byte { return v.sealed.GetPayload() }

// KeyID returns the id of the validator's key.
func (v Verified) KeyID() string { return v.sealed.GetKeyId() }

// MaxPerHour returns that of the validator's key.
func (v Verified) MaxPerHour() int64 { return v.maxPerHour }

func signedBytes(payload []byte) []byte {
	return append([]byte(prefix), payload...)
}

// marshal encodes an assertion once; the bytes are what counts from then on.
func marshal(a *assertionv1.Assertion) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(a)
}
