package ipatest

import (
	"fmt"
	"sort"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// normalDN returns the form in which two equal DNs are one string, and the same of its parent:
// types and values in lower case, no spaces around them, what is special as hexadecimal pairs.
// It is what 389-ds reports as the DN of a connection.
func normalDN(dn string) (key, parent string, err error) {
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		return "", "", fmt.Errorf("parsing DN: %w", err)
	}
	rdns := make([]string, len(parsed.RDNs))
	for i, rdn := range parsed.RDNs {
		parts := make([]string, len(rdn.Attributes))
		for j, a := range rdn.Attributes {
			parts[j] = strings.ToLower(strings.TrimSpace(a.Type)) + "=" + escape(fold(a.Value))
		}
		sort.Strings(parts)
		rdns[i] = strings.Join(parts, "+")
	}
	key = strings.Join(rdns, ",")
	if len(rdns) > 1 {
		parent = strings.Join(rdns[1:], ",")
	}
	return key, parent, nil
}

// escape writes what is special in a DN (RFC 4514 section 2.4) as hexadecimal pairs.
func escape(value string) string {
	if !strings.ContainsAny(value, "\\,+\"<>;=#\x00") {
		return value
	}
	var b strings.Builder
	for _, c := range []byte(value) {
		if strings.IndexByte("\\,+\"<>;=#\x00", c) >= 0 {
			fmt.Fprintf(&b, "\\%02x", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// fold makes strings alike that caseIgnoreMatch (RFC 4517 section 4.2.11) takes for equal.
func fold(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x80 || 'A' <= c && c <= 'Z' {
			return strings.ToLower(strings.Join(strings.Fields(s), " "))
		}
	}
	return s
}
