package label_test

import (
	"testing"

	"github.com/estuary-pki/estuary/services/label"
)

func TestNames(t *testing.T) {
	for s, want := range map[string]struct{ plain, reserved bool }{
		"device": {true, false}, "a-b.c_d~1": {true, false}, "cacerts": {true, true}, "SimpleEnroll": {true, true},
		"return": {true, true}, "renewal-info": {true, true}, "crl": {true, false},
		"": {}, "a/b": {}, "a b": {}, "é": {}, "%41": {}, "a\n": {},
	} {
		if label.Plain(s) != want.plain || label.Reserved(s) != want.reserved {
			t.Errorf("%q: plain %t, reserved %t", s, label.Plain(s), label.Reserved(s))
		}
	}
}
