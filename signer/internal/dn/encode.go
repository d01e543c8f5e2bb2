package dn

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Marshal returns the DER of a name after it has checked every value: length, characters,
// and what its type demands. An error names the attribute and is fit for a client to see.
func Marshal(name []Element) ([]byte, error) {
	sequence := make(pkix.RDNSequence, 0, len(name))
	for _, e := range name {
		a, ok := attributes[e.Type]
		if !ok {
			return nil, fmt.Errorf("attribute type %q is not known", e.Type)
		}
		if err := a.check(e.Value); err != nil {
			return nil, fmt.Errorf("%s of the subject %w", e.Type, err)
		}
		sequence = append(sequence, pkix.RelativeDistinguishedNameSET{{Type: a.oid, Value: a.encode(e.Value)}})
	}
	der, err := asn1.Marshal(sequence)
	if err != nil {
		return nil, fmt.Errorf("encoding name: %w", err)
	}
	return der, nil
}

// check refuses what must not stand in a certificate: too much, nothing, and characters
// that print as something else than they are, such as NUL, line ends and bidi controls.
func (a attribute) check(value string) error {
	switch n := utf8.RuneCountInString(value); {
	case value == "":
		return errors.New("is empty")
	case n > a.max:
		return fmt.Errorf("has %d characters: at most %d are allowed (RFC 5280 appendix A.1)", n, a.max)
	case !Clean(value):
		return errors.New("holds characters that must not stand in a name")
	case a.tag == asn1.TagPrintableString && !printable(value), a.tag == asn1.TagIA5String && !ascii(value):
		return errors.New("holds characters that this attribute does not allow")
	case a.oid.Equal(attributes["C"].oid) && (n != 2 || strings.ToUpper(value) != value || !letters(value)):
		return errors.New("is not a country of two capital letters (ISO 3166)")
	}
	return nil
}

// Clean tells whether value is UTF-8 of visible characters and single inner blanks.
func Clean(value string) bool {
	if !utf8.ValidString(value) || strings.TrimSpace(value) != value || strings.Contains(value, "  ") {
		return false
	}
	for _, r := range value {
		if r == utf8.RuneError || !unicode.IsPrint(r) || invisible(r) {
			return false
		}
	}
	return true
}

// invisible tells the letters that fonts draw as nothing: unicode.IsPrint lets them pass.
func invisible(r rune) bool {
	return r == 0x115F || r == 0x1160 || r == 0x3164 || r == 0xFFA0 || unicode.Is(unicode.Variation_Selector, r)
}

func (a attribute) encode(value string) any {
	tag := a.tag
	switch {
	case tag != 0:
	case printable(value):
		tag = asn1.TagPrintableString
	default:
		tag = asn1.TagUTF8String
	}
	return asn1.RawValue{Tag: tag, Bytes: []byte(value)}
}

// printable tells whether value fits a PrintableString (X.680 section 41.4).
func printable(value string) bool {
	return ascii(value) && strings.IndexFunc(value, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" '()+,-./:=?", r)
	}) < 0
}

func letters(value string) bool {
	return ascii(value) && strings.IndexFunc(value, func(r rune) bool { return !unicode.IsLetter(r) }) < 0
}

func ascii(value string) bool {
	return strings.IndexFunc(value, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}
