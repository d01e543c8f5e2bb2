// Package audit turns what happened into records of a hash chain.
//
// Chain.Append writes a record in the transaction of the thing that it tells of, so that
// neither exists without the other; Stream writes it out once that has been committed. A
// Keeper signs every minute how far the chain has come, and Verify finds whatever was
// altered. The tables belong to the store of the service that calls: its migrations contain
// Schema and SchemaCheckpoints word for word. This package knows that store only as a
// Database, because a process that has none streams its records too.
package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"
)

// The outcomes of an event.
const (
	// Intent: it is about to happen; another record tells how it ended.
	Intent = "intent"
	// Success: it happened.
	Success = "success"
	// Refused: somebody was not allowed to.
	Refused = "refused"
	// Failed: it was allowed and did not happen.
	Failed = "error"
)

// Record is one event. Text is cleaned when the record is written: see Clean.
type Record struct {
	// Time is when it happened.
	Time time.Time `json:"time"`
	// Event is what happened, "subject.verb": "certificate.issued".
	Event string `json:"event"`
	// Outcome is Intent, Success, Refused or Failed.
	Outcome string `json:"outcome"`
	// Actor is who did it: a peer's mesh name, an administrator.
	Actor string `json:"actor,omitempty"`
	// Address is the client's address, without port.
	Address string `json:"address,omitempty"`
	// RequestID ties together the records of all services for one request.
	RequestID string `json:"request_id,omitempty"`
	// Label is the EST label.
	Label string `json:"label,omitempty"`
	// CSRSHA256 is the hash over the DER of the certificate request, hexadecimal.
	CSRSHA256 string `json:"csr_sha256,omitempty"`
	// Identity is principal@REALM.
	Identity string `json:"identity,omitempty"`
	// Method is how the identity was proved.
	Method string `json:"method,omitempty"`
	// Serial is the certificate's serial number, hexadecimal.
	Serial string `json:"serial,omitempty"`
	// Reason is why it was refused or failed: for operators, never for clients.
	Reason string `json:"reason,omitempty"`
	// Detail is what else belongs to this event.
	Detail map[string]string `json:"detail,omitempty"`
}

// Entry is a record in its place in the chain.
type Entry struct {
	// Seq counts the records of a store from 1, without a gap.
	Seq int64
	// Hash is SHA-256 over the hash before it and this record.
	Hash [sha256.Size]byte
	// JSON is the record, exactly as hashed and stored.
	JSON []byte
}

// Database is a store with the chain's tables; *store.DB is one.
type Database interface {
	// Write runs fn in a transaction and returns when it is durable.
	Write(ctx context.Context, fn func(ctx context.Context, tx Transaction) error) error
	// Read runs fn over one snapshot of what has been committed.
	Read(ctx context.Context, fn func(ctx context.Context, tx Transaction) error) error
}

// Transaction is store.Tx, which is an alias too, so that *store.DB is a Database.
type Transaction = interface {
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) *sql.Row
}

// Schema is the DDL of the chain's tables, for the first migration of a store's owner.
const Schema = `CREATE TABLE audit_head (
    id SMALLINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL
);
CREATE TABLE audit_record (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    record TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE
);
`

// next encodes the record, locks the chain, and returns the record with its number, and the
// hash before it.
func next(ctx context.Context, tx Transaction, r Record) (e Entry, previous []byte, err error) {
	if e.JSON, err = json.Marshal(r.clean()); err != nil {
		return Entry{}, nil, fmt.Errorf("encoding an audit record: %w", err)
	}
	e.Seq, previous, err = take(ctx, tx)
	if errors.Is(err, sql.ErrNoRows) { // the first record of a store makes the head
		_, err = tx.Exec(ctx, `INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, $1) ON CONFLICT (id) DO NOTHING`,
			make([]byte, sha256.Size))
		if err == nil {
			e.Seq, previous, err = take(ctx, tx)
		}
	}
	if err != nil {
		return Entry{}, nil, fmt.Errorf("locking the audit chain: %w", err)
	}
	return e, previous, nil
}

// take takes the next number.
func take(ctx context.Context, tx Transaction) (seq int64, previous []byte, err error) {
	err = tx.QueryRow(ctx, `UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, hash`).Scan(&seq, &previous)
	return seq, previous, err
}

// move makes e the last record.
func move(ctx context.Context, tx Transaction, e Entry) error {
	if _, err := tx.Exec(ctx, `UPDATE audit_head SET hash = $1 WHERE id = 1`, e.Hash[:]); err != nil {
		return fmt.Errorf("moving the audit chain: %w", err)
	}
	return nil
}

// Link returns the hash of record number seq, whose JSON is text, behind the hash of the
// record before it (32 zero octets before the first).
func Link(previous []byte, seq int64, text []byte) (sum [sha256.Size]byte) {
	link(sha256.New(), sum[:0], previous, seq, text)
	return sum
}

// link is Link by a hash that the caller has, into the 32 octets behind sum.
func link(h hash.Hash, sum, previous []byte, seq int64, text []byte) {
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(seq))
	h.Reset()
	h.Write([]byte("estuary/audit/v1\x00"))
	h.Write(previous)
	h.Write(number[:])
	h.Write(text)
	h.Sum(sum)
}
