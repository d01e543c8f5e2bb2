package state

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
)

// Acceptance says that a credential was checked and found good together with a public key.
// It forbids nothing: the same credential may be accepted with other keys too.
type Acceptance struct {
	// Credential is the digest of what was checked: Token.Credential.
	Credential [sha256.Size]byte
	// SPKISHA256 is the hash over the public key.
	SPKISHA256 [sha256.Size]byte
	// AcceptedAt is when it was found good.
	AcceptedAt time.Time
	// KeepUntil is from when on it counts for nothing.
	KeepUntil time.Time
}

const digestDomain = "estuary/validator/token-credential/v1\x00"

// Credential returns the digest that stands for the token in an Acceptance. It covers what
// the token is verified by, so that another row under the same index inherits nothing.
func (t Token) Credential() [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(digestDomain))
	return [sha256.Size]byte(sum(h, [][]byte{[]byte(t.ID), t.Index, []byte(t.Algorithm), t.Hash}))
}

// It replaces: whoever records an acceptance has made the check, and what stood there before
// did not count.
const insertCheck = `INSERT INTO credential_check (credential, spki, accepted_at, keep_until, mac)
	VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT (credential, spki) DO UPDATE SET accepted_at = excluded.accepted_at,
		keep_until = excluded.keep_until, mac = excluded.mac`

// Accept stores an acceptance and its audit record in one transaction. When it returns an
// error neither is there, and the credential must not be accepted.
func (s *Store) Accept(ctx context.Context, a Acceptance, r audit.Record) error {
	at, until := store.Micros(a.AcceptedAt), store.Micros(a.KeepUntil)
	return s.write(ctx, func(ctx context.Context, tx store.Tx) (*audit.Record, error) {
		_, err := tx.Exec(ctx, insertCheck, a.Credential[:], a.SPKISHA256[:], at, until,
			s.checkMAC(a.Credential, a.SPKISHA256, at, until))
		if err != nil {
			return nil, fmt.Errorf("storing an acceptance: %w", err)
		}
		return &r, nil
	})
}

const checkOf = `SELECT accepted_at, keep_until, mac FROM credential_check WHERE credential = $1 AND spki = $2`

// Accepted tells whether the credential was accepted with the public key, as something that
// still counts now. Error: ErrForged when the row does not carry its MAC.
func (s *Store) Accepted(ctx context.Context, credential, spki [sha256.Size]byte, now time.Time) (bool, error) {
	var at, until int64
	var mac []byte
	err := s.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, checkOf, credential[:], spki[:]).Scan(&at, &until, &mac)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for an acceptance: %w", err)
	case !hmac.Equal(mac, s.checkMAC(credential, spki, at, until)):
		return false, ErrForged
	}
	return store.Micros(now) < until, nil
}

func (s *Store) checkMAC(credential, spki [sha256.Size]byte, at, until int64) []byte {
	return s.rowMAC(checkRowDomain, credential[:], spki[:], number(at), number(until))
}
