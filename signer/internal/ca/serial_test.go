package ca_test

import (
	"flag"
	"math"
	"testing"

	"github.com/estuary-pki/estuary/signer/internal/ca"
)

// serials is how many TestSerials draws.
var serials = flag.Int("serials", 100_000, "serial numbers that TestSerials draws")

// Each of the 158 random bits of a serial number is a fair coin, and no number comes twice.
func TestSerials(t *testing.T) {
	drawn := *serials
	seen := make(map[string]bool, drawn)
	var ones [160]int
	for range drawn {
		n, digits, err := ca.NewSerial()
		if err != nil {
			t.Fatal(err)
		}
		if n.Sign() != 1 || len(n.Bytes()) != 20 || len(digits) != 40 || n.Text(16) != digits {
			t.Fatalf("serial number %s, written %s", n.Text(16), digits)
		}
		seen[digits] = true
		for bit := range ones {
			ones[bit] += int(n.Bit(bit))
		}
	}
	if len(seen) != drawn {
		t.Errorf("%d of %d serial numbers came twice", drawn-len(seen), drawn)
	}
	random := 0
	for bit, count := range ones {
		// Six standard deviations: once in half a billion bits by chance.
		if math.Abs(float64(count)-float64(drawn)/2) < 6*math.Sqrt(float64(drawn))/2 {
			random++
			continue
		}
		if want := map[int]int{159: 0, 158: drawn}; bit < 158 || count != want[bit] {
			t.Errorf("bit %d is set in %d of %d", bit, count, drawn)
		}
	}
	if random < 127 {
		t.Errorf("%d random bits, fewer than 127", random)
	}
	t.Logf("reliability: serial numbers: %d drawn, %d different, %d random bits each", drawn, len(seen), random)
}
