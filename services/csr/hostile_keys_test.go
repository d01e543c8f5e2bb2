package csr_test

import (
	"crypto/elliptic"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
)

func bits(b []byte) []byte { return tlv(3, []byte{0}, b) }

func integer(n *big.Int) []byte {
	b := n.Bytes()
	if n.Sign() == 0 || b[0] >= 0x80 {
		b = append([]byte{0}, b...)
	}
	return tlv(2, b)
}

var rsaAlgorithm = seq(oidOf(1, 2, 840, 113549, 1, 1, 1), null)

func rsaSPKI(n *big.Int, e int64) []byte {
	return seq(rsaAlgorithm, bits(seq(integer(n), integer(big.NewInt(e)))))
}

func ecSPKI(curve, point []byte) []byte {
	return seq(seq(oidOf(1, 2, 840, 10045, 2, 1), curve), bits(point))
}

func edSPKI(key []byte) []byte { return seq(seq(oidOf(1, 3, 101, 112)), bits(key)) }

var (
	oidP256 = oidOf(1, 2, 840, 10045, 3, 1, 7)
	oidP384 = oidOf(1, 3, 132, 0, 34)
	oidP521 = oidOf(1, 3, 132, 0, 35)
)

func hostileKeys(t *testing.T) []hostile {
	key := func(name string, spki []byte, says string) hostile {
		// The signature is that of another key: a refusal that names the key came before it.
		return hostile{"key: " + name, request{spki: spki, signature: make([]byte, 257)}.der(t), says}
	}
	n := soundModulus()
	rsaBits := func(b []byte) []byte { return seq(rsaAlgorithm, bits(b)) }
	e := integer(big.NewInt(65537))
	out := []hostile{
		key("empty", seq(), "the algorithm is missing"),
		key("no bits", seq(rsaAlgorithm), "subjectPublicKey is missing"),
		key("tail", seq(rsaAlgorithm, bits(seq(integer(n), e)), null), "trailing octets behind the subjectPublicKey"),
		key("spare bits", seq(rsaAlgorithm, []byte{3, 2, 1, 0}), "whole number of octets"),
		key("DSA", seq(seq(oidOf(1, 2, 840, 10040, 4, 1)), bits(e)), "DSA"),
		key("X25519", seq(seq(oidOf(1, 3, 101, 110)), bits(make([]byte, 32))), "X25519"),
		key("Ed448", seq(seq(oidOf(1, 3, 101, 113)), bits(make([]byte, 57))), "Ed448"),
		key("RSASSA-PSS", seq(seq(oidOf(1, 2, 840, 113549, 1, 1, 10)), bits(seq(integer(n), e))), "RSASSA-PSS"),
		key("unknown", seq(seq(oidOf(1, 2, 3)), bits(e)), "key type 1.2.3"),
		key("RSA without NULL", seq(seq(oidOf(1, 2, 840, 113549, 1, 1, 1)), bits(seq(integer(n), e))), "not NULL"),
		key("RSA no sequence", rsaBits(e), "RSAPublicKey is missing"),
		key("RSA empty", rsaBits(nil), "RSAPublicKey is missing"),
		key("RSA without exponent", rsaBits(seq(integer(n))), "exponent is not an integer"),
		key("RSA with a third number", rsaBits(seq(integer(n), e, e)), "trailing octets behind the RSA exponent"),
		key("RSA with a tail", rsaBits(join(seq(integer(n), e), null)), "trailing octets behind the RSAPublicKey"),
		key("RSA modulus negative", rsaBits(seq(tlv(2, n.Bytes()), e)), "not positive"),
		key("RSA modulus 0", rsaSPKI(big.NewInt(0), 65537), "not positive"),
		key("RSA modulus padded", rsaBits(seq(tlv(2, []byte{0, 0}, n.Bytes()), e)), "not an integer in DER"),
		key("RSA exponent of 2^64", rsaBits(seq(integer(n), integer(new(big.Int).Lsh(big.NewInt(1), 64)))), "RSA exponent"),
		key("RSA exponent negative", rsaBits(seq(integer(n), []byte{2, 1, 0xfd})), "RSA exponent"),
		key("RSA exponent as large as the modulus", rsaBits(seq(integer(n), integer(n))), "RSA exponent"),
		key("RSA modulus even", rsaSPKI(new(big.Int).SetBit(n, 0, 0), 65537), "modulus is even"),
		key("RSA modulus a power of two", rsaSPKI(new(big.Int).Lsh(big.NewInt(1), 2047), 65537), "modulus is even"),
		key("EC without curve", seq(seq(oidOf(1, 2, 840, 10045, 2, 1)), bits(point(elliptic.P256()))), "does not name its curve"),
		key("EC with NULL", ecSPKI(null, point(elliptic.P256())), "does not name its curve"),
		key("EC with explicit parameters", ecSPKI(seq([]byte{2, 1, 1}), point(elliptic.P256())), "does not name its curve"),
		key("EC with a tail", ecSPKI(join(oidP256, null), point(elliptic.P256())), "trailing octets behind the curve"),
		key("P-224", ecSPKI(oidOf(1, 3, 132, 0, 33), point(elliptic.P224())), "P-224"),
		key("P-192", ecSPKI(oidOf(1, 2, 840, 10045, 3, 1, 1), make([]byte, 49)), "P-192"),
		key("secp256k1", ecSPKI(oidOf(1, 3, 132, 0, 10), point(elliptic.P256())), "secp256k1"),
		key("brainpool", ecSPKI(oidOf(1, 3, 36, 3, 3, 2, 8, 1, 1, 7), point(elliptic.P256())), "1.3.36.3.3.2.8.1.1.7"),
		key("P-256 point on P-384", ecSPKI(oidP384, point(elliptic.P256())), "not on curve P-384"),
		key("Ed25519 with NULL", seq(seq(oidOf(1, 3, 101, 112), null), bits(make([]byte, 32))), "has parameters"),
		key("Ed25519 of 31 octets", edSPKI(make([]byte, 31)), "31 octets"),
		key("Ed25519 of 33 octets", edSPKI(make([]byte, 33)), "33 octets"),
		key("Ed25519 of none", edSPKI(nil), "0 octets"),
		key("Ed25519 off the curve", edSPKI(append([]byte{2}, make([]byte, 31)...)), "not a point of the curve"),
	}
	out = append(out, hostileRSASizes(key)...)
	out = append(out, hostilePoints(key)...)
	return append(out, hostileEd25519(key)...)
}

func hostileRSASizes(key func(string, []byte, string) hostile) []hostile {
	var out []hostile
	for _, size := range []int{2, 64, 511, 512, 768, 1023, 1024, 1536, 2046, 2047, 8193, 8200, 16384, 65536, 300000} {
		out = append(out, key(fmt.Sprintf("RSA of %d bits", size), rsaSPKI(randomOdd(size), 65537), fmt.Sprintf("modulus of %d bits: 2048 to 8192", size)))
	}
	for _, e := range []int64{0, 1, 2, 3, 4, 5, 17, 257, 65535, 65536, 65538, 1<<31 + 1, 1<<32 - 1, 1<<32 + 1, 1 << 40} {
		out = append(out, key(fmt.Sprintf("RSA exponent %d", e), rsaSPKI(soundModulus(), e), "RSA exponent: odd numbers from 65537 to 2147483647"))
	}
	for p := int64(3); p < 752; p += 2 {
		if prime := big.NewInt(p); prime.ProbablyPrime(0) {
			out = append(out, key(fmt.Sprintf("RSA divisible by %d", p), rsaSPKI(prime.Mul(prime, soundModulus()), 65537), "prime factor below 752"))
		}
	}
	for name, n := range flawedModuli() {
		says := "too close"
		if strings.HasPrefix(name, "ROCA") {
			says = "ROCA"
		}
		out = append(out, key(name, rsaSPKI(n, 65537), says))
	}
	return out
}

func hostilePoints(key func(string, []byte, string) hostile) []hostile {
	var out []hostile
	for _, c := range []struct {
		id    []byte
		curve elliptic.Curve
	}{{oidP256, elliptic.P256()}, {oidP384, elliptic.P384()}, {oidP521, elliptic.P521()}} {
		name := c.curve.Params().Name
		good, size := point(c.curve), (c.curve.Params().BitSize+7)/8
		off := slices.Clone(good)
		off[len(off)-1] ^= 1
		large := append([]byte{4}, c.curve.Params().P.FillBytes(make([]byte, size))...)
		out = append(out,
			key(name+" off the curve", ecSPKI(c.id, off), "not on curve "+name),
			key(name+" at 0, 0", ecSPKI(c.id, append([]byte{4}, make([]byte, 2*size)...)), "not on curve"),
			key(name+" at infinity", ecSPKI(c.id, []byte{0}), "not on curve"),
			key(name+" with x = p", ecSPKI(c.id, append(large, good[1+size:]...)), "not on curve"),
			key(name+" empty", ecSPKI(c.id, nil), "not on curve"),
			key(name+" cut", ecSPKI(c.id, good[:len(good)-1]), "not on curve"),
			key(name+" long", ecSPKI(c.id, append(slices.Clone(good), 0)), "not on curve"),
			key(name+" hybrid", ecSPKI(c.id, append([]byte{6 | good[len(good)-1]&1}, good[1:]...)), "not on curve"),
			key(name+" compressed", ecSPKI(c.id, append([]byte{2 | good[len(good)-1]&1}, good[1:1+size]...)), "compressed"),
		)
	}
	return out
}

func hostileEd25519(key func(string, []byte, string) hostile) []hostile {
	var out []hostile
	for _, c := range []struct{ y, says string }{
		{"0100000000000000000000000000000000000000000000000000000000000000", "low order"},
		{"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "low order"},
		{"0000000000000000000000000000000000000000000000000000000000000000", "low order"},
		{"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "low order"},
		{"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "low order"},
		{"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "canonically"},
		{"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "canonically"},
		{"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "canonically"},
	} {
		y := must(hex.DecodeString(c.y))
		other := slices.Clone(y)
		other[31] |= 0x80
		out = append(out, key("Ed25519 "+c.y, edSPKI(y), c.says), key("Ed25519 with sign "+c.y, edSPKI(other), c.says))
	}
	return out
}

// point is the uncompressed generator, a sound point as far as its encoding goes.
func point(c elliptic.Curve) []byte {
	p := c.Params()
	size := (p.BitSize + 7) / 8
	return join([]byte{4}, p.Gx.FillBytes(make([]byte, size)), p.Gy.FillBytes(make([]byte, size)))
}

// TestWeakKeysAreRefused counts them; what a refusal costs is BenchmarkParseRefusal's.
func TestWeakKeysAreRefused(t *testing.T) {
	list := hostileKeys(t)
	if len(list) < 200 {
		t.Fatalf("%d weak keys", len(list))
	}
	for _, h := range list {
		if _, err := csr.Parse(h.der); err == nil {
			t.Errorf("%s: accepted", h.name)
		}
	}
}
