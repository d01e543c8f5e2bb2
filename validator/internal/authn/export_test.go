package authn

import "github.com/estuary-pki/estuary/services/secret"

// ParseBasic is parseBasic.
func ParseBasic(token68 secret.Bytes) (user string, password secret.Bytes, reason string) {
	up, reason := parseBasic(token68)
	return up.user, up.password, reason
}
