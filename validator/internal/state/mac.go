package state

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

const rowDomain = "estuary/validator/token-row/v1\x00"

// tokenMAC returns HMAC-SHA256 over the row as it is stored. Every field has its length
// before it, or the end of one could be moved into the next.
func (s *Store) tokenMAC(r tokenRow) []byte {
	m := hmac.New(sha256.New, s.key.Reveal())
	m.Write([]byte(rowDomain))
	for _, field := range [][]byte{
		[]byte(r.id), r.index, []byte(r.algorithm), r.hash, []byte(r.clientID),
		number(r.maxUses), number(r.createdAt), number(r.expiresAt), number(r.revokedAt),
		r.requiredSPKI, []byte(r.allowedNames), []byte(r.createdBy),
	} {
		m.Write(number(int64(len(field))))
		m.Write(field)
	}
	return m.Sum(nil)
}

func (s *Store) genuine(r tokenRow) bool { return hmac.Equal(r.mac, s.tokenMAC(r)) }

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
