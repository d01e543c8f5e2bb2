package directory_test

import (
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/directory"
)

func TestParseTime(t *testing.T) {
	good := map[string]string{
		"20261127163000Z":       "2026-11-27T16:30:00Z",
		"202611271630Z":         "2026-11-27T16:30:00Z",
		"2026112716Z":           "2026-11-27T16:00:00Z",
		"20261127163000.5Z":     "2026-11-27T16:30:00.5Z",
		"2026112716,25Z":        "2026-11-27T16:15:00Z",
		"20261127163000+0130":   "2026-11-27T15:00:00Z",
		"20261127163000-05":     "2026-11-27T21:30:00Z",
		"20240229000000Z":       "2024-02-29T00:00:00Z",
		"20161231235960Z":       "2017-01-01T00:00:00Z",
		"19700101000000Z":       "1970-01-01T00:00:00Z",
		"99991231235959Z":       "9999-12-31T23:59:59Z",
		"20260101000000.99999Z": "2026-01-01T00:00:00.99999Z",
	}
	for text, want := range good {
		got, err := directory.ParseTime(text)
		if err != nil || got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "Z", "20261127163000", "20261127163000z", " 20261127163000Z", "20261127163000Z ", "2026112716300Z", "20261327163000Z",
		"20260027163000Z", "20260230000000Z", "20250229000000Z", "20261127243000Z", "20261127166000Z", "20261127163061Z",
		"20261127163000.Z", "20261127163000+", "20261127163000+1", "20261127163000+2400", "20261127163000+0060", "20261127163000Zx",
		"-0261127163000Z", "00010101000000Z", "19691231235959Z", "19700101000000+0100", "2026-11-27T16:30:00Z", "20261100163000Z", "٢٠٢٦١١٢٧١٦Z", "never",
	} {
		if got, err := directory.ParseTime(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"20261127163000Z", "2026112716,25+0130", "", "20260230000000Z", "20261127163000.123456789123456789Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := directory.ParseTime(text)
		if err != nil {
			if !got.IsZero() {
				t.Errorf("%q: a time beside an error", text)
			}
			return
		}
		// The zero time would mean "never".
		if got.IsZero() || got.Unix() < 0 || got.Year() > 9999 || got.Location() != time.UTC {
			t.Errorf("%q is taken for %v", text, got)
		}
		again, err := directory.ParseTime(got.Format("20060102150405.000000000Z"))
		if err != nil || !again.Equal(got) {
			t.Errorf("%q: %v, then %v, %v", text, got, again, err)
		}
	})
}

func TestSameDN(t *testing.T) {
	const kelvin = "\u212a"
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{alice, alice, true},
		{alice, strings.ToUpper(alice), true},
		{"cn=a,dc=b", "cn = a , dc = b", true},
		{"cn=a,dc=b", "cn=a;dc=b", true},
		{`cn=a\,b,dc=c`, `cn=a\2Cb,dc=c`, true},
		{"cn=zo\xc3\xab", `cn=Zo\C3\8B`, true},
		{"cn=a+uid=b", "uid=b+cn=a", true},
		{"cn=a b", "cn=a  b", true},
		{"cn=k", "cn=" + kelvin, false},
		{"cn=a,dc=b", "cn=a", false},
		{`cn=a\,dc=b`, "cn=a,dc=b", false},
		{"cn=a+uid=b", "cn=a,uid=b", false},
		{"", "", false},
		{"cn=", "cn=", false},
		{"cn", "cn", false},
	} {
		if directory.SameDN(c.a, c.b) != c.want || directory.SameDN(c.b, c.a) != c.want {
			t.Errorf("%q and %q: want %v", c.a, c.b, c.want)
		}
	}
}

func FuzzDN(f *testing.F) {
	for _, s := range []string{alice, `cn=a\,b+uid=\C3\A9,dc=c`, "cn=#0401ff", "cn=a;dc=b", "=", "cn=\\", "cn=\u212a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if directory.SameDN(text, text) {
			// What is one DN is another in upper case only when nothing in it has a case.
			if longer := "cn=x," + text; directory.SameDN(longer, text) {
				t.Errorf("%q is the same with another RDN", text)
			}
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"alice", "alice@IPA.TEST", `a\@b@IPA.TEST`, "a@b@IPA.TEST", "host/h", "a*", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		local, ok := directory.LocalPart(name, realm)
		if ok && (local == "" || strings.ContainsAny(local, "@\\\x00\n") || local != name && local+"@"+realm != name) {
			t.Errorf("%q is taken for %q", name, local)
		}
	})
}

func TestFold(t *testing.T) {
	for in, want := range map[string]string{"AbC": "abc", "É": "é", "\u212a": "\u212a", "ſ": "ſ", "İ": "İ"} {
		if got := directory.Fold(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
