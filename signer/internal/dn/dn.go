// Package dn turns the text of a distinguished name (RFC 4514) into the DER of one (RFC 5280
// section 4.1.2.4), and compares such names.
//
// profile reads subject templates with it and builds subjects; ca names authorities. Values
// are put into place after the text was taken apart, never before: no value can become
// syntax, whatever it holds.
package dn

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Element is one attribute of a name: a relative distinguished name of its own.
type Element struct {
	// Type is the short name, in upper case: "CN".
	Type string
	// Value is the text without any escaping.
	Value string
}

// attribute is what a type demands of its value.
type attribute struct {
	oid asn1.ObjectIdentifier
	// max is the upper bound in characters: RFC 5280 appendix A.1; for UID the 256 of
	// RFC 1274 section 9.3.1; for DC a DNS label (RFC 2247 section 4).
	max int
	// tag is the ASN.1 string type that the standard prescribes; 0 leaves the choice between
	// PrintableString and UTF8String to the value.
	tag int
}

var attributes = map[string]attribute{
	"CN":           {oid: asn1.ObjectIdentifier{2, 5, 4, 3}, max: 64},
	"O":            {oid: asn1.ObjectIdentifier{2, 5, 4, 10}, max: 64},
	"OU":           {oid: asn1.ObjectIdentifier{2, 5, 4, 11}, max: 64},
	"L":            {oid: asn1.ObjectIdentifier{2, 5, 4, 7}, max: 128},
	"ST":           {oid: asn1.ObjectIdentifier{2, 5, 4, 8}, max: 128},
	"STREET":       {oid: asn1.ObjectIdentifier{2, 5, 4, 9}, max: 128},
	"C":            {oid: asn1.ObjectIdentifier{2, 5, 4, 6}, max: 2, tag: asn1.TagPrintableString},
	"SERIALNUMBER": {oid: asn1.ObjectIdentifier{2, 5, 4, 5}, max: 64, tag: asn1.TagPrintableString},
	"UID":          {oid: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, max: 256},
	"DC":           {oid: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, max: 63, tag: asn1.TagIA5String},
}

// Parse reads a name such as "CN=Example CA,O=Example,C=DE". Its elements come in the order
// of DER, which is the reverse of the text (RFC 4514 section 2.1). Multi-valued elements
// and values in hexadecimal ("#04…") are refused; empty text is an empty name.
func Parse(text string) ([]Element, error) {
	var name []Element
	for rest := text; rest != ""; {
		kind, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, fmt.Errorf("%q has no '='", rest)
		}
		kind = strings.ToUpper(strings.TrimSpace(kind))
		if _, ok := attributes[kind]; !ok {
			return nil, fmt.Errorf("attribute type %q is not known: CN, O, OU, L, ST, STREET, C, DC, UID and serialNumber are", kind)
		}
		value, tail, err := value(after)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
		name = append([]Element{{Type: kind, Value: value}}, name...)
		if tail == "," {
			return nil, errors.New("a comma stands at the end")
		}
		rest = strings.TrimPrefix(tail, ",")
	}
	return name, nil
}

// value reads one attribute value and returns it with what follows: nothing, or the text
// from the comma on.
func value(text string) (val, rest string, err error) {
	text = strings.TrimLeft(text, " ")
	if strings.HasPrefix(text, "#") {
		return "", "", errors.New("values in hexadecimal are not read")
	}
	var b strings.Builder
	kept := 0 // length up to the last character that is not an unescaped space
	i := 0
	for i < len(text) && text[i] != ',' {
		switch c := text[i]; c {
		case '\\':
			octet, size, err := escaped(text[i:])
			if err != nil {
				return "", "", err
			}
			b.WriteByte(octet)
			i += size
			kept = b.Len()
			continue
		case '+', '"', ';', '<', '>', 0:
			return "", "", fmt.Errorf("%q has to be escaped with a backslash; multi-valued elements are not read", c)
		case ' ':
			b.WriteByte(c)
		default:
			b.WriteByte(c)
			kept = b.Len()
		}
		i++
	}
	val = b.String()[:kept]
	switch {
	case val == "":
		return "", "", errors.New("the value is empty")
	case !utf8.ValidString(val):
		return "", "", errors.New("the value is not UTF-8")
	}
	return val, text[i:], nil
}

// escaped reads "\," or "\2C" and returns the octet and the length of the text read.
func escaped(text string) (octet byte, size int, err error) {
	if len(text) >= 3 {
		if b, err := hex.DecodeString(text[1:3]); err == nil {
			return b[0], 3, nil
		}
	}
	if len(text) < 2 || !strings.ContainsRune(` "#+,;<=>\`, rune(text[1])) {
		return 0, 0, errors.New("a backslash stands before something that needs none")
	}
	return text[1], 2, nil
}
