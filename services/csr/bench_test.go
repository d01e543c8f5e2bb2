package csr_test

import (
	"strings"
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

// BenchmarkParseRefusal is the price of the two most expensive refusals of RSA keys: a sound
// key of the largest size under a wrong signature, and a modulus as large as a request can be.
func BenchmarkParseRefusal(b *testing.B) {
	for says, size := range map[string]int{"signature does not fit": 8192, "modulus of 300000 bits": 300000} {
		var der []byte
		for err := error(nil); err == nil || !strings.Contains(err.Error(), says); _, err = csr.Parse(der) {
			der = request{spki: rsaSPKI(randomOdd(size), 65537), algorithm: rsa256, signature: make([]byte, 1025)}.der(b)
		}
		b.Run(says, func(b *testing.B) {
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
