package authn

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"

	"github.com/estuary-pki/estuary/services/secret"
)

// The limits of HTTP Basic, in octets.
const (
	// MaxToken68 bounds the text behind the scheme.
	MaxToken68 = 4 << 10
	// MaxUser bounds the user name: that of a client_id.
	MaxUser = 255
	// MaxPassword bounds the password.
	MaxPassword = 1024
)

// The reasons for which HTTP Basic is refused before anything is looked up.
const (
	reasonNone     = "no credential behind the scheme"
	reasonLong     = "credential is longer than 4096 octets"
	reasonBase64   = "credential is not base64"
	reasonUTF8     = "credential is not UTF-8"
	reasonControl  = "credential has a control character"
	reasonColon    = "credential has no colon"
	reasonUser     = "user name is longer than 255 octets"
	reasonPassword = "password is longer than 1024 octets"
	reasonEmpty    = "password is empty"
	reasonNoToken  = "the label takes no enrolment token"
	// reasonOff: what has the form of a token is never shown to a directory.
	reasonOff = "enrolment tokens are not accepted"
)

// userPass is the content of HTTP Basic (RFC 7617 section 2).
type userPass struct {
	user     string
	password secret.Bytes
}

// parseBasic decodes a token68 into user name and password: UTF-8 without control
// characters, parted at the first colon, for a password may have colons and a user name
// none. The user name may be empty, the password not: no back end may ever be asked about
// an empty one. When it is refused reason says why, in words that hold nothing of it.
func parseBasic(token68 secret.Bytes) (up userPass, reason string) {
	text := token68.Reveal()
	switch {
	case len(text) == 0:
		return userPass{}, reasonNone
	case len(text) > MaxToken68:
		return userPass{}, reasonLong
	case bytes.ContainsAny(text, "\r\n"): // the decoder would skip them
		return userPass{}, reasonBase64
	}
	// Padding is optional in token68 (RFC 9110 section 11.2), so some clients leave it out.
	text = bytes.TrimRight(text, "=")
	padded := token68.Len() - len(text)
	raw, err := base64.RawStdEncoding.Strict().AppendDecode(nil, text)
	if err != nil || padded != 0 && (token68.Len()%4 != 0 || padded > 2) {
		clear(raw)
		return userPass{}, reasonBase64
	}
	user, password, found := bytes.Cut(raw, []byte(":"))
	switch {
	case !utf8.Valid(raw):
		reason = reasonUTF8
	case bytes.ContainsFunc(raw, isControl):
		reason = reasonControl
	case !found:
		reason = reasonColon
	case len(user) > MaxUser:
		reason = reasonUser
	case len(password) > MaxPassword:
		reason = reasonPassword
	case len(password) == 0:
		reason = reasonEmpty
	}
	if reason != "" {
		clear(raw)
		return userPass{}, reason
	}
	return userPass{user: string(user), password: secret.New(password)}, ""
}

// isControl is CTL of RFC 5234 appendix B.1, which RFC 7617 section 2 forbids.
func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
