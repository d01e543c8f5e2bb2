package csr

import (
	"crypto/ed25519"
	"encoding/hex"
	"math/big"
	"slices"
)

// lowOrder are the y coordinates of the points of order 1, 2, 4 and 8 of edwards25519, little
// endian, without the sign of x. Under such a key a signature can be made that fits many
// messages, without a private key.
var lowOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
}

// checkEd25519 refuses what is not the canonical encoding of a point of edwards25519 (RFC
// 8032 section 5.1.3) and a point of low order.
func checkEd25519(key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return refuse("the Ed25519 key has %d octets, not 32 (RFC 8032 section 5.1.5)", len(key))
	}
	le := slices.Clone(key)
	le[31] &= 0x7f
	if slices.Contains(lowOrder, hex.EncodeToString(le)) {
		return refuse("the Ed25519 key is a point of low order (RFC 8032 section 5.1)")
	}
	slices.Reverse(le)
	y := new(big.Int).SetBytes(le)
	p := new(big.Int).Lsh(big.NewInt(1), 255)
	p.Sub(p, big.NewInt(19))
	if y.Cmp(p) >= 0 {
		return refuse("the Ed25519 key is not encoded canonically (RFC 8032 section 5.1.3)")
	}
	// x² = (y²-1) / (dy²+1) with d = -121665/121666. A quotient is a square when the product
	// is, and the fraction in d goes the same way: (y²-1)·121666·(121666-121665·y²).
	yy := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(yy, big.NewInt(1))
	v := new(big.Int).Sub(big.NewInt(121666), yy.Mul(yy, big.NewInt(121665)))
	u.Mul(u, v).Mul(u, big.NewInt(121666))
	if big.Jacobi(u.Mod(u, p), p) == -1 {
		return refuse("the Ed25519 key is not a point of the curve (RFC 8032 section 5.1.3)")
	}
	return nil
}
