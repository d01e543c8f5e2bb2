package csr

import (
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// NameType is a form of GeneralName (RFC 5280 section 4.2.1.6), as it stands before the
// colon of a written name.
type NameType string

// The forms of names. x400Address and ediPartyName are refused.
const (
	// DNS is a dNSName: labels of lower-case letters, digits and hyphens, A-labels for the
	// rest of the world; "*" can only be the whole left-most label.
	DNS NameType = "dns"
	// IP is an iPAddress, as net/netip writes it.
	IP NameType = "ip"
	// Email is an rfc822Name: dot-atom, "@" and a lower-case domain.
	Email NameType = "email"
	// URI is a uniformResourceIdentifier: absolute, scheme and host in lower case.
	URI NameType = "uri"
	// Other is an otherName: type OID, colon and the DER of its value in hexadecimal.
	Other NameType = "other"
	// Directory is a directoryName: the DER of the Name in hexadecimal.
	Directory NameType = "dirname"
	// Registered is a registeredID: the OID.
	Registered NameType = "rid"
)

// Name is a name of a subject. Two names are the same when the values are equal, as long as
// they come from Parse or ParseName, which make Value canonical.
type Name struct {
	// Type is the form of the name.
	Type NameType
	// Value is its canonical text.
	Value string
}

// String returns the name as ParseName reads it: "dns:host.example".
func (n Name) String() string { return string(n.Type) + ":" + n.Value }

// Wildcard tells whether the name is a DNS name that begins with "*.": it stands for many
// hosts (RFC 6125 section 6.4.3). It is never equal to one of those.
func (n Name) Wildcard() bool { return n.Type == DNS && strings.HasPrefix(n.Value, "*.") }

// ParseName reads a name as configuration and the admin API write it, "dns:host.example",
// and makes its value canonical. A wildcard is read as the name it is, and matches itself
// alone. Errors are *fault.Error Malformed.
func ParseName(s string) (Name, error) {
	kind, value, ok := strings.Cut(s, ":")
	if !ok {
		return Name{}, malformed("csr.ParseName", refuse("the name %s has no type: dns:, ip:, email:, uri:, other:, dirname: or rid: has to stand in front", quote(s)))
	}
	n := Name{Type: NameType(kind)}
	var err error
	switch n.Type {
	case DNS:
		n.Value, err = canonicalDNS(value)
	case IP:
		n.Value, err = canonicalIP(value)
	case Email:
		n.Value, err = canonicalEmail(value)
	case URI:
		n.Value, err = canonicalURI(value)
	case Other:
		n.Value, err = canonicalOther(value)
	case Directory:
		n.Value, err = canonicalDirectory(value)
	case Registered:
		n.Value, err = canonicalOID(value)
	default:
		err = refuse("the name type %s is unknown: dns, ip, email, uri, other, dirname and rid are known", quote(kind))
	}
	if err != nil {
		return Name{}, malformed("csr.ParseName", err)
	}
	return n, nil
}

// canonicalOther reads "OID:hex" and demands that the octets are one DER element whose
// strings hold no hostile characters.
func canonicalOther(s string) (string, error) {
	id, digits, ok := strings.Cut(s, ":")
	if !ok {
		return "", refuse("otherName: an OID, a colon and hexadecimal digits are expected")
	}
	id, err := canonicalOID(id)
	if err != nil {
		return "", within("otherName", err)
	}
	der, err := readHex(digits)
	if err != nil {
		return "", within("otherName", err)
	}
	if err := checkOtherValue(der); err != nil {
		return "", within("otherName "+id, err)
	}
	return id + ":" + hex.EncodeToString(der), nil
}

func canonicalDirectory(s string) (string, error) {
	der, err := readHex(s)
	if err != nil {
		return "", within("directoryName", err)
	}
	if err := checkDirectory(der); err != nil {
		return "", within("directoryName", err)
	}
	return hex.EncodeToString(der), nil
}

func readHex(s string) ([]byte, error) {
	if len(s) > 2*MaxDER {
		return nil, refuse("more than %d octets", MaxDER)
	}
	der, err := hex.DecodeString(s)
	if err != nil {
		return nil, &refusal{public: "hexadecimal digits are expected", cause: err}
	}
	return der, nil
}

// checkDirectory holds a directoryName to the rules of a subject.
func checkDirectory(der cryptobyte.String) error {
	if err := wellFormed(der, 1); err != nil {
		return err
	}
	_, err := readDN(der)
	return err
}
