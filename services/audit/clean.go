package audit

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText is the most octets of one text in a record.
const maxText = 256

// Clean makes a text that came from outside safe to print: invalid UTF-8, control and
// format characters (bidirectional overrides among them) and line separators become
// \u{HEX}, and what is longer than 256 octets is cut and ends in "…".
func Clean(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		piece := s[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\u{%02X}`, s[i])
		case !printable(r):
			piece = fmt.Sprintf(`\u{%04X}`, r)
		}
		if b.Len()+len(piece) > maxText-len("…") {
			b.WriteString("…")
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}

func plain(s string) bool {
	if len(s) > maxText {
		return false
	}
	for _, r := range s {
		if r == utf8.RuneError || !printable(r) {
			return false
		}
	}
	return true
}

func printable(r rune) bool {
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

func (r Record) clean() Record {
	for _, text := range []*string{
		&r.Event, &r.Outcome, &r.Actor, &r.Address, &r.RequestID, &r.Label,
		&r.CSRSHA256, &r.Identity, &r.Method, &r.Serial, &r.Reason,
	} {
		*text = Clean(*text)
	}
	detail := make(map[string]string, len(r.Detail))
	for k, v := range r.Detail {
		detail[Clean(k)] = Clean(v)
	}
	r.Detail = detail
	r.Time = r.Time.UTC()
	return r
}
