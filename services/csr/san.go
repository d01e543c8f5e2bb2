package csr

import (
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// NamesOf returns the alternative names of a certificate, as Names returns those of a request.
func NamesOf(c *x509.Certificate) ([]Name, error) {
	for _, e := range c.Extensions {
		if e.Id.String() == oidSubjectAltName {
			return readNames(e.Value)
		}
	}
	return nil, nil
}

// readNames reads the value of a subjectAltName extension (RFC 5280 section 4.2.1.6): 1 to
// MaxNames names, each canonical and each once.
func readNames(der cryptobyte.String) ([]Name, error) {
	in, err := only(der, cbasn1.SEQUENCE, "the GeneralNames")
	if err != nil {
		return nil, within("(RFC 5280 section 4.2.1.6)", err)
	}
	if in.Empty() {
		return nil, refuse("it holds no name (RFC 5280 section 4.2.1.6)")
	}
	var out []Name
	for count := 1; !in.Empty(); count++ {
		if count > MaxNames {
			return nil, refuse("more than %d names", MaxNames)
		}
		var value cryptobyte.String
		var tag cbasn1.Tag
		if !in.ReadAnyASN1(&value, &tag) {
			return nil, refuse("a GeneralName is cut short (RFC 5280 section 4.2.1.6)")
		}
		n, err := readGeneralName(tag, value)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// readGeneralName reads one GeneralName by its implicit tag.
func readGeneralName(tag cbasn1.Tag, value cryptobyte.String) (Name, error) {
	var n Name
	var err error
	switch tag {
	case cbasn1.Tag(0).ContextSpecific().Constructed():
		n.Type = Other
		n.Value, err = readOtherName(value)
	case cbasn1.Tag(1).ContextSpecific():
		n.Type = Email
		n.Value, err = canonicalEmail(string(value))
	case cbasn1.Tag(2).ContextSpecific():
		n.Type = DNS
		n.Value, err = canonicalDNS(string(value))
	case cbasn1.Tag(4).ContextSpecific().Constructed():
		n.Type, n.Value = Directory, hex.EncodeToString(value)
		err = within("directoryName", checkDirectory(value))
	case cbasn1.Tag(6).ContextSpecific():
		n.Type = URI
		n.Value, err = canonicalURI(string(value))
	case cbasn1.Tag(7).ContextSpecific():
		n.Type = IP
		n.Value, err = readIP(value)
	case cbasn1.Tag(8).ContextSpecific():
		n.Type = Registered
		n.Value, err = readRegistered(value)
	default:
		err = refuse("a name of tag %#02x is not accepted: x400Address, ediPartyName and unknown forms (RFC 5280 section 4.2.1.6)", uint8(tag))
	}
	return n, err
}

// readOtherName reads the content of an otherName: the type and, in [0], one value.
func readOtherName(in cryptobyte.String) (string, error) {
	id, err := oid(&in, "the type")
	if err != nil {
		return "", within("otherName (RFC 5280 section 4.2.1.6)", err)
	}
	value, err := only(in, cbasn1.Tag(0).ContextSpecific().Constructed(), "the value")
	if err != nil {
		return "", within("otherName "+shortOID(id), err)
	}
	if err := checkOtherValue(value); err != nil {
		return "", within("otherName "+shortOID(id), err)
	}
	return id.String() + ":" + hex.EncodeToString(value), nil
}

// checkOtherValue demands one DER element; strings anywhere in it, a UPN or the parts of a
// Kerberos principal, are held to the rules for text.
func checkOtherValue(der cryptobyte.String) error {
	if err := wellFormed(der, 1); err != nil {
		return err
	}
	rest := der
	var one cryptobyte.String
	var tag cbasn1.Tag
	if !rest.ReadAnyASN1(&one, &tag) || !rest.Empty() {
		return refuse("the value is not one DER element (RFC 5280 section 4.2.1.6)")
	}
	return checkStrings(der)
}

// checkStrings looks for text at every depth of what wellFormed has accepted.
func checkStrings(in cryptobyte.String) error {
	for !in.Empty() {
		var value cryptobyte.String
		var tag cbasn1.Tag
		in.ReadAnyASN1(&value, &tag)
		var err error
		switch tag {
		case cbasn1.UTF8String, cbasn1.PrintableString, cbasn1.IA5String, cbasn1.T61String,
			tagNumericString, tagVisibleString, tagGeneralString, tagUniversalString, tagBMPString:
			_, err = readText(tag, value)
		default:
			if tag&0x20 != 0 {
				err = checkStrings(value)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readIP reads an iPAddress of 4 or 16 octets. An IPv4 address in 16 octets is refused: half
// of the verifiers would take it for IPv4.
func readIP(value []byte) (string, error) {
	addr, ok := netip.AddrFromSlice(value)
	if !ok {
		return "", refuse("iPAddress: %d octets, not 4 or 16 (RFC 5280 section 4.2.1.6)", len(value))
	}
	return canonicalAddr(addr)
}

func readRegistered(value cryptobyte.String) (string, error) {
	// The tag is implicit: put that of OBJECT IDENTIFIER back in front.
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	der, err := b.Bytes()
	if err != nil {
		return "", &refusal{public: "registeredID: not an object identifier (RFC 5280 section 4.2.1.6)", cause: err}
	}
	if err := wellFormed(der, 1); err != nil {
		return "", within("registeredID", err)
	}
	in := cryptobyte.String(der)
	id, err := oid(&in, "the value")
	if err != nil {
		return "", within("registeredID", err)
	}
	return id.String(), nil
}
