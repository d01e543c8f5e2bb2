package ca

import (
	"crypto/rand"
	"fmt"
	"math/big"
)

// serialSize is the longest serial number that RFC 5280 section 4.1.2.2 allows, in octets.
const serialSize = 20

// NewSerial returns a serial number and its 40 hexadecimal digits. Of its 160 bits the
// highest is 0, so that it is positive in DER, and the next is 1, so that it always has 20
// octets and is never zero; 158 are random.
func NewSerial() (*big.Int, string, error) {
	b := make([]byte, serialSize)
	if _, err := rand.Read(b); err != nil {
		return nil, "", fmt.Errorf("drawing a serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), fmt.Sprintf("%x", b), nil
}
