package dn

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
)

// Equal tells whether two DER names are the same by X.500 rules: case and repeated blanks
// do not count, nor does the string type, since clients encode anew what they were given
// (RFC 5280 section 7.1). A name that cannot be read equals nothing.
func Equal(a, b []byte) bool {
	x, errX := normal(a)
	y, errY := normal(b)
	return errX == nil && errY == nil && x == y
}

// IsEmpty tells whether a DER name has no elements.
func IsEmpty(der []byte) bool { return len(der) == 2 && der[0] == 0x30 && der[1] == 0 }

// normal returns a text that is the same for equal names. Lengths stand before values, so
// that no value can look like the border between two.
func normal(der []byte) (string, error) {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("reading name: %w", err)
	}
	var b strings.Builder
	for _, set := range sequence {
		fmt.Fprintf(&b, "/%d", len(set))
		for _, e := range set {
			value := strings.ToLower(strings.Join(strings.Fields(fmt.Sprint(e.Value)), " "))
			fmt.Fprintf(&b, ",%s=%d:%s", e.Type, len(value), value)
		}
	}
	return b.String(), nil
}
