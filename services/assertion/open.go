package assertion

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/strict"
)

// PublicKey is a validator's key as the signer's configuration states it.
type PublicKey struct {
	// ID is what SealedAssertion.key_id names.
	ID string
	// Issuer is the mesh name of the validator that holds the private half.
	Issuer string
	// Key is the public half.
	Key ed25519.PublicKey
	// NotAfter is the end of its use.
	NotAfter time.Time
	// Methods are those that it may assert; none allows nothing.
	Methods []assertionv1.Method
	// Realms are those that it may speak for; none allows nothing.
	Realms []string
	// MaxPerHour is how many certificates may be issued in an hour on its word; 0 for any
	// number. Open counts nothing: it is for whoever issues.
	MaxPerHour int64
}

// OpenerConfig is what an Opener needs.
type OpenerConfig struct {
	// Audience is the name of this authority.
	Audience string
	// Keys are the validators' keys.
	Keys []PublicKey
	// Now is the clock; time.Now where nil.
	Now func() time.Time
}

// Opener opens assertions. It is safe for concurrent use.
type Opener struct {
	audience string
	now      func() time.Time
	keys     atomic.Pointer[map[string]PublicKey]
}

// NewOpener returns an Opener for the keys.
func NewOpener(c OpenerConfig) (*Opener, error) {
	if c.Audience == "" {
		return nil, errors.New("an assertion opener needs an audience")
	}
	o := &Opener{audience: c.Audience, now: c.Now}
	if o.now == nil {
		o.now = time.Now
	}
	return o, o.SetKeys(c.Keys)
}

// SetKeys replaces the keys at once; on error the old ones stay.
func (o *Opener) SetKeys(keys []PublicKey) error {
	m := make(map[string]PublicKey, len(keys))
	for _, k := range keys {
		if k.ID == "" || k.Issuer == "" || len(k.Key) != ed25519.PublicKeySize || k.NotAfter.IsZero() {
			return fmt.Errorf("validator key %q is incomplete: id, issuer, key and not_after are needed", k.ID)
		}
		if _, twice := m[k.ID]; twice {
			return fmt.Errorf("validator key %q is there twice", k.ID)
		}
		m[k.ID] = k
	}
	o.keys.Store(&m)
	return nil
}

// Ending returns the ids of the keys that have ended or will within d, in order: somebody
// has to be told in time, because nothing is issued for a validator whose key has ended.
func (o *Opener) Ending(d time.Duration) []string {
	var ids []string
	for id, k := range *o.keys.Load() {
		if o.now().Add(d).After(k.NotAfter) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Usable returns the number of keys that have not ended. With none, nothing can be issued.
func (o *Opener) Usable() int {
	return len(*o.keys.Load()) - len(o.Ending(0))
}

// Expect is what an assertion has to be about.
type Expect struct {
	// Gateway is the mesh name of the peer that presents it.
	Gateway string
	// CSRSHA256 is the hash over the DER of the request that came with it.
	CSRSHA256 [32]byte
	// SPKISHA256 is the hash over that request's SubjectPublicKeyInfo.
	SPKISHA256 [32]byte
}

// Open checks signature, key, life and every statement of s. Every error is a
// *fault.Error of kind Internal without a public text; its cause names the check that
// failed. What validator and gateway sent is at fault then, or a clock or a configuration,
// never the client's credential: a client told otherwise would throw a good one away.
func (o *Opener) Open(s *assertionv1.SealedAssertion, want Expect) (Verified, error) {
	key, a, err := o.signed(s)
	if err == nil {
		err = errors.Join(key.scope(a, o.now()), life(a, o.now()), o.about(a, want))
	}
	if err != nil {
		return Verified{}, fault.New(fault.Internal, "assertion.Open", "", err)
	}
	return Verified{msg: a, sealed: proto.CloneOf(s), maxPerHour: key.MaxPerHour}, nil
}

// OpenStored checks an assertion that was opened at the time at and has been kept since: all
// that Open checks, as it was then. The gateway is the one that it names; want.Gateway is not
// looked at. The key has to be known still: what a withdrawn key said counts no more. Errors
// are those of Open.
func (o *Opener) OpenStored(s *assertionv1.SealedAssertion, want Expect, at time.Time) (Verified, error) {
	key, a, err := o.signed(s)
	if err == nil {
		want.Gateway = a.GetGateway()
		err = errors.Join(key.scope(a, at), life(a, at), o.about(a, want))
	}
	if err != nil {
		return Verified{}, fault.New(fault.Internal, "assertion.OpenStored", "", err)
	}
	return Verified{msg: a, sealed: proto.CloneOf(s), maxPerHour: key.MaxPerHour}, nil
}

// signed returns what s says, once it is known to be complete and signed by a known key.
func (o *Opener) signed(s *assertionv1.SealedAssertion) (PublicKey, *assertionv1.Assertion, error) {
	key, ok := (*o.keys.Load())[s.GetKeyId()]
	if !ok {
		return key, nil, fmt.Errorf("no validator key has the id %.64q", s.GetKeyId())
	}
	if len(s.GetPayload()) > maxPayload {
		return key, nil, fmt.Errorf("payload of %d octets is longer than %d", len(s.GetPayload()), maxPayload)
	}
	// Before anything is decoded: an unsigned payload is not worth a parser.
	if !ed25519.Verify(key.Key, signedBytes(s.GetPayload()), s.GetSignature()) {
		return key, nil, fmt.Errorf("signature does not verify under key %s", key.ID)
	}
	a := &assertionv1.Assertion{}
	if err := proto.Unmarshal(s.GetPayload(), a); err != nil {
		return key, nil, fmt.Errorf("decoding: %w", err)
	}
	if name := strict.Unknown(a.ProtoReflect()); name != "" {
		return key, nil, fmt.Errorf("%s carries a field that this version does not know", name)
	}
	return key, a, complete(a)
}

// scope checks that the key may say this.
func (k PublicKey) scope(a *assertionv1.Assertion, now time.Time) error {
	switch {
	case !now.Before(k.NotAfter):
		return fmt.Errorf("key %s ended at %s", k.ID, k.NotAfter.UTC().Format(time.RFC3339))
	case a.GetIssuer() != k.Issuer:
		return fmt.Errorf("issuer %q does not hold key %s", a.GetIssuer(), k.ID)
	case !slices.Contains(k.Methods, a.GetAuthentication().GetMethod()):
		return fmt.Errorf("key %s may not assert %s", k.ID, a.GetAuthentication().GetMethod())
	case !slices.Contains(k.Realms, a.GetIdentity().GetRealm()):
		return fmt.Errorf("key %s may not speak for realm %q", k.ID, a.GetIdentity().GetRealm())
	}
	return nil
}

func life(a *assertionv1.Assertion, now time.Time) error {
	switch {
	case a.GetIssuedAt().AsTime().After(now.Add(Skew)):
		return fmt.Errorf("issued_at %s is in the future", a.GetIssuedAt().AsTime().Format(time.RFC3339Nano))
	case now.After(a.GetNotAfter().AsTime().Add(Skew)):
		return fmt.Errorf("it ended at %s", a.GetNotAfter().AsTime().Format(time.RFC3339Nano))
	case now.Sub(a.GetAuthentication().GetVerifiedAt().AsTime()) > MaxProofAge+Skew:
		return fmt.Errorf("the proof of %s is too old", a.GetAuthentication().GetVerifiedAt().AsTime().Format(time.RFC3339Nano))
	}
	return nil
}

// about checks that it is meant for this authority, this peer and this request.
func (o *Opener) about(a *assertionv1.Assertion, want Expect) error {
	switch {
	case a.GetAudience() != o.audience:
		return fmt.Errorf("audience %q is not %q", a.GetAudience(), o.audience)
	case want.Gateway == "" || a.GetGateway() != want.Gateway:
		return fmt.Errorf("made for gateway %q, presented by %q", a.GetGateway(), want.Gateway)
	case !bytes.Equal(a.GetCsrSha256(), want.CSRSHA256[:]):
		return errors.New("made for another request")
	case !bytes.Equal(a.GetSpkiSha256(), want.SPKISHA256[:]):
		return errors.New("made for another public key")
	}
	return nil
}
