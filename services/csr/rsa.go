package csr

import (
	"encoding/asn1"
	"math/big"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of RSA keys.
const (
	minModulusBits = 2048
	maxModulusBits = 8192
	// minExponent follows FIPS 186-5 section 5.5: above 2^16. 1 signs nothing, 3 and its like
	// turn sloppy padding checks elsewhere into forgeries.
	minExponent = 65537
	// maxExponent is the largest that crypto/rsa verifies with; it bounds the cost as well.
	maxExponent = 1<<31 - 1
	// primeLimit: no prime below it may divide a modulus (the CA/Browser Forum's baseline
	// requirements, section 6.1.6).
	primeLimit = 752
	// fermatRounds is how far from the square root two primes are searched for (the same
	// requirements, section 6.1.1.3).
	fermatRounds = 100
)

// checkRSA refuses an RSAPublicKey (RFC 8017 appendix A.1.1) of a size or exponent that is
// not accepted, then one that can be factored at once. It returns the size in bits.
func checkRSA(parameters, key cryptobyte.String) (int, error) {
	const where = "RSA key (RFC 8017 appendix A.1.1)"
	if string(parameters) != string(asn1.NullBytes) {
		return 0, refuse("the parameters of the RSA key are not NULL (RFC 3279 section 2.3.1)")
	}
	in, err := only(key, cbasn1.SEQUENCE, "the RSAPublicKey")
	if err != nil {
		return 0, within(where, err)
	}
	n, e := new(big.Int), new(big.Int)
	if !in.ReadASN1Integer(n) {
		return 0, refuse("the RSA modulus is not an integer in DER (RFC 8017 appendix A.1.1)")
	}
	if !in.ReadASN1Integer(e) {
		return 0, refuse("the RSA exponent is not an integer in DER (RFC 8017 appendix A.1.1)")
	}
	if err := end(in, "the RSA exponent"); err != nil {
		return 0, within(where, err)
	}
	if n.Sign() <= 0 {
		return 0, refuse("the RSA modulus is not positive (RFC 8017 section 3.1)")
	}
	if bits := n.BitLen(); bits < minModulusBits || bits > maxModulusBits {
		return 0, refuse("RSA modulus of %d bits: %d to %d are accepted (RFC 8017 section 3.1)", bits, minModulusBits, maxModulusBits)
	}
	if e.Cmp(big.NewInt(minExponent)) < 0 || e.Cmp(big.NewInt(maxExponent)) > 0 || e.Bit(0) == 0 {
		return 0, refuse("RSA exponent: odd numbers from %d to %d are accepted (FIPS 186-5 section 5.5)", minExponent, maxExponent)
	}
	return n.BitLen(), checkFactors(n)
}

// checkFactors refuses a modulus that known attacks factor without effort.
func checkFactors(n *big.Int) error {
	switch {
	case n.Bit(0) == 0:
		return refuse("the RSA modulus is even")
	case smallFactor(n):
		return refuse("the RSA modulus has a prime factor below %d", primeLimit)
	case hasROCA(n):
		return refuse("the RSA key comes from a chip or library with the ROCA flaw (CVE-2017-15361)")
	case closePrimes(n):
		return refuse("the primes of the RSA modulus are too close to each other (CVE-2022-26320)")
	}
	return nil
}

// primorial is the product of the odd primes below primeLimit.
var primorial = sync.OnceValue(func() *big.Int {
	product := big.NewInt(1)
	for i := int64(3); i < primeLimit; i += 2 {
		if p := big.NewInt(i); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
})

func smallFactor(n *big.Int) bool {
	r := new(big.Int).Mod(n, primorial())
	return r.GCD(nil, nil, r, primorial()).Cmp(big.NewInt(1)) != 0
}

// rocaPrimes are the primes modulo which 65537 generates few enough residues to tell
// something; a sound modulus passes for a flawed one once in 2^27 (Nemec and others, "The
// Return of Coppersmith's Attack", 2017, section 4.1).
var rocaPrimes = []uint64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157}

// hasROCA tells whether n is a power of 65537 modulo every one of rocaPrimes, as the
// product of two flawed primes (k·M + 65537^a mod M) is.
func hasROCA(n *big.Int) bool {
	r := new(big.Int)
	for _, p := range rocaPrimes {
		want := r.Mod(n, r.SetUint64(p)).Uint64()
		x := uint64(1)
		for x != want {
			if x = x * 65537 % p; x == 1 {
				return false
			}
		}
	}
	return true
}

// closePrimes runs fermatRounds of Fermat's factoring: n = a² - b² with a next to √n.
func closePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	bb := new(big.Int).Mul(a, a)
	bb.Sub(bb, n)
	if bb.Sign() < 0 { // round the root up: bb = (a+1)² - n
		bb.Add(bb, a).Add(bb, a).Add(bb, big.NewInt(1))
		a.Add(a, big.NewInt(1))
	}
	root, rest := new(big.Int), new(big.Int)
	for range fermatRounds {
		if maybeSquare(rest.Mod(bb, squareModulus).Uint64()) {
			root.Sqrt(bb)
			if rest.Mul(root, root).Cmp(bb) == 0 {
				return true
			}
		}
		bb.Add(bb, a).Add(bb, a).Add(bb, big.NewInt(1))
		a.Add(a, big.NewInt(1))
	}
	return false
}

// squareModulus is the product of the moduli of maybeSquare.
var squareModulus = big.NewInt(64 * 63 * 65 * 11)

// maybeSquare tells whether a number that leaves r modulo squareModulus can be a square. It
// spares all but one in a hundred square roots, the whole cost of the search.
func maybeSquare(r uint64) bool {
	for _, m := range []uint64{64, 63, 65, 11} {
		x := uint64(0)
		for x*x%m != r%m {
			if x++; x > m/2 {
				return false
			}
		}
	}
	return true
}
