// Package ledger holds the record of what the authority promised and signed.
//
// issue writes an intent before the CA key is used and the certificate after; serve reads
// it for the admin. What a credential is good for is counted here, in the transaction that
// records the intent, and every transaction that decides something carries its audit
// record. It calls store and audit.
package ledger

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
)

const (
	// Lease is how long an intent belongs to the signer that recorded it.
	Lease = 10 * time.Second
	// RepeatWindow is how long the same request is a repeat, whatever credential it came
	// with and however short the certificate's life: a client whose reply was lost asks
	// again within it.
	RepeatWindow = 5 * time.Minute
	// MACKeySize is the size of the key over the rows, in octets.
	MACKeySize = 32
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config is what a Ledger needs.
type Config struct {
	// Store is the database; the ledger migrates it.
	Store *store.DB
	// MACKey is the key over the rows, MACKeySize octets, kept outside the database.
	MACKey secret.Bytes
	// Audit gets every audit record once it is committed.
	Audit *audit.Stream
	// Log gets what needs a person: rows that were altered.
	Log *slog.Logger
	// Instance names this signer among those of the same database, the same at every start:
	// what an earlier process of it left open is ended at once.
	Instance string
	// Now is the clock; time.Now where nil.
	Now func() time.Time
}

// Ledger is the record. It is safe for concurrent use.
type Ledger struct {
	db       *store.DB
	chain    *audit.Chain
	macKey   secret.Bytes
	stream   *audit.Stream
	log      *slog.Logger
	now      func() time.Time
	instance string
	// owner names this process in the rows whose intent it recorded: the instance, "/" and
	// chance. What it took over has more chance behind another "/".
	owner string

	mu       sync.Mutex      // guards told and released
	told     map[string]bool // serial numbers of rows for which the alarm was raised
	released map[string]bool // serial numbers of intents that this process let go of
}

// New opens the ledger in a database, bringing its schema up to date.
func New(ctx context.Context, c Config) (*Ledger, error) {
	switch {
	case c.Store == nil, c.Audit == nil, c.Log == nil:
		return nil, errors.New("a ledger needs a store, an audit stream and a log")
	case c.Instance == "":
		return nil, errors.New("a ledger needs the name of its instance")
	case c.MACKey.Len() != MACKeySize:
		return nil, fmt.Errorf("the ledger's MAC key has %d octets, not %d", c.MACKey.Len(), MACKeySize)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := migrate(ctx, c.Store); err != nil {
		return nil, err
	}
	chain, err := audit.NewChain(c.MACKey)
	if err != nil {
		return nil, err
	}
	owner := make([]byte, 16)
	if _, err := rand.Read(owner); err != nil {
		return nil, fmt.Errorf("naming the owner of intents: %w", err)
	}
	return &Ledger{
		db: c.Store, macKey: c.MACKey, chain: chain, stream: c.Audit, log: c.Log, now: c.Now,
		instance: c.Instance, owner: c.Instance + "/" + hex.EncodeToString(owner), told: map[string]bool{}, released: map[string]bool{},
	}, nil
}

// migrate brings the schema up to date.
func migrate(ctx context.Context, db *store.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("reading the ledger's migrations: %w", err)
	}
	if err := db.Migrate(ctx, files); err != nil {
		return fmt.Errorf("migrating the ledger: %w", err)
	}
	return nil
}

// Chain returns the audit chain of the ledger, for its keeper.
func (l *Ledger) Chain() *audit.Chain { return l.chain }

// Check tells whether the database can be reached: a readiness check.
func (l *Ledger) Check(ctx context.Context) error { return l.db.Ping(ctx) }
