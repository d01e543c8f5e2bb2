package csr

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Tags of the string types that cryptobyte/asn1 does not name.
const (
	tagNumericString   = cbasn1.Tag(18)
	tagVisibleString   = cbasn1.Tag(26)
	tagGeneralString   = cbasn1.Tag(27)
	tagUniversalString = cbasn1.Tag(28)
	tagBMPString       = cbasn1.Tag(30)
)

// readText turns a string of one of ASN.1's types into UTF-8 and refuses what its type does
// not allow and what checkText refuses. T61String is taken as ASCII: nobody agrees on more.
func readText(tag cbasn1.Tag, b []byte) (string, error) {
	s := string(b)
	switch tag {
	case cbasn1.UTF8String:
		if !utf8.Valid(b) {
			return "", refuse("the text is not valid UTF-8 (RFC 3629)")
		}
	case cbasn1.PrintableString:
		if strings.ContainsFunc(s, func(r rune) bool { return !printable(r) }) {
			return "", refuse("a PrintableString holds %s, a character outside of its set (X.680 section 41.4)", firstBad(s, printable))
		}
	case tagNumericString:
		if i := strings.IndexFunc(s, func(r rune) bool { return r != ' ' && (r < '0' || r > '9') }); i >= 0 {
			return "", refuse("a NumericString holds more than digits and spaces (X.680 section 41.2)")
		}
	case cbasn1.IA5String, cbasn1.T61String, tagVisibleString, tagGeneralString:
		if i := strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }); i >= 0 {
			return "", refuse("a string of universal tag %d holds more than ASCII (X.680 section 41)", tag)
		}
	case tagBMPString:
		return readUCS(b, 2)
	case tagUniversalString:
		return readUCS(b, 4)
	default:
		return "", refuse("the value is not a character string (tag %#02x; RFC 5280 appendix A)", uint8(tag))
	}
	return s, checkText(s)
}

// readUCS reads the string types whose characters have a fixed width, big-endian.
func readUCS(b []byte, width int) (string, error) {
	if len(b)%width != 0 {
		return "", refuse("a string of %d octets a character is cut short (X.690 section 8.23)", width)
	}
	var s strings.Builder
	for ; len(b) > 0; b = b[width:] {
		var c uint32
		for _, o := range b[:width] {
			c = c<<8 | uint32(o)
		}
		if c > unicode.MaxRune || !utf8.ValidRune(rune(c)) {
			return "", refuse("a string of %d octets a character holds the code %X, which is no character (ISO 10646)", width, c)
		}
		s.WriteRune(rune(c))
	}
	return s.String(), checkText(s.String())
}

// checkText refuses characters that make a name look like another or break out of the place
// where it is shown: controls (NUL, CR and LF too), direction marks, whatever has no shape
// of its own, line separators, private use and noncharacters.
func checkText(s string) error {
	if strings.ContainsFunc(s, hostile) {
		return refuse("the text holds %s, a character that is not accepted in names", firstBad(s, func(r rune) bool { return !hostile(r) }))
	}
	return nil
}

func hostile(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point) ||
		r == utf8.RuneError
}

func printable(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)
}

// firstBad names the first character that is not good, by its code: U+202E.
func firstBad(s string, good func(rune) bool) string {
	for _, r := range s {
		if !good(r) {
			return fmt.Sprintf("%U", r)
		}
	}
	return ""
}
