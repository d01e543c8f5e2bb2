package csr

import (
	"bytes"
	"encoding/base64"
)

// Armour of RFC 7468 section 7, and the label that older tools write.
var armours = []string{"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}

// Decode turns the body of an EST request into the DER that Parse takes, whatever its
// Content-Type and Content-Transfer-Encoding say (RFC 8951 section 3): base64 with CR, LF, SP
// and TAB anywhere (section 3.1), the same within PEM armour, or plain DER. Errors are
// *fault.Error Malformed, with ErrTooLarge in the chain above MaxBody or, decoded, MaxDER.
func Decode(body []byte) ([]byte, error) {
	der, err := decode(body)
	if err != nil {
		return nil, malformed("csr.Decode", err)
	}
	return der, nil
}

func decode(body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, &refusal{
			public: refuse("a body of %d octets: at most %d are accepted", len(body), MaxBody).Error(),
			cause:  ErrTooLarge,
		}
	}
	var der []byte
	var err error
	text := bytes.Trim(body, " \t\r\n")
	switch {
	case len(text) == 0:
		return nil, refuse("the body is empty: base64 of a PKCS#10 request is expected (RFC 7030 section 4.2.1)")
	case body[0] == '0':
		// The tag of a SEQUENCE. Base64 of one begins with M, so nothing can be both.
		der = bytes.Clone(body)
	case text[0] == '-':
		der, err = decodeArmour(text)
	default:
		der, err = decodeBase64(text)
	}
	if err != nil {
		return nil, err
	}
	if len(der) > MaxDER {
		return nil, &refusal{
			public: refuse("a request of %d octets: at most %d are accepted", len(der), MaxDER).Error(),
			cause:  ErrTooLarge,
		}
	}
	return der, nil
}

// decodeArmour takes exactly one block; it has no headers (RFC 7468 section 3).
func decodeArmour(text []byte) ([]byte, error) {
	for _, label := range armours {
		inner, ok := bytes.CutPrefix(text, []byte("-----BEGIN "+label+"-----"))
		if !ok {
			continue
		}
		inner, ok = bytes.CutSuffix(inner, []byte("-----END "+label+"-----"))
		if !ok || bytes.Contains(inner, []byte("-----")) {
			return nil, refuse("PEM: exactly one block is expected, from its BEGIN line to its END line (RFC 7468 section 2)")
		}
		return decodeBase64(inner)
	}
	return nil, refuse("PEM: a block of the type CERTIFICATE REQUEST is expected (RFC 7468 section 7)")
}

// decodeBase64 reads RFC 4648 section 4 with its padding; bits that pad have to be zero.
func decodeBase64(text []byte) ([]byte, error) {
	packed := make([]byte, 0, len(text))
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			packed = append(packed, c)
		}
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(packed)))
	n, err := base64.StdEncoding.Strict().Decode(out, packed)
	if err != nil {
		return nil, &refusal{public: "the body is not base64 with padding (RFC 4648 section 4)", cause: err}
	}
	if n == 0 {
		return nil, refuse("the body is empty: base64 of a PKCS#10 request is expected (RFC 7030 section 4.2.1)")
	}
	return out[:n], nil
}
