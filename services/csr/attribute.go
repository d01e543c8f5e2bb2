package csr

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	oidExtensionRequest  = "1.2.840.113549.1.9.14"  // RFC 2985 section 5.4.2
	oidChallengePassword = "1.2.840.113549.1.9.7"   // RFC 2985 section 5.4.1
	oidMicrosoftRequest  = "1.3.6.1.4.1.311.2.1.14" // extensionRequest before it was standard
	oidSubjectAltName    = "2.5.29.17"              // RFC 5280 section 4.2.1.6
	maxChallenge         = 255                      // RFC 2985: pkcs-9-ub-challengePassword
)

// attributes is what the attributes of a request hold.
type attributes struct {
	types        []asn1.ObjectIdentifier
	extensions   []pkix.Extension
	names        []Name
	challenge    string
	hasChallenge bool
}

// readAttributes reads the content of a request's attributes (RFC 2986 section 4.1): each
// type once, each with at least one value. Values of types that it does not know stay unread.
func readAttributes(in cryptobyte.String) (attributes, error) {
	var out attributes
	seen := map[string]bool{}
	for !in.Empty() {
		if len(seen) == MaxAttributes {
			return out, refuse("more than %d attributes", MaxAttributes)
		}
		id, values, err := readAttribute(&in)
		if err != nil {
			return out, within("attributes (RFC 2986 section 4.1)", err)
		}
		if seen[id.String()] {
			return out, refuse("the attribute %s is there twice (RFC 2986 section 4.1)", shortOID(id))
		}
		seen[id.String()] = true
		out.types = append(out.types, id)
		switch id.String() {
		case oidExtensionRequest:
			err = out.readExtensions(values)
		case oidChallengePassword:
			err = out.readChallenge(values)
		case oidMicrosoftRequest:
			// Others read names from it, so it must not be passed over in silence.
			err = refuse("the attribute %s is not accepted: extensions belong into extensionRequest (RFC 2985 section 5.4.2)", oidMicrosoftRequest)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// readAttribute reads one attribute and returns its values, at least one.
func readAttribute(in *cryptobyte.String) (asn1.ObjectIdentifier, cryptobyte.String, error) {
	attr, err := child(in, cbasn1.SEQUENCE, "an Attribute")
	if err != nil {
		return nil, nil, err
	}
	id, err := oid(&attr, "the type of an attribute")
	if err != nil {
		return nil, nil, err
	}
	values, err := only(attr, cbasn1.SET, "the set of values")
	if err == nil && values.Empty() {
		err = refuse("there is no value")
	}
	if err != nil {
		return nil, nil, within("attribute "+shortOID(id), err)
	}
	return id, values, nil
}

// readExtensions reads the one value of extensionRequest, Extensions of RFC 5280 section 4.1.
// An empty sequence, which some tools send for "none", is accepted.
func (a *attributes) readExtensions(values cryptobyte.String) error {
	const where = "extensionRequest (RFC 2985 section 5.4.2)"
	in, err := only(values, cbasn1.SEQUENCE, "the one value")
	if err != nil {
		return within(where, err)
	}
	seen := map[string]bool{}
	for !in.Empty() {
		if len(seen) == MaxExtensions {
			return refuse("more than %d requested extensions", MaxExtensions)
		}
		one, err := child(&in, cbasn1.SEQUENCE, "an Extension")
		if err != nil {
			return within(where, err)
		}
		ext, err := readExtension(one)
		if err != nil {
			return err
		}
		id := ext.Id.String()
		if seen[id] {
			return refuse("the extension %s is requested twice (RFC 5280 section 4.2)", shortOID(ext.Id))
		}
		seen[id] = true
		a.extensions = append(a.extensions, ext)
		if id == oidSubjectAltName {
			if a.names, err = readNames(ext.Value); err != nil {
				return within("subjectAltName", err)
			}
		}
	}
	return nil
}

// readExtension reads one extension; its value has to be exactly one DER element.
func readExtension(in cryptobyte.String) (pkix.Extension, error) {
	const where = "extensionRequest (RFC 5280 section 4.1)"
	id, err := oid(&in, "the type of an extension")
	if err != nil {
		return pkix.Extension{}, within(where, err)
	}
	ext := pkix.Extension{Id: id}
	part := "extension " + shortOID(id)
	if in.PeekASN1Tag(cbasn1.BOOLEAN) && !in.ReadASN1Boolean(&ext.Critical) {
		return pkix.Extension{}, within(part, refuse("critical is not a boolean (RFC 5280 section 4.1)"))
	}
	value, err := only(in, cbasn1.OCTET_STRING, "the value")
	if err != nil {
		return pkix.Extension{}, within(part, err)
	}
	var one cryptobyte.String
	var tag cbasn1.Tag
	rest := value
	if !rest.ReadAnyASN1(&one, &tag) || !rest.Empty() {
		return pkix.Extension{}, within(part, refuse("the value is not one DER element (RFC 5280 section 4.2)"))
	}
	if err := wellFormed(value, 1); err != nil {
		return pkix.Extension{}, within(part, err)
	}
	ext.Value = value
	return ext, nil
}

// readChallenge reads the one value of challengePassword. Its text never gets into an error.
func (a *attributes) readChallenge(values cryptobyte.String) error {
	const where = "challengePassword (RFC 2985 section 5.4.1)"
	var value cryptobyte.String
	var tag cbasn1.Tag
	if !values.ReadAnyASN1(&value, &tag) || !values.Empty() {
		return refuse("%s: there is not exactly one value", where)
	}
	text, err := readText(tag, value)
	if err != nil {
		return refuse("%s: the value is not text without control or invisible characters", where)
	}
	if n := utf8.RuneCountInString(text); n == 0 || n > maxChallenge {
		return refuse("%s: %d characters: 1 to %d are accepted", where, n, maxChallenge)
	}
	a.challenge, a.hasChallenge = text, true
	return nil
}
