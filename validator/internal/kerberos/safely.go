package kerberos

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/estuary-pki/estuary/validator/internal/keytab"
)

// errPanic tells that the library gave up.
var errPanic = errors.New("the Kerberos library panicked")

// safely calls the library, which panics where it meets what it did not expect. Whatever
// bytes can make it do that, they are a defective token.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			// The value may hold bytes of the client's; the place cannot.
			err = fmt.Errorf("%w (%T) at\n%s", errPanic, v, debug.Stack())
		}
	}()
	return f()
}

// usable tells whether a key is of an accepted algorithm, and as long as that wants.
func usable(k types.EncryptionKey) bool {
	size, known := keytab.KeySize(k.KeyType)
	return known && len(k.KeyValue) == size
}

// minCipher is what a ciphertext has beside its content, at least: confounder and checksum.
const minCipher = 16 + 12

// decrypt opens a ciphertext under a key of its own algorithm.
func decrypt(ed types.EncryptedData, key types.EncryptionKey, usage uint32) (plain []byte, err error) {
	if ed.EType != key.KeyType || !usable(key) || len(ed.Cipher) < minCipher {
		return nil, errors.New("the ciphertext does not fit the key")
	}
	err = safely(func() error {
		plain, err = crypto.DecryptEncPart(ed, key, usage)
		return err
	})
	return plain, err
}

// differ returns how far two times are apart.
func differ(a, b time.Time) time.Duration { return a.Sub(b).Abs() }
