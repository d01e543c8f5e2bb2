// Package state holds what the validator keeps: enrolment tokens, which of them were accepted
// with which key, and the audit records of their making, their end and their use.
//
// token and serve read and write through it; it owns the tables and runs on services/store.
// A row that authorises something carries a MAC under a key kept outside the database, so
// that who can write to the database still cannot make or change a token.
package state

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// MACKeySize is the size of the key of row MACs in octets.
const MACKeySize = 32

// ErrNotFound is returned where no token has the id or index.
var ErrNotFound = errors.New("no such token")

// ErrForged is returned where a row does not carry its MAC: somebody changed the database,
// or the MAC key is another one. Such a row authorises nothing, and what it says is never
// written again, because that would give it a good MAC.
var ErrForged = errors.New("the stored row does not carry its MAC")

// Config is what a Store needs; every field is required.
type Config struct {
	// DB is the open database. The caller closes it.
	DB *store.DB
	// MACKey has MACKeySize octets.
	MACKey secret.Bytes
	// Stream gets every audit record after its transaction.
	Stream *audit.Stream
	// Log hears of a record that is stored and could not be streamed.
	Log *slog.Logger
}

// Store is the validator's state. It is safe for concurrent use.
type Store struct {
	db     *store.DB
	key    secret.Bytes
	chain  *audit.Chain
	stream *audit.Stream
	log    *slog.Logger
}

// New brings the schema up to date and returns the Store.
func New(ctx context.Context, c Config) (*Store, error) {
	if c.DB == nil || c.Stream == nil || c.Log == nil {
		return nil, errors.New("state needs a database, an audit stream and a log")
	}
	if c.MACKey.Len() != MACKeySize {
		return nil, fmt.Errorf("MAC key of %d octets: %d are needed", c.MACKey.Len(), MACKeySize)
	}
	if err := migrate(ctx, c.DB); err != nil {
		return nil, err
	}
	chain, err := audit.NewChain(c.MACKey)
	if err != nil {
		return nil, err
	}
	return &Store{db: c.DB, key: c.MACKey, chain: chain, stream: c.Stream, log: c.Log}, nil
}

// migrate brings the schema up to date.
func migrate(ctx context.Context, db *store.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	if err := db.Migrate(ctx, files); err != nil {
		return fmt.Errorf("migrating the validator's state: %w", err)
	}
	return nil
}

// Chain returns the audit chain of the state, for its keeper.
func (s *Store) Chain() *audit.Chain { return s.chain }

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// Record adds one audit record in a transaction of its own. When it returns an error
// nothing was recorded, and what the record was to tell must not happen.
func (s *Store) Record(ctx context.Context, r audit.Record) error {
	return s.write(ctx, func(context.Context, store.Tx) (*audit.Record, error) { return &r, nil })
}

// write runs f in a transaction and adds the record that it returns, if any, to the audit
// chain in the same one. f may run more than once.
func (s *Store) write(ctx context.Context, f func(context.Context, store.Tx) (*audit.Record, error)) error {
	var entry *audit.Entry
	err := s.db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
		entry = nil
		r, err := f(ctx, tx)
		if err != nil || r == nil {
			return err
		}
		e, err := s.chain.Append(ctx, tx, *r)
		if err != nil {
			return fmt.Errorf("recording %s: %w", r.Event, err)
		}
		entry = &e
		return nil
	})
	if err != nil || entry == nil {
		return err
	}
	s.chain.Committed(*entry)
	if err := s.stream.Emit(*entry); err != nil {
		// It is in the database: the event stands, and an export can find the record there.
		s.log.LogAttrs(ctx, slog.LevelError, "audit record not streamed", slog.Int64("seq", entry.Seq), slog.Any("error", err))
	}
	return nil
}
