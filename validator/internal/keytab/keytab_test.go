package keytab_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/keytab"
	"github.com/estuary-pki/estuary/validator/internal/keytab/keytabtest"
)

const (
	http  = "HTTP/est.ipa.test@IPA.TEST"
	other = "HTTP/other.ipa.test@IPA.TEST"
)

var made = time.Unix(1_790_000_000, 0)

// key returns an entry with a key of 32 octets, all the same.
func key(principal string, kvno uint32, octet byte) keytab.Entry {
	return keytab.Entry{Principal: principal, KVNO: kvno, EType: 18, Made: made, Key: octets(32, octet)}
}

func octets(n int, octet byte) secret.Bytes { return secret.New(bytes.Repeat([]byte{octet}, n)) }

// write returns a keytab; between the records are holes.
func write(entries ...keytab.Entry) []byte {
	b := keytabtest.Write()
	for _, e := range entries {
		b = append(b, keytabtest.Write(e)[2:]...)
		b = append(binary.BigEndian.AppendUint32(b, 0xfffffffd), 1, 2, 3) // -3
	}
	return b
}

func TestParse(t *testing.T) {
	entries, err := keytab.Parse(write(
		key(http, 300, 1),
		keytab.Entry{Principal: http, KVNO: 7, Short: true, EType: 17, Made: made, Key: octets(16, 2)},
		keytab.Entry{Principal: other, KVNO: 1, EType: 23, Made: made, Key: octets(16, 3)},
	))
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	for i, want := range []struct {
		principal string
		kvno      uint32
		etype     int32
		usable    bool
	}{{http, 300, 18, true}, {http, 7, 17, true}, {other, 1, 23, false}} {
		e := entries[i]
		if e.Principal != want.principal || e.KVNO != want.kvno || e.EType != want.etype || e.Usable() != want.usable ||
			e.Made.Unix() != 1_790_000_000 {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
}

// real returns what kadmin.local and ktutil of MIT's krb5 1.20.1 wrote, for a realm that is no
// more: four keys were removed again, and two were written into the room that they left.
func real(t testing.TB) []byte {
	t.Helper()
	file, err := os.ReadFile("testdata/mit.keytab")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestParseMIT: klist -k -e -t says the same of that file.
func TestParseMIT(t *testing.T) {
	entries, err := keytab.Parse(real(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%d %s %s %v %d", e.KVNO, e.Principal, keytab.Name(e.EType), e.Short, e.Key.Len()))
		if e.Made.Format(time.RFC3339) != "2026-11-27T21:51:01Z" {
			t.Errorf("made %v", e.Made)
		}
	}
	want := []string{
		"7 HTTP/est.ipa.test@IPA.TEST arcfour-hmac false 0",
		"70000 HTTP/est.ipa.test@IPA.TEST aes256-cts-hmac-sha1-96 false 32",
		"299 HTTP/est.ipa.test@IPA.TEST aes256-cts-hmac-sha1-96 false 32",
		"299 HTTP/est.ipa.test@IPA.TEST aes128-cts-hmac-sha1-96 false 16",
		"299 HTTP/est.ipa.test@IPA.TEST aes256-cts-hmac-sha384-192 false 32",
		"299 HTTP/est.ipa.test@IPA.TEST aes128-cts-hmac-sha256-128 false 16",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	good := write(key(http, 3, 0xc5))
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"nothing", nil, "not a keytab"},
		{"text", []byte("HTTP/est.ipa.test"), "not a keytab"},
		{"version 1", []byte{5, 1}, "version 1"},
		{"a record of a gigabyte", []byte{5, 2, 0x40, 0, 0, 0, 1}, "record 1 is cut off"},
		{"a hole of two gigabytes", []byte{5, 2, 0x80, 0, 0, 0, 1}, "record 1 is cut off"},
		{"a principal without components", []byte{5, 2, 0, 0, 0, 4, 0, 0, 0, 0}, "0 components"},
		{"65535 components", []byte{5, 2, 0, 0, 0, 4, 0xff, 0xff, 0, 0}, "65535 components"},
		{"a short key", write(keytab.Entry{Principal: http, KVNO: 1, EType: 18, Key: octets(31, 0)}), "31 octets"},
		{"5000 keys", append([]byte{5, 2}, bytes.Repeat(write(key(http, 1, 1))[2:], 5000)...), "more than 4096"},
	} {
		if _, err := keytab.Parse(c.file); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, not %q", c.name, err, c.says)
		}
	}
	// Wherever it is cut off, and no error holds the key.
	for i := range good {
		entries, err := keytab.Parse(good[:i])
		if err == nil && len(entries) > 0 && i < len(good)-7 {
			t.Errorf("%d of %d octets: %v", i, len(good), entries)
		}
		if err != nil && (strings.Contains(err.Error(), "\xc5") || strings.Contains(err.Error(), "est.ipa")) {
			t.Errorf("%d octets: %v", i, err)
		}
	}
}

// clock is moved by hand.
type clock struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type world struct {
	*keytab.Keytab
	path string
	log  *bytes.Buffer
	clock
}

func open(t *testing.T, keep time.Duration, records ...keytab.Entry) *world {
	t.Helper()
	w := &world{path: filepath.Join(t.TempDir(), "http.keytab"), log: new(bytes.Buffer), clock: clock{at: made}}
	w.put(t, write(records...))
	var err error
	w.Keytab, err = keytab.Open(keytab.Config{
		Path: w.path, Principals: []string{http}, KeepRemoved: keep, Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Metrics: metrics.NewSet(), Now: w.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// put replaces the file as careful programs do.
func (w *world) put(t *testing.T, file []byte) {
	t.Helper()
	if err := os.WriteFile(w.path+".new", file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.path+".new", w.path); err != nil {
		t.Fatal(err)
	}
}

// want demands these keys, by their first octet, in this order.
func (w *world) want(t *testing.T, kvno uint32, first ...byte) {
	t.Helper()
	var got []byte
	for _, k := range w.Keys(t.Context(), http, kvno, 18) {
		got = append(got, k.Reveal()[0])
	}
	if !bytes.Equal(got, first) {
		t.Errorf("version %d: keys %v, not %v", kvno, got, first)
	}
}

func TestKeys(t *testing.T) {
	w := open(t, time.Hour, key(http, 3, 3), key(other, 4, 40), key(http, 5, 5), key(http, 4, 4),
		keytab.Entry{Principal: http, KVNO: 250, Short: true, EType: 18, Key: octets(32, 25)})
	w.want(t, 3, 3)
	w.want(t, 5, 5)
	w.want(t, 0, 25, 5, 4, 3)
	w.want(t, 6)
	w.want(t, 506, 25) // 250 in its last octet
	if got := w.Keys(t.Context(), http, 3, 17); len(got) > 0 {
		t.Errorf("a key of another encryption type: %d", len(got))
	}
}

// TestRemovedKeys: a key that has left the file is used for its time, behind those in the
// file; one that comes back is not among them any more.
func TestRemovedKeys(t *testing.T) {
	w := open(t, time.Hour, key(http, 3, 3))
	w.put(t, write(key(http, 4, 4)))
	w.want(t, 3, 3)
	w.want(t, 4, 4)
	w.want(t, 0, 4, 3)
	w.add(30 * time.Minute)
	w.put(t, write(key(http, 4, 44))) // made anew, with the same version
	w.want(t, 4, 44, 4)
	w.add(29 * time.Minute)
	w.want(t, 3, 3)
	w.add(time.Minute)
	w.want(t, 3)
	w.want(t, 4, 44, 4)
	w.put(t, write(key(http, 4, 4), key(http, 4, 44)))
	w.want(t, 4, 4, 44)
	w.add(30 * time.Minute)
	w.want(t, 4, 4, 44)

	w = open(t, 0, key(http, 3, 3))
	w.put(t, write(key(http, 4, 4)))
	w.want(t, 3)
}

// TestBadFiles: whatever the file becomes, the keys that were there are used, somebody hears
// of it, and nobody of a key.
func TestBadFiles(t *testing.T) {
	good := write(key(http, 3, 0xc5))
	w := open(t, time.Hour, key(http, 3, 0xc5))
	for name, file := range map[string][]byte{
		"empty": {}, "cut off": good[:40], "text": []byte("nothing"), "another's": write(key(other, 3, 0xc5)),
		"RC4": write(keytab.Entry{Principal: http, KVNO: 3, EType: 23, Key: octets(16, 0xc5)}),
	} {
		w.log.Reset()
		w.put(t, file)
		w.want(t, 3, 0xc5)
		w.want(t, 3, 0xc5)
		if w.Check(t.Context()) == nil || strings.Count(w.log.String(), "cannot be used") != 1 {
			t.Errorf("%s: %v, log %q", name, w.Check(t.Context()), w.log)
		}
		if text := w.log.String() + w.Check(t.Context()).Error(); strings.Contains(text, "\xc5") || strings.Contains(text, "c5c5") || strings.Contains(text, "197 197") {
			t.Errorf("%s: the key stands in %q", name, text)
		}
	}
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.want(t, 3, 0xc5)
	w.put(t, write(key(http, 4, 4)))
	w.want(t, 4, 4)
	w.want(t, 3, 0xc5)
	if err := w.Check(t.Context()); err != nil || !strings.Contains(w.log.String(), "keytab loaded") {
		t.Errorf("%v, log %q", err, w.log)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, says string
		file       []byte
		mode       os.FileMode
	}{
		{"open to everybody", "open to everybody", write(key(http, 1, 1)), 0o644},
		{"another's", `no AES key of HTTP/est.ipa.test@IPA.TEST: it holds "HTTP/other.ipa.test@IPA.TEST" version 1 aes256-cts-hmac-sha1-96`, write(key(other, 1, 1)), 0o600},
		{"empty", "it holds nothing", []byte{5, 2}, 0o600},
		{"cut off", "record 1 is cut off", write(key(http, 1, 1))[:20], 0o600},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, c.file, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := keytab.Open(keytab.Config{
			Path: path, Principals: []string{http}, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Now: time.Now,
		})
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, not %q", c.name, err, c.says)
		}
	}
	if _, err := keytab.Open(keytab.Config{}); err == nil {
		t.Error("opened nothing")
	}
}

// TestNewVersionIsWaitedFor: the KDC has a version before the file has; who asks for an older
// one that is not there does not wait, and neither do many.
func TestNewVersionIsWaitedFor(t *testing.T) {
	w := open(t, time.Hour, key(http, 3, 3))
	go func() {
		time.Sleep(200 * time.Millisecond)
		_ = os.WriteFile(w.path, write(key(http, 3, 3), key(http, 4, 4)), 0o600) // the test fails without it
	}()
	began := time.Now()
	w.want(t, 2)
	if took := time.Since(began); took > 150*time.Millisecond {
		t.Errorf("an old version was waited for, for %v", took)
	}
	w.want(t, 4, 4)
	began = time.Now()
	var waiting sync.WaitGroup
	var mu sync.Mutex
	atOnce := 0 // guarded by mu
	for range 40 {
		waiting.Go(func() {
			if n := len(w.Keys(t.Context(), http, 9, 18)); n > 0 {
				t.Errorf("%d keys of version 9", n)
			}
			mu.Lock()
			defer mu.Unlock()
			if time.Since(began) < 500*time.Millisecond {
				atOnce++
			}
		})
	}
	waiting.Wait()
	if took := time.Since(began); took < time.Second || took > 5*time.Second || atOnce != 8 {
		t.Errorf("waited %v, %d of 40 not at all", took, atOnce)
	}
}

func FuzzParse(f *testing.F) {
	canary := bytes.Repeat([]byte("KEY!"), 8)
	f.Add(write(keytab.Entry{Principal: http, KVNO: 3, EType: 18, Key: secret.New(canary)}))
	f.Add(write(key(http, 300, 1), keytab.Entry{Principal: other, KVNO: 7, Short: true, EType: 17, Key: octets(16, 0)}))
	f.Add(real(f))
	f.Add([]byte{5, 2, 0, 0, 0, 0})
	f.Add([]byte{5, 2, 0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, file []byte) {
		entries, err := keytab.Parse(file)
		if err != nil && (entries != nil || strings.Contains(err.Error(), "KEY!")) {
			t.Fatalf("%v with %d entries", err, len(entries))
		}
		for _, e := range entries {
			if e.Usable() && e.EType != 17 && e.EType != 18 && e.EType != 19 && e.EType != 20 {
				t.Fatalf("%+v", e)
			}
		}
	})
}
