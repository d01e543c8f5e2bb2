package keytab_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/keytab"
)

// wiped demands that exactly these of the keys are wiped.
func wiped(t *testing.T, when string, keys []secret.Bytes, want ...bool) {
	t.Helper()
	var got []bool
	for _, k := range keys {
		got = append(got, bytes.Equal(k.Reveal(), make([]byte, k.Len())))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: wiped %v, not %v", when, got, want)
	}
}

// TestForgottenKeysAreWiped, when nobody asks for a key too; what was handed out stays.
func TestForgottenKeysAreWiped(t *testing.T) {
	w := open(t, time.Hour, key(http, 3, 3), key(other, 3, 9))
	first, given := w.Held(), w.Keys(t.Context(), http, 3, 18)
	w.put(t, write(key(http, 4, 4), key(other, 3, 9)))
	w.want(t, 4, 4)
	wiped(t, "after a rotation", first, false, true) // the other one is held as it was read again
	if n := len(w.Held()); n != 3 {
		t.Errorf("%d keys are held, not 3", n)
	}
	w.add(time.Hour)
	if err := w.Check(t.Context()); err != nil {
		t.Error(err)
	}
	wiped(t, "an hour after", first, true, true)
	wiped(t, "what is in use", w.Held(), false, false)
	wiped(t, "what was handed out", given, false)

	w = open(t, 0, key(http, 3, 3))
	first = w.Held()
	w.put(t, write(key(http, 4, 4)))
	w.want(t, 4, 4)
	wiped(t, "kept for no time", first, true)
}

// TestMostRemovedKeys: of very many only the last ones of the file are kept.
func TestMostRemovedKeys(t *testing.T) {
	var many []keytab.Entry
	for kvno := uint32(1); kvno <= 300; kvno++ {
		many = append(many, key(http, kvno, byte(kvno%250)+1))
	}
	w := open(t, time.Hour, many...)
	first := w.Held()
	w.put(t, write(key(http, 301, 7)))
	w.want(t, 301, 7)
	w.want(t, 300, 51)
	w.want(t, 45, 46)
	w.want(t, 44)
	w.want(t, 0, 7, 51, 50, 49, 48, 47, 46, 45) // no more than eight
	if n := len(w.Held()); n != 257 {
		t.Errorf("%d keys are held, not 257", n)
	}
	wiped(t, "the first key", first[:1], true)
}

// TestRotationUnderLoad: however the file changes, there is a key, and it is none of those
// that are being wiped.
func TestRotationUnderLoad(t *testing.T) {
	w := open(t, time.Minute, key(http, 1, 1))
	done := make(chan struct{})
	asking := make(chan error, 4)
	for range cap(asking) {
		go func() {
			asking <- func() error {
				for {
					select {
					case <-done:
						return nil
					default:
					}
					if err := sound(w.Keys(t.Context(), http, 0, 18)); err != nil {
						return err
					}
				}
			}()
		}()
	}
	for kvno := uint32(2); kvno <= 100; kvno++ {
		w.put(t, write(key(http, kvno, byte(kvno))))
		w.want(t, kvno, byte(kvno))
		w.want(t, kvno-1, byte(kvno-1))
		w.add(31 * time.Second)
		if kvno%10 == 0 {
			w.put(t, write(key(http, kvno, 1))[:40])
			w.want(t, kvno, byte(kvno))
		}
	}
	close(done)
	for range cap(asking) {
		if err := <-asking; err != nil {
			t.Error(err)
		}
	}
}

// sound tells whether there are keys and each is one of those that the test writes.
func sound(keys []secret.Bytes) error {
	if len(keys) == 0 {
		return errors.New("there is no key")
	}
	for _, k := range keys {
		b := k.Reveal()
		if b[0] == 0 || !bytes.Equal(b, bytes.Repeat(b[:1], 32)) {
			return errors.New("a key is damaged")
		}
	}
	return nil
}

// TestCheckDuringRotations: readiness and tickets do not wait for each other.
func TestCheckDuringRotations(t *testing.T) {
	w := open(t, time.Hour, key(http, 1, 1))
	done := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = w.Check(t.Context())
				}
			}
		})
	}
	rotated := make(chan struct{})
	go func() { // ends with the rotations, or is what hangs
		defer close(rotated)
		for n := range byte(60) {
			_ = os.WriteFile(w.path, write(key(http, uint32(n)+2, n)), 0o600) // the test fails without it
			w.Keys(t.Context(), http, 0, 18)
		}
	}()
	select {
	case <-rotated:
	case <-time.After(20 * time.Second):
		t.Fatal("a ticket and a check wait for each other")
	}
	close(done)
	busy.Wait()
}
