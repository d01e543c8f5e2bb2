package serve

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// keyTestEvery is how long a good self-test of the key stands: whoever asks for readiness
// must not be able to keep the key busy.
const keyTestEvery = 10 * time.Second

// keyTestPrefix makes sure that what the self-test signs is nothing else's to-be-signed
// bytes: those begin with the tag of a SEQUENCE.
const keyTestPrefix = "estuary/key-self-test/v1\x00"

// ready holds what the readiness checks look at.
type ready struct {
	ledger    *ledger.Ledger
	authority *ca.Authority
	now       func() time.Time

	mu   sync.Mutex // guards good
	good time.Time  // when the key was last found to work
}

// CheckLedger tells whether the ledger can be reached.
func (s *Server) CheckLedger(ctx context.Context) error { return s.ready.ledger.Check(ctx) }

// CheckKey tells whether the authority's key signs and what it signs verifies. A good
// result stands for ten seconds.
func (s *Server) CheckKey(ctx context.Context) error {
	r := s.ready
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if age := now.Sub(r.good); age >= 0 && age < keyTestEvery {
		return nil
	}
	message := append([]byte(keyTestPrefix), make([]byte, 32)...)
	if _, err := rand.Read(message[len(keyTestPrefix):]); err != nil {
		return fmt.Errorf("testing the authority's key: %w", err)
	}
	signature, err := r.authority.Signer.Sign(ctx, message)
	if err == nil {
		err = key.Verify(r.authority.Signer, message, signature)
	}
	if err != nil {
		return fmt.Errorf("testing the authority's key: %w", err)
	}
	r.good = now
	return nil
}
