// Package token turns a password into the enrolment token that it is, or into the reason
// why it is none.
//
// authn calls Check; serve makes tokens with Make and Hasher; what is stored of them is in
// state. A token is random octets with a check sum behind a prefix, so that what is none is
// told apart without a look into the database, and never sent on to a directory.
package token

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"

	"github.com/estuary-pki/estuary/services/secret"
)

const (
	// MinOctets and MaxOctets bound the randomness of a token.
	MinOctets = 16
	// MaxOctets is the most that [otp] token_length may ask for.
	MaxOctets = 64

	prefix      = "est_"
	checkDomain = "estuary/token/v1\x00"
	checkOctets = 5
	idOctets    = 16
)

var lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Make returns a new token with that many random octets, MinOctets to MaxOctets.
func Make(octets int) (secret.Bytes, error) {
	if octets < MinOctets || octets > MaxOctets {
		return secret.Bytes{}, fmt.Errorf("making a token of %d random octets: %d to %d are accepted", octets, MinOctets, MaxOctets)
	}
	raw := make([]byte, octets, octets+checkOctets)
	_, _ = rand.Read(raw) // never fails: it ends the process instead
	raw = append(raw, checkSum(raw)...)
	defer clear(raw)
	return secret.New(lower.AppendEncode([]byte(prefix), raw)), nil
}

// HasForm tells whether b has the form of a token: the prefix, then the lower-case base32
// (RFC 4648 section 6, no padding, one spelling only) of MinOctets to MaxOctets octets and
// their check sum. It says nothing of whether such a token exists.
func HasForm(b []byte) bool {
	text, ok := bytes.CutPrefix(b, []byte(prefix))
	if !ok || len(text) > lower.EncodedLen(MaxOctets+checkOctets) {
		return false
	}
	raw, err := lower.AppendDecode(nil, text)
	defer clear(raw)
	if err != nil || len(raw) < MinOctets+checkOctets {
		return false
	}
	// The decoder skips line ends and ignores left-over bits: a second spelling of the same
	// octets would be a second token for whoever compares texts.
	again := lower.AppendEncode(nil, raw)
	defer clear(again)
	random, sum := raw[:len(raw)-checkOctets], raw[len(raw)-checkOctets:]
	return subtle.ConstantTimeCompare(again, text) == 1 &&
		subtle.ConstantTimeCompare(checkSum(random), sum) == 1
}

func checkSum(random []byte) []byte {
	h := sha256.New()
	h.Write([]byte(checkDomain))
	h.Write(random)
	return h.Sum(nil)[:checkOctets]
}

// NewID returns a new public id: 16 random octets in 26 characters of lower-case base32.
func NewID() string {
	raw := make([]byte, idOctets)
	_, _ = rand.Read(raw) // never fails: it ends the process instead
	return lower.EncodeToString(raw)
}
