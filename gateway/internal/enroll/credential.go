package enroll

import (
	"fmt"
	"net/http"
	"strings"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

// The longest credentials that are passed on, in octets: the limits of the message to the
// validator.
const (
	// MaxToken68 is that of Basic.
	MaxToken68 = 4 << 10
	// MaxNegotiate is that of Negotiate: a ticket holds what its KDC knows of the client,
	// which Active Directory lets grow to 48,000 octets.
	MaxNegotiate = 64 << 10
)

// Credential moves the credential out of the Authorization header (RFC 9110 section 11.6.2)
// and removes the header, so that nothing behind can log it. It returns nil when there is
// no header or one of a scheme that is not served: the client is then asked for another.
//
// What stands behind Basic and Negotiate is passed on undecoded; only its alphabet and length
// are checked. The error is a *fault.Error Malformed: several headers, no scheme, or no token68.
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
	token := strings.TrimLeft(rest, " ")
	switch {
	case scheme == "":
		return nil, malformed("the Authorization header is empty")
	case strings.EqualFold(scheme, "Basic"):
		if err := check(token, MaxToken68, "Basic (RFC 7617 section 2)"); err != nil {
			return nil, err
		}
		return &validatorv1.Credential{
			Kind: &validatorv1.Credential_Basic{Basic: &validatorv1.BasicCredential{Token68: []byte(token)}},
		}, nil
	case strings.EqualFold(scheme, "Negotiate"):
		if err := check(token, MaxNegotiate, "Negotiate (RFC 4559 section 4.2)"); err != nil {
			return nil, err
		}
		return &validatorv1.Credential{
			Kind: &validatorv1.Credential_Negotiate{Negotiate: &validatorv1.NegotiateCredential{Token68: []byte(token)}},
		}, nil
	}
	return nil, nil
}

// check refuses what no validator could read.
func check(token string, limit int, scheme string) error {
	switch {
	case len(token) > limit:
		return malformed(fmt.Sprintf("the credential is longer than %d octets", limit))
	case !isToken68(token):
		return malformed("the Authorization header does not hold base64 behind " + scheme)
	}
	return nil
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
