package enroll

import (
	"net/http"
	"strings"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

// MaxToken68 is the longest credential that is passed on, in octets: the limit of the
// message to the validator.
const MaxToken68 = 4 << 10

// Credential moves the credential out of the Authorization header (RFC 9110 section 11.6.2)
// and removes the header, so that nothing behind can log it. It returns nil when there is
// no header or one of a scheme that is not served: the client is then asked for another.
//
// What stands behind Basic is passed on undecoded; only its alphabet and length are checked.
// The error is a *fault.Error Malformed: several headers, no scheme, or no token68.
func Credential(h http.Header) (*validatorv1.Credential, error) {
	values := h.Values("Authorization")
	h.Del("Authorization")
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, malformed("there is more than one Authorization header")
	}
	// Optional white space around a field value is not part of it (RFC 9110 section 5.5).
	scheme, rest, _ := strings.Cut(strings.Trim(values[0], " \t"), " ")
	if scheme == "" {
		return nil, malformed("the Authorization header is empty")
	}
	if !strings.EqualFold(scheme, "Basic") {
		return nil, nil
	}
	token := strings.TrimLeft(rest, " ")
	switch {
	case len(token) > MaxToken68:
		return nil, malformed("the credential is longer than 4096 octets")
	case !isToken68(token):
		return nil, malformed("the Authorization header does not hold base64 behind Basic (RFC 7617 section 2)")
	}
	return &validatorv1.Credential{
		Kind: &validatorv1.Credential_Basic{Basic: &validatorv1.BasicCredential{Token68: []byte(token)}},
	}, nil
}

// isToken68 checks the grammar of RFC 9110 section 11.2: characters, then padding.
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	return body != "" && strings.Trim(body, token68) == ""
}

const token68 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"

func malformed(public string) error {
	return fault.New(fault.Malformed, "enroll.Credential", public, nil)
}
