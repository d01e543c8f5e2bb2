package state

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

const (
	rowDomain        = "estuary/validator/token-row/v1\x00"
	checkRowDomain   = "estuary/validator/credential-check-row/v1\x00"
	oneTimeRowDomain = "estuary/validator/one-time-row/v1\x00"
	subjectDomain    = "estuary/validator/login-subject/v1\x00"
)

// rowMAC returns HMAC-SHA256 over a row as it is stored, behind the domain of its table.
func (s *Store) rowMAC(domain string, fields ...[]byte) []byte {
	m := hmac.New(sha256.New, s.key.Reveal())
	m.Write([]byte(domain))
	return sum(m, fields)
}

// sum returns the hash over the fields. Each has its length before it, or the end of one
// could be moved into the next.
func sum(h hash.Hash, fields [][]byte) []byte {
	for _, field := range fields {
		h.Write(number(int64(len(field))))
		h.Write(field)
	}
	return h.Sum(nil)
}

func (s *Store) tokenMAC(r tokenRow) []byte {
	return s.rowMAC(rowDomain,
		[]byte(r.id), r.index, []byte(r.algorithm), r.hash, []byte(r.clientID),
		number(r.maxUses), number(r.createdAt), number(r.expiresAt), number(r.revokedAt),
		r.requiredSPKI, []byte(r.allowedNames), []byte(r.createdBy))
}

func (s *Store) genuine(r tokenRow) bool { return hmac.Equal(r.mac, s.tokenMAC(r)) }

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
