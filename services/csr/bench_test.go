package csr_test

import (
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
)

func BenchmarkParse(b *testing.B) {
	requests := sound(b)
	for _, name := range []string{"rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521", "ed25519"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := csr.Parse(requests[name]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseRefusal is the price of the largest RSA key that reaches the search for
// factors, and of one that is refused for its size.
func BenchmarkParseRefusal(b *testing.B) {
	for name, size := range map[string]int{"rsa8192 signature": 8192, "rsa300000 size": 300000} {
		der := request{spki: rsaSPKI(randomOdd(size), 65537), algorithm: rsa256}.der(b)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := csr.Parse(der); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, body := range bodies(request{}.der(b)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := csr.Decode(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
