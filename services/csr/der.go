package csr

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxDepth is how deep elements may stand inside each other; a request with every name form
// of RFC 5280 needs 12.
const maxDepth = 32

// wellFormed refuses what is BER and not DER (X.690 chapters 8, 10 and 11) anywhere in the
// elements of in, in those that nobody reads too: indefinite and padded lengths, constructed
// strings, padded integers and object identifiers, booleans other than 00 and FF. The order
// within a SET OF is not looked at: crypto/x509 writes attributes as they come.
func wellFormed(in cryptobyte.String, depth int) error {
	if depth > maxDepth {
		return refuse("more than %d elements stand inside each other (X.690)", maxDepth)
	}
	for !in.Empty() {
		var content cryptobyte.String
		var tag cbasn1.Tag
		if !in.ReadAnyASN1(&content, &tag) {
			return refuse("an element is cut short, or its tag or length is not DER (X.690 section 10.1)")
		}
		constructed := tag&0x20 != 0
		if tag&0xc0 == 0 {
			if err := wellFormedUniversal(byte(tag&0x1f), constructed, content); err != nil {
				return err
			}
		}
		if !constructed {
			continue
		}
		if err := wellFormed(content, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// wellFormedUniversal checks one element of the universal class (X.690 section 8).
func wellFormedUniversal(number byte, constructed bool, content []byte) error {
	switch number {
	case 8, 11, 16, 17: // EXTERNAL, EMBEDDED PDV, SEQUENCE, SET
		if !constructed {
			return refuse("a SEQUENCE or SET is encoded as primitive (X.690 section 8.9)")
		}
		return nil
	}
	if constructed {
		return refuse("an element of universal tag %d is encoded as constructed (X.690 section 10.2)", number)
	}
	ok := true
	switch number {
	case 0:
		ok = false
	case 1:
		ok = len(content) == 1 && (content[0] == 0 || content[0] == 0xff)
	case 2, 10:
		ok = minimalInteger(content)
	case 3:
		ok = minimalBits(content)
	case 5:
		ok = len(content) == 0
	case 6:
		ok = minimalOID(content)
	}
	if !ok {
		return refuse("the content of an element of universal tag %d is not DER (X.690 sections 8 and 11)", number)
	}
	return nil
}

func minimalInteger(b []byte) bool {
	if len(b) < 2 {
		return len(b) == 1
	}
	zeros, ones := b[0] == 0 && b[1] < 0x80, b[0] == 0xff && b[1] >= 0x80
	return !zeros && !ones
}

func minimalBits(b []byte) bool {
	if len(b) == 0 || b[0] > 7 || len(b) == 1 && b[0] != 0 {
		return false
	}
	return b[len(b)-1]&(1<<b[0]-1) == 0 || len(b) == 1
}

func minimalOID(b []byte) bool {
	start := true
	for _, c := range b {
		if start && c == 0x80 {
			return false
		}
		start = c < 0x80
	}
	return len(b) > 0 && start
}

// child reads the next element of in, of the tag, and returns its content.
func child(in *cryptobyte.String, tag cbasn1.Tag, what string) (cryptobyte.String, error) {
	var out cryptobyte.String
	if !in.ReadASN1(&out, tag) {
		return nil, refuse("%s is missing or of another type", what)
	}
	return out, nil
}

// element is child with tag and length left in front of the content.
func element(in *cryptobyte.String, tag cbasn1.Tag, what string) (cryptobyte.String, error) {
	var out cryptobyte.String
	if !in.ReadASN1Element(&out, tag) {
		return nil, refuse("%s is missing or of another type", what)
	}
	return out, nil
}

// end refuses octets that are left behind what has been read of a structure.
func end(in cryptobyte.String, what string) error {
	if !in.Empty() {
		return refuse("%d trailing octets behind %s", len(in), what)
	}
	return nil
}

// only reads an element of the tag that has to be all of in.
func only(in cryptobyte.String, tag cbasn1.Tag, what string) (cryptobyte.String, error) {
	out, err := child(&in, tag, what)
	if err != nil {
		return nil, err
	}
	return out, end(in, what)
}

// oid reads an object identifier; its arcs are below 2^31, as crypto/x509 has it.
func oid(in *cryptobyte.String, what string) (asn1.ObjectIdentifier, error) {
	var out asn1.ObjectIdentifier
	if !in.ReadASN1ObjectIdentifier(&out) {
		return nil, refuse("%s is not an object identifier with arcs below 2^31", what)
	}
	return out, nil
}
