package csr_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"sync"
)

// rsaWithExponent is a 2048-bit key with the exponent, which has to be odd.
func rsaWithExponent(e int) *rsa.PrivateKey {
	one := big.NewInt(1)
	for {
		p, q := must(rand.Prime(rand.Reader, 1024)), must(rand.Prime(rand.Reader, 1024))
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(big.NewInt(int64(e)), phi)
		if d == nil {
			continue
		}
		k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: e}, D: d, Primes: []*big.Int{p, q}}
		k.Precompute()
		return k
	}
}

// rocaModulus is the product of two primes k·M + 65537^a mod M, as the flawed library of
// CVE-2017-15361 made them: M is the product of the first 126 primes for 2048 bits, 225 for 4096.
func rocaModulus(bits int) *big.Int {
	count := map[int]int{2048: 126, 3072: 126, 4096: 225}[bits]
	m := big.NewInt(1)
	for i := int64(2); count > 0; i++ {
		if p := big.NewInt(i); p.ProbablyPrime(0) {
			m.Mul(m, p)
			count--
		}
	}
	for {
		n := new(big.Int).Mul(rocaPrime(m, bits/2), rocaPrime(m, bits/2))
		if n.BitLen() == bits {
			return n
		}
	}
}

func rocaPrime(m *big.Int, bits int) *big.Int {
	top := new(big.Int).Lsh(big.NewInt(1), uint(bits))
	low := new(big.Int).Rsh(new(big.Int).Mul(top, big.NewInt(3)), 2)
	span := new(big.Int).Div(new(big.Int).Sub(top, low), m)
	for {
		k := new(big.Int).Add(must(rand.Int(rand.Reader, span)), new(big.Int).Div(low, m))
		a := must(rand.Int(rand.Reader, m))
		p := new(big.Int).Exp(big.NewInt(65537), a, m)
		p.Add(p, k.Mul(k, m))
		if p.BitLen() == bits && p.ProbablyPrime(4) {
			return p
		}
	}
}

// closeModulus is a product of two primes that differ by less than 2^distance.
func closeModulus(bits, distance int) *big.Int {
	for {
		p := must(rand.Prime(rand.Reader, bits/2))
		q := new(big.Int).Add(p, must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(distance)))))
		q.SetBit(q, 0, 1)
		for !q.ProbablyPrime(4) {
			q.Add(q, big.NewInt(2))
		}
		if n := new(big.Int).Mul(p, q); n.BitLen() == bits {
			return n
		}
	}
}

// soundModulus is the modulus of an ordinary key of the test run.
var soundModulus = sync.OnceValue(func() *big.Int { return must(rsa.GenerateKey(rand.Reader, 2048)).N })

// randomOdd is an odd number of exactly the size: for sizes whose keys take long to make.
func randomOdd(bits int) *big.Int {
	n := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1))))
	return n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
}

// flawedModuli are those that take long to make, made once.
var flawedModuli = sync.OnceValue(func() map[string]*big.Int {
	out := map[string]*big.Int{
		"ROCA of 3072 bits":                     rocaModulus(3072),
		"ROCA of 4096 bits":                     rocaModulus(4096),
		"RSA of 3072 bits, primes within 2^760": closeModulus(3072, 760),
	}
	for i := range 4 {
		out[fmt.Sprintf("ROCA of 2048 bits, %d", i)] = rocaModulus(2048)
	}
	for _, distance := range []int{8, 64, 300, 512} {
		out[fmt.Sprintf("RSA primes within 2^%d", distance)] = closeModulus(2048, distance)
	}
	p := must(rand.Prime(rand.Reader, 1024))
	out["RSA square"] = new(big.Int).Mul(p, p)
	return out
})
