// Package audit turns what happened into records of a hash chain.
//
// Append writes a record in the transaction of the thing that it tells of, so that
// neither exists without the other; Stream writes it out once that has been committed.
// The tables belong to the store of the service that calls: its first migration contains
// Schema word for word.
package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
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

// Tx is the part of a store's transaction that Append needs; store.Tx is one.
type Tx interface {
	Exec(ctx context.Context, query string, args ...any) (int64, error)
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

// Append adds r to the chain. The chain's head stays locked until the transaction ends, so
// call it last. When it fails the transaction must be rolled back.
func Append(ctx context.Context, tx Tx, r Record) (Entry, error) {
	text, err := json.Marshal(r.clean())
	if err != nil {
		return Entry{}, fmt.Errorf("encoding an audit record: %w", err)
	}
	e := Entry{JSON: text}
	previous, err := head(ctx, tx, &e)
	if err != nil {
		return Entry{}, fmt.Errorf("locking the audit chain: %w", err)
	}
	e.Hash = Link(previous, e.Seq, text)
	if _, err := tx.Exec(ctx, `INSERT INTO audit_record (seq, at, record, hash) VALUES ($1, $2, $3, $4)`,
		e.Seq, r.Time.UnixMicro(), string(text), e.Hash[:]); err != nil {
		return Entry{}, fmt.Errorf("writing an audit record: %w", err)
	}
	if _, err := tx.Exec(ctx, `UPDATE audit_head SET hash = $1 WHERE id = 1`, e.Hash[:]); err != nil {
		return Entry{}, fmt.Errorf("moving the audit chain: %w", err)
	}
	return e, nil
}

// head locks the chain, takes the next number into e and returns the hash before it. The
// first record of a store makes the head.
func head(ctx context.Context, tx Tx, e *Entry) ([]byte, error) {
	if _, err := tx.Exec(ctx, `INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, $1) ON CONFLICT (id) DO NOTHING`,
		make([]byte, sha256.Size)); err != nil {
		return nil, err
	}
	var previous []byte
	err := tx.QueryRow(ctx, `UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, hash`).Scan(&e.Seq, &previous)
	return previous, err
}

// Link returns the hash of record number seq, whose JSON is text, behind the hash of the
// record before it (32 zero octets before the first).
func Link(previous []byte, seq int64, text []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("estuary/audit/v1\x00"))
	h.Write(previous)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(seq)))
	h.Write(text)
	return [sha256.Size]byte(h.Sum(nil))
}
