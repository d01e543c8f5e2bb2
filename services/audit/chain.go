package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"

	"github.com/estuary-pki/estuary/services/secret"
)

// ErrRolledBack is the cause where the database lacks records that were committed: it was
// restored from a backup, or replaced by one that lags behind, or cut. What was spent since
// then could be spent again.
var ErrRolledBack = errors.New("the audit chain was set back")

// ErrTampered is the cause where a record or a checkpoint was altered, removed or added by
// somebody without the MAC key.
var ErrTampered = errors.New("the audit chain was tampered with")

// wayOut is what whoever runs a service that meets such a chain can do.
const wayOut = "run 'audit verify' to see it, and 'audit accept' once it is understood"

// KeySize is the size of a chain's MAC key in octets.
const KeySize = 32

// everyRecords is how many records may follow a checkpoint before the next is due.
const everyRecords = 1000

// Chain is the audit chain of a service, under a key that is kept outside of the database:
// who can write to the database still cannot make a record of it. It remembers how far the
// chain has come, and refuses to continue one that was set back. It is safe for concurrent
// use.
type Chain struct {
	recordKey  []byte
	signingKey ed25519.PrivateKey
	wake       chan struct{} // holds one: the keeper is to look

	mu     sync.Mutex
	newest position // guarded by mu; the last record known to be committed
	signed int64    // guarded by mu; the record of the last checkpoint known
	broken error    // guarded by mu; why nothing may be appended
}

// position is a place in the chain.
type position struct {
	seq  int64
	hash [sha256.Size]byte
}

// NewChain returns the chain under a MAC key of KeySize octets. Its own keys are derived
// from it: one for the MACs of records, one for the signatures of checkpoints.
func NewChain(macKey secret.Bytes) (*Chain, error) {
	if macKey.Len() != KeySize {
		return nil, fmt.Errorf("the audit chain's MAC key has %d octets, not %d", macKey.Len(), KeySize)
	}
	recordKey, err := hkdf.Key(sha256.New, macKey.Reveal(), nil, "estuary/audit-record-mac/v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of audit records: %w", err)
	}
	seed, err := hkdf.Key(sha256.New, macKey.Reveal(), nil, "estuary/audit-checkpoint/v1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of audit checkpoints: %w", err)
	}
	return &Chain{recordKey: recordKey, signingKey: ed25519.NewKeyFromSeed(seed), wake: make(chan struct{}, 1)}, nil
}

// Public returns the key under which checkpoints verify.
func (c *Chain) Public() ed25519.PublicKey { return c.signingKey.Public().(ed25519.PublicKey) }

// Append adds r to the chain, with its MAC. The chain's head stays locked until the
// transaction ends, so call it last. When it fails the transaction must be rolled back; call
// Committed when it has been committed.
//
// An error that wraps ErrRolledBack says that the database lacks a record that this process
// knows to be committed. From then on, as after ErrTampered, every Append fails.
func (c *Chain) Append(ctx context.Context, tx Transaction, r Record) (Entry, error) {
	// What is known is looked up first: a later look could meet a record that another
	// transaction committed under this number after this one had lost it.
	known, err := c.known()
	if err != nil {
		return Entry{}, err
	}
	e, previous, err := next(ctx, tx, r)
	if err != nil {
		return Entry{}, err
	}
	if err := c.follows(known, e.Seq, previous); err != nil {
		return Entry{}, err
	}
	e.Hash = Link(previous, e.Seq, e.JSON)
	if _, err := tx.Exec(ctx, `INSERT INTO audit_record (seq, at, record, hash, mac) VALUES ($1, $2, $3, $4, $5)`,
		e.Seq, r.Time.UnixMicro(), string(e.JSON), e.Hash[:], seal(hmac.New(sha256.New, c.recordKey), nil, e.Seq, e.Hash[:])); err != nil {
		return Entry{}, fmt.Errorf("writing an audit record: %w", err)
	}
	return e, move(ctx, tx, e)
}

// follows refuses a number and a hash before it that cannot follow what was known when they
// were asked for.
func (c *Chain) follows(known position, seq int64, previous []byte) error {
	switch {
	case seq <= known.seq:
		return c.fail(fmt.Errorf("%w: the database ends at record %d, but record %d was committed by this process or seen by it", ErrRolledBack, seq-1, known.seq))
	case seq == known.seq+1 && known.seq > 0 && !bytes.Equal(previous, known.hash[:]):
		return c.fail(fmt.Errorf("%w: record %d of the database is not the one that this process knows", ErrRolledBack, known.seq))
	}
	return nil
}

// Committed tells the chain that e is in the database for good. An older record than those
// it knows is no news.
func (c *Chain) Committed(e Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Seq <= c.newest.seq {
		return
	}
	c.newest = position{e.Seq, e.Hash}
	if e.Seq-c.signed >= everyRecords {
		c.call()
	}
}

// Check says why nothing can be recorded any more, and the way out. It is a readiness check.
func (c *Chain) Check(context.Context) error {
	_, err := c.known()
	return err
}

// call wakes the keeper.
func (c *Chain) call() {
	select {
	case c.wake <- struct{}{}:
	default: // it is called already
	}
}

// known returns the last record known to be committed, or why the chain is broken.
func (c *Chain) known() (position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest, c.broken
}

// covered tells the chain how far the checkpoints have come.
func (c *Chain) covered(seq int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signed = max(c.signed, seq)
}

// fail breaks the chain for good and returns the error that did.
func (c *Chain) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = fmt.Errorf("nothing can be recorded any more: %w: %s", err, wayOut)
		c.call()
	}
	return c.broken
}

// seal appends the MAC of a record to sum.
func seal(h hash.Hash, sum []byte, seq int64, hash []byte) []byte {
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(seq))
	h.Reset()
	h.Write(number[:])
	h.Write(hash)
	return h.Sum(sum)
}
