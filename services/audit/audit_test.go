package audit_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/estuary-pki/estuary/services/audit"
)

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestLinkDependsOnAll(t *testing.T) {
	base := audit.Link(make([]byte, 32), 1, []byte("{}"))
	other := make([]byte, 32)
	other[31] = 1
	for name, h := range map[string][32]byte{
		"previous": audit.Link(other, 1, []byte("{}")),
		"number":   audit.Link(make([]byte, 32), 2, []byte("{}")),
		"text":     audit.Link(make([]byte, 32), 1, []byte("[]")),
	} {
		if h == base {
			t.Errorf("the hash does not depend on the %s", name)
		}
	}
}

func TestClean(t *testing.T) {
	cases := map[string]string{
		"":                       "",
		"pump-7 äöü":             "pump-7 äöü",
		"a\r\nb":                 `a\u{000D}\u{000A}b`,
		"a\x00b\x1b[31m":         `a\u{0000}b\u{001B}[31m`,
		"\u202egnp.exe":          `\u{202E}gnp.exe`,
		"a\u2028b\u200bc":        `a\u{2028}b\u{200B}c`,
		"\xff\xfe":               `\u{FF}\u{FE}`,
		"\u0085next":             `\u{0085}next`,
		"\ufffd as typed":        "\ufffd as typed",
		strings.Repeat("a", 256): strings.Repeat("a", 256),
	}
	for in, want := range cases {
		if got := audit.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	for _, long := range []string{strings.Repeat("ä", 1<<20), strings.Repeat("\x00", 1000), strings.Repeat("x", 257)} {
		got := audit.Clean(long)
		if len(got) > 256 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%d octets became %d: %q", len(long), len(got), got)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\r\nb\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := audit.Clean(s)
		if len(got) > 256 || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x00\x1b\u202e\u2028") {
			t.Errorf("Clean(%q) = %q", s, got)
		}
	})
}
