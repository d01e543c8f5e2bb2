package token_test

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/validator/internal/token"
)

func TestMake(t *testing.T) {
	seen := map[string]bool{}
	for octets := token.MinOctets; octets <= token.MaxOctets; octets++ {
		tok, err := token.Make(octets)
		if err != nil {
			t.Fatal(err)
		}
		text := string(tok.Reveal())
		// 4 of prefix, then 8 characters for each 5 octets begun, check sum included.
		if want := 4 + ((octets+5)*8+4)/5; len(text) != want {
			t.Errorf("%d octets make %d characters, not %d", octets, len(text), want)
		}
		if !token.HasForm(tok.Reveal()) {
			t.Errorf("%d octets make what does not have the form of a token", octets)
		}
		if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567_") != "" {
			t.Error("a token has characters beyond its alphabet")
		}
		if seen[text] {
			t.Error("two tokens are the same")
		}
		seen[text] = true
	}
	for _, octets := range []int{-1, 0, token.MinOctets - 1, token.MaxOctets + 1} {
		if _, err := token.Make(octets); err == nil {
			t.Errorf("a token of %d octets was made", octets)
		}
	}
}

// compose makes a token from its parts, without the code under test.
func compose(random []byte) string {
	sum := sha256.Sum256(append([]byte("estuary/token/v1\x00"), random...))
	raw := append(append([]byte{}, random...), sum[:5]...)
	return "est_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
}

func TestHasForm(t *testing.T) {
	good := compose([]byte("sixteen octets!!"))
	if !token.HasForm([]byte(good)) {
		t.Fatal("a composed token is none")
	}
	flip := func(i int) string {
		b := []byte(good)
		b[i] = "ab"[(b[i]&1)^1]
		return string(b)
	}
	bad := map[string]string{
		"empty":              "",
		"prefix alone":       "est_",
		"no prefix":          good[4:],
		"other prefix":       "esu_" + good[4:],
		"upper case":         strings.ToUpper(good),
		"upper-case prefix":  "EST_" + good[4:],
		"first octet":        flip(4),
		"check sum":          flip(len(good) - 3),
		"cut":                good[:len(good)-1],
		"longer":             good + "a",
		"padding":            good + "======",
		"line end":           good + "\n",
		"line end within":    good[:20] + "\r\n" + good[20:],
		"blank":              " " + good,
		"other alphabet":     strings.Replace(good, good[10:11], "1", 1),
		"15 octets":          compose([]byte("fifteen octets!")),
		"65 octets":          compose(make([]byte, 65)),
		"a password":         "correct horse battery staple",
		"password with code": "hunter2123456",
	}
	// The same octets with left-over bits set: a second spelling.
	last := strings.IndexByte("abcdefghijklmnopqrstuvwxyz234567", good[len(good)-1])
	bad["second spelling"] = good[:len(good)-1] + string("abcdefghijklmnopqrstuvwxyz234567"[last|1])
	for name, text := range bad {
		if text == good {
			t.Errorf("%s: the case is the good token", name)
		}
		if token.HasForm([]byte(text)) {
			t.Errorf("%s: %q has the form of a token", name, text)
		}
	}
	for _, octets := range []int{16, 17, 32, 63, 64} {
		if !token.HasForm([]byte(compose(make([]byte, octets)))) {
			t.Errorf("a token of %d octets is none", octets)
		}
	}
}

func TestNewID(t *testing.T) {
	a, b := token.NewID(), token.NewID()
	if a == b || len(a) != 26 || strings.Trim(a+b, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("ids %q and %q", a, b)
	}
}

func FuzzHasForm(f *testing.F) {
	good := compose([]byte("sixteen octets!!"))
	for _, seed := range []string{good, good[:len(good)-1], good + "\n", "est_", "hunter2", strings.ToUpper(good), compose(make([]byte, 64))} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !token.HasForm(b) {
			return
		}
		raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(string(b[4:])))
		if err != nil || len(raw) < 21 || compose(raw[:len(raw)-5]) != string(b) {
			t.Errorf("%q has the form of a token and cannot be composed again", b)
		}
	})
}
