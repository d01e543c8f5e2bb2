package directory

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-ldap/ldap/v3"
)

// distinguished is a DN with its RDNs in the form in which they are compared, leaf first.
type distinguished []string

// parseDN reads a DN (RFC 4514) of at least one RDN.
func parseDN(text string) (distinguished, error) {
	parsed, err := ldap.ParseDN(text)
	if err != nil {
		return nil, fmt.Errorf("reading the DN %.200q: %w", text, err)
	}
	if len(parsed.RDNs) == 0 {
		return nil, errors.New("the DN is empty")
	}
	dn := make(distinguished, len(parsed.RDNs))
	for i, rdn := range parsed.RDNs {
		pairs := make([]string, len(rdn.Attributes))
		for j, a := range rdn.Attributes {
			if a.Type == "" || a.Value == "" {
				return nil, fmt.Errorf("the DN %.200q has an empty part", text)
			}
			pairs[j] = strconv.Quote(fold(a.Type)) + strconv.Quote(spaced(fold(a.Value)))
		}
		slices.Sort(pairs)
		dn[i] = strings.Join(pairs, "+")
	}
	return dn, nil
}

// parseOrNil is for a DN that has been checked, or is not given.
func parseOrNil(text string) distinguished {
	dn, err := parseDN(text)
	if err != nil {
		return nil
	}
	return dn
}

// within tells whether the DN is n levels below the other; any number for n < 0, itself not.
func (d distinguished) within(other distinguished, n int) bool {
	levels := len(d) - len(other)
	return len(other) > 0 && levels > 0 && (n < 0 || levels == n) && slices.Equal(d[levels:], other)
}

// sameDN tells whether both are DNs and of the same entry.
func sameDN(a, b string) bool {
	one, err := parseDN(a)
	if err != nil {
		return false
	}
	other, err := parseDN(b)
	return err == nil && slices.Equal(one, other)
}

// rdn returns type, folded, and value of the leaf, unless it has several.
func rdn(text string) (attribute, value string, ok bool) {
	parsed, err := ldap.ParseDN(text)
	if err != nil || len(parsed.RDNs) == 0 || len(parsed.RDNs[0].Attributes) != 1 {
		return "", "", false
	}
	a := parsed.RDNs[0].Attributes[0]
	return fold(a.Type), a.Value, true
}

// fold returns text without differences of case. No letter outside ASCII becomes one inside:
// to Unicode the Kelvin sign is a k, but two groups of a directory may differ in just that.
func fold(text string) string {
	return strings.Map(func(r rune) rune {
		if lower := unicode.ToLower(r); r < unicode.MaxASCII || lower > unicode.MaxASCII {
			return lower
		}
		return r
	}, text)
}

// spaced returns text with its runs of spaces as one each (RFC 4518 section 2.6.1).
func spaced(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }), " ")
}
