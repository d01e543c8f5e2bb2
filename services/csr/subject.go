package csr

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// attributeType is a type of attribute of a distinguished name: how it is called in
// refusals and its upper bound in characters.
type attributeType struct {
	name  string
	upper int
}

// otherUpper bounds attributes for which no standard does.
const otherUpper = 256

// attributeTypes gives the upper bounds of RFC 5280 appendix A.1; where that has none, those
// of X.520 annex C, RFC 4519 and RFC 4524.
var attributeTypes = map[string]attributeType{
	"2.5.4.3":                    {"commonName", 64},
	"2.5.4.4":                    {"surname", 32768},
	"2.5.4.5":                    {"serialNumber", 64},
	oidCountry:                   {"countryName", 2},
	"2.5.4.7":                    {"localityName", 128},
	"2.5.4.8":                    {"stateOrProvinceName", 128},
	"2.5.4.9":                    {"streetAddress", 128},
	"2.5.4.10":                   {"organizationName", 64},
	"2.5.4.11":                   {"organizationalUnitName", 64},
	"2.5.4.12":                   {"title", 64},
	"2.5.4.17":                   {"postalCode", 40},
	"2.5.4.41":                   {"name", 32768},
	"2.5.4.42":                   {"givenName", 32768},
	"2.5.4.43":                   {"initials", 32768},
	"2.5.4.44":                   {"generationQualifier", 32768},
	"2.5.4.46":                   {"dnQualifier", 64},
	"2.5.4.65":                   {"pseudonym", 128},
	"0.9.2342.19200300.100.1.1":  {"userId", 256},
	"0.9.2342.19200300.100.1.25": {"domainComponent", 63},
	"1.2.840.113549.1.9.1":       {"emailAddress", 255},
}

const oidCountry = "2.5.4.6"

// readDN reads a distinguished name (RFC 5280 section 4.1.2.4) with tag and length in front.
func readDN(der cryptobyte.String) (pkix.RDNSequence, error) {
	in, err := only(der, cbasn1.SEQUENCE, "the Name")
	if err != nil {
		return nil, err
	}
	var out pkix.RDNSequence
	for !in.Empty() {
		if len(out) == MaxRDNs {
			return nil, refuse("more than %d relative distinguished names", MaxRDNs)
		}
		set, err := child(&in, cbasn1.SET, "a RelativeDistinguishedName")
		if err != nil {
			return nil, err
		}
		rdn, err := readRDN(set)
		if err != nil {
			return nil, err
		}
		out = append(out, rdn)
	}
	return out, nil
}

// readRDN reads the attributes that stand together in one RDN: one or more, each type once
// (X.501 section 9.3).
func readRDN(set cryptobyte.String) (pkix.RelativeDistinguishedNameSET, error) {
	var out pkix.RelativeDistinguishedNameSET
	if set.Empty() {
		return nil, refuse("a RelativeDistinguishedName is empty (RFC 5280 section 4.1.2.4)")
	}
	for !set.Empty() {
		if len(out) == MaxRDNs {
			return nil, refuse("more than %d attributes in a RelativeDistinguishedName", MaxRDNs)
		}
		in, err := child(&set, cbasn1.SEQUENCE, "an AttributeTypeAndValue")
		if err != nil {
			return nil, err
		}
		attr, err := readAttributeValue(in)
		if err != nil {
			return nil, err
		}
		for _, other := range out {
			if other.Type.Equal(attr.Type) {
				return nil, refuse("a RelativeDistinguishedName has two attributes of the type %s (X.501 section 9.3)", shortOID(attr.Type))
			}
		}
		out = append(out, attr)
	}
	return out, nil
}

// readAttributeValue reads one type and its value, which it demands to be text.
func readAttributeValue(in cryptobyte.String) (pkix.AttributeTypeAndValue, error) {
	var none pkix.AttributeTypeAndValue
	id, err := oid(&in, "the type of an attribute")
	if err != nil {
		return none, err
	}
	kind, known := attributeTypes[id.String()]
	if !known {
		kind = attributeType{"attribute " + shortOID(id), otherUpper}
	}
	var value cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadAnyASN1(&value, &tag) {
		return none, refuse("%s has no value (RFC 5280 section 4.1.2.4)", kind.name)
	}
	if err := end(in, "the value"); err != nil {
		return none, within(kind.name, err)
	}
	switch tag {
	case tagVisibleString, tagGeneralString, tagUniversalString:
		// crypto/x509 reads none of these: we would see a name where others see nothing.
		return none, refuse("%s: a string of universal tag %d is not accepted (RFC 5280 section 4.1.2.4)", kind.name, tag)
	}
	text, err := readText(tag, value)
	if err != nil {
		return none, within(kind.name, err)
	}
	if err := checkLength(id, kind, text); err != nil {
		return none, err
	}
	return pkix.AttributeTypeAndValue{Type: id, Value: text}, nil
}

func checkLength(id asn1.ObjectIdentifier, kind attributeType, text string) error {
	n := utf8.RuneCountInString(text)
	switch {
	case n == 0:
		return refuse("%s is empty (RFC 5280 appendix A)", kind.name)
	case id.String() == oidCountry && n != 2:
		return refuse("%s has %d characters, not 2 (RFC 5280 appendix A)", kind.name, n)
	case n > kind.upper:
		return refuse("%s has %d characters: at most %d are accepted (RFC 5280 appendix A)", kind.name, n, kind.upper)
	}
	return nil
}
