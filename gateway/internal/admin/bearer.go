package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// bearerPrefix makes a leaked token recognisable, and keeps it apart from enrolment tokens.
const bearerPrefix = "estadm_"

// NewBearerToken makes a bearer token for the admin API out of 32 random octets. The hash,
// "sha256:" and 64 hexadecimal digits, is what the configuration keeps as token_hash.
func NewBearerToken() (token, hash string) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the process instead
	token = bearerPrefix + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(token))
	return token, "sha256:" + hex.EncodeToString(sum[:])
}
