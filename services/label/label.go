// Package label holds what an EST label may be called (RFC 7030 section 3.2.2).
//
// The gateway, the validator and the signer each have labels in their configuration and ask
// it there, each in its own words.
package label

import (
	"slices"
	"strings"
)

// Max is the longest label, in octets.
const Max = 64

// reserved are the names that no label may have: operations of RFC 7030 section 3.2.2 and
// RFC 8295 section 2, with the segments of their longer paths, and the draft for renewal
// information.
var reserved = []string{
	"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs",
	"pal", "eecerts", "crls", "symmetrickeys", "firmware", "tamp", "return", "renewal-info",
}

// Reserved tells whether s is, in letters of either case, a segment of an EST path.
func Reserved(s string) bool { return slices.Contains(reserved, strings.ToLower(s)) }

// Plain tells whether s consists of unreserved characters (RFC 3986 section 2.3), and of one
// at least: whether it stands in a URL as it is.
func Plain(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") == ""
}
