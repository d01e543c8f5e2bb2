package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
)

const insertToken = `INSERT INTO enrolment_token (` + columns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

// CreateToken stores a token and the audit record of its making in one transaction. An id
// or index that exists is an error for which store.Conflict is true.
func (s *Store) CreateToken(ctx context.Context, t Token, r audit.Record) error {
	row, err := rowOf(t)
	if err != nil {
		return err
	}
	return s.write(ctx, func(ctx context.Context, tx store.Tx) (*audit.Record, error) {
		_, err := tx.Exec(ctx, insertToken, row.id, row.index, row.algorithm, row.hash, row.clientID,
			row.maxUses, row.createdAt, row.expiresAt, row.revokedAt, row.requiredSPKI, row.allowedNames,
			row.createdBy, s.tokenMAC(row))
		if err != nil {
			return nil, fmt.Errorf("storing token %s: %w", row.id, err)
		}
		return &r, nil
	})
}

const tokenByIndex = `SELECT ` + columns + ` FROM enrolment_token WHERE token_index = $1`

// TokenByIndex returns the token with this index: ErrNotFound when there is none, ErrForged
// when its row does not carry its MAC.
func (s *Store) TokenByIndex(ctx context.Context, index []byte) (Token, error) {
	var t Token
	err := s.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		row, err := s.one(tx.QueryRow(ctx, tokenByIndex, index))
		if err != nil {
			return err
		}
		t, err = row.token()
		return err
	})
	return t, err
}

const (
	tokenByID = `SELECT ` + columns + ` FROM enrolment_token WHERE id = $1`
	endByID   = `UPDATE enrolment_token SET revoked_at = $2, mac = $3 WHERE id = $1 AND revoked_at = 0`
)

// RevokeToken ends a token and returns it as it is then. The audit record that record makes
// of it is stored in the same transaction; a token that was revoked before stays as it was,
// and nothing is recorded. Errors: ErrNotFound, ErrForged.
func (s *Store) RevokeToken(ctx context.Context, id string, at time.Time, record func(Token) audit.Record) (Token, error) {
	var t Token
	err := s.write(ctx, func(ctx context.Context, tx store.Tx) (*audit.Record, error) {
		row, err := s.one(tx.QueryRow(ctx, tokenByID, id))
		if err != nil {
			return nil, err
		}
		ended := row
		ended.revokedAt = store.Micros(at)
		n, err := tx.Exec(ctx, endByID, id, ended.revokedAt, s.tokenMAC(ended))
		if err != nil {
			return nil, fmt.Errorf("revoking token %s: %w", id, err)
		}
		// What counts is what is stored: another call may have come first.
		if row, err = s.one(tx.QueryRow(ctx, tokenByID, id)); err != nil {
			return nil, err
		}
		if t, err = row.token(); err != nil || n == 0 {
			return nil, err
		}
		r := record(t)
		return &r, nil
	})
	return t, err
}

// one reads a single row and verifies its MAC.
func (s *Store) one(from *sql.Row) (tokenRow, error) {
	row, err := scanToken(from)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return tokenRow{}, ErrNotFound
	case err != nil:
		return tokenRow{}, fmt.Errorf("reading a token: %w", err)
	case !s.genuine(row):
		return tokenRow{}, ErrForged
	}
	return row, nil
}
