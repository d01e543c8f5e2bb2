package assertion_test

import (
	"errors"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/fault"
)

// What was good when it was used is good for ever, for this request and under this key.
func TestOpenStored(t *testing.T) {
	l := newLab(t)
	sealed, err := assertion.Seal(l.assertion(), l.key)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := assertion.NewOpener(assertion.OpenerConfig{
		Audience: "ca", Keys: []assertion.PublicKey{l.public}, Now: func() time.Time { return now.Add(48 * time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opener.Open(sealed, l.want); err == nil {
		t.Error("opened two days late")
	}
	want := l.want
	want.Gateway = "" // which one presented it was checked then
	v, err := opener.OpenStored(sealed, want, now)
	if err != nil || v.KeyID() != "v1" || v.Message().GetGateway() != l.want.Gateway {
		t.Fatalf("%v, key %s", err, v.KeyID())
	}
	for name, open := range map[string]func() error{
		"later": func() error { _, err := opener.OpenStored(sealed, want, now.Add(time.Hour)); return err },
		"earlier": func() error {
			_, err := opener.OpenStored(sealed, want, now.Add(-time.Hour))
			return err
		},
		"another request": func() error {
			other := want
			other.CSRSHA256[0] ^= 1
			_, err := opener.OpenStored(sealed, other, now)
			return err
		},
		"another key": func() error {
			other := want
			other.SPKISHA256[0] ^= 1
			_, err := opener.OpenStored(sealed, other, now)
			return err
		},
		"withdrawn": func() error {
			none, err := assertion.NewOpener(assertion.OpenerConfig{Audience: "ca"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = none.OpenStored(sealed, want, now)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := open(); !errors.Is(err, fault.Internal) {
				t.Errorf("answered %v", err)
			}
		})
	}
}
