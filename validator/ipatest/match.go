package ipatest

import (
	"strconv"
	"strings"
)

// syntax says how the values of an attribute are compared.
type syntax int

const (
	ignoreCase syntax = iota
	exactCase
	nameDN
)

// syntaxOf returns the syntax of an attribute, named in lower case.
func syntaxOf(attribute string) syntax {
	switch attribute {
	case "krbprincipalname", "krbcanonicalname", "ipatokenradiussecret", "ipatokenotpkey", "userpassword":
		return exactCase
	case "ipatokenowner", "memberof", "member", "managedby", "ipatokenradiusconfiglink", "krbpwdpolicyreference":
		return nameDN
	}
	return ignoreCase
}

// normal returns the form in which two equal values of an attribute are one string.
func normal(attribute, value string) string {
	switch syntaxOf(attribute) {
	case exactCase:
		return value
	case nameDN:
		if key, _, err := normalDN(value); err == nil {
			return key
		}
	}
	return fold(value)
}

// compare orders two values: as numbers when both are, else as strings, which does for
// GeneralizedTime in UTC.
func compare(attribute, a, b string) int {
	x, errA := strconv.ParseInt(a, 10, 64)
	y, errB := strconv.ParseInt(b, 10, 64)
	switch {
	case errA != nil || errB != nil:
		return strings.Compare(normal(attribute, a), normal(attribute, b))
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// hidden tells whether nobody at all may read or compare an attribute over the wire.
func hidden(attribute string) bool {
	return attribute == "userpassword" || attribute == "ipatokenotpkey"
}

// operational tells whether an attribute is returned only to those who name it, or ask for
// "+" (RFC 3673).
func operational(attribute string) bool {
	return attribute == "nsaccountlock"
}
