package otpd_test

import (
	"testing"

	"github.com/estuary-pki/estuary/validator/internal/otpd"
)

// FuzzDecode demands of every packet: an error, or a name and a password that were in it.
func FuzzDecode(f *testing.F) {
	signed := ask(3, "otto@IPA.TEST", "Secret.123456")
	signed.signed = true
	f.Add(ask(1, "otto", "x").octets())
	f.Add(ask(2, "", "").octets())
	f.Add(signed.octets())
	f.Add(query{code: 1, id: 1, extra: []byte{1, 9, 'x'}}.octets())
	f.Fuzz(func(t *testing.T, octets []byte) {
		if len(octets) < 20 || len(octets) > 4096 {
			return
		}
		user, password, err := otpd.Decode(octets)
		if err == nil && (len(user) > 253 || len(password) > 128) {
			t.Errorf("a name of %d octets, a password of %d", len(user), len(password))
		}
	})
}
