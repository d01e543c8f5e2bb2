package state

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/store"
)

// Token is a stored enrolment token. Times have microseconds.
type Token struct {
	// ID is the public id.
	ID string
	// Index is the keyed digest under which the token is found, unique.
	Index []byte
	// Algorithm and Hash verify the token.
	Algorithm string
	// Hash is what the algorithm made of the token.
	Hash []byte
	// ClientID is the name of the device.
	ClientID string
	// MaxUses is how many certificates it is good for.
	MaxUses uint32
	// CreatedAt is when it was made.
	CreatedAt time.Time
	// ExpiresAt is from when on it is worthless.
	ExpiresAt time.Time
	// RevokedAt is when it was ended; zero when it was not.
	RevokedAt time.Time
	// RequiredSPKI is the SHA-256 of the only key it may certify; empty for any.
	RequiredSPKI []byte
	// AllowedNames are the typed names it allows in a certificate.
	AllowedNames []string
	// CreatedBy is who asked for it.
	CreatedBy string
}

// tokenRow is a row as it is stored and as its MAC covers it.
type tokenRow struct {
	id, algorithm, clientID, allowedNames, createdBy string
	index, hash, requiredSPKI, mac                   []byte
	maxUses, createdAt, expiresAt, revokedAt         int64
}

const columns = `id, token_index, hash_algorithm, hash, client_id, max_uses, created_at,
	expires_at, revoked_at, required_spki, allowed_names, created_by, mac`

type scanner interface{ Scan(dest ...any) error }

func scanToken(from scanner) (r tokenRow, err error) {
	err = from.Scan(&r.id, &r.index, &r.algorithm, &r.hash, &r.clientID, &r.maxUses, &r.createdAt,
		&r.expiresAt, &r.revokedAt, &r.requiredSPKI, &r.allowedNames, &r.createdBy, &r.mac)
	return r, err
}

func rowOf(t Token) (tokenRow, error) {
	names := t.AllowedNames
	if names == nil {
		names = []string{}
	}
	text, err := json.Marshal(names)
	if err != nil {
		return tokenRow{}, fmt.Errorf("encoding allowed names: %w", err)
	}
	r := tokenRow{
		id: t.ID, algorithm: t.Algorithm, clientID: t.ClientID, allowedNames: string(text), createdBy: t.CreatedBy,
		index: t.Index, hash: t.Hash, requiredSPKI: t.RequiredSPKI,
		maxUses: int64(t.MaxUses), createdAt: store.Micros(t.CreatedAt), expiresAt: store.Micros(t.ExpiresAt),
	}
	if r.requiredSPKI == nil {
		r.requiredSPKI = []byte{}
	}
	if !t.RevokedAt.IsZero() {
		r.revokedAt = store.Micros(t.RevokedAt)
	}
	return r, nil
}

// token returns what a genuine row says.
func (r tokenRow) token() (Token, error) {
	t := Token{
		ID: r.id, Index: r.index, Algorithm: r.algorithm, Hash: r.hash, ClientID: r.clientID,
		MaxUses: uint32(r.maxUses), CreatedAt: store.Time(r.createdAt), ExpiresAt: store.Time(r.expiresAt),
		RequiredSPKI: r.requiredSPKI, CreatedBy: r.createdBy,
	}
	if r.revokedAt != 0 {
		t.RevokedAt = store.Time(r.revokedAt)
	}
	if err := json.Unmarshal([]byte(r.allowedNames), &t.AllowedNames); err != nil {
		return Token{}, fmt.Errorf("decoding allowed names of token %s: %w", r.id, err)
	}
	return t, nil
}
