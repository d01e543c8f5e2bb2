package directory

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the most octets of a name that is looked for.
const maxName = 255

// localPart returns what Find is asked for without "@" and this realm. A name of another realm
// is not ours; neither is one with a backslash or a second "@": Kerberos reads them in ways
// that the directory does not (RFC 1964 section 2.1.1; enterprise names).
func localPart(name, realm string) (string, bool) {
	if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsRune(name, '\\') ||
		strings.ContainsFunc(name, unicode.IsControl) {
		return "", false
	}
	local, of, given := strings.Cut(name, "@")
	if given && of != realm {
		return "", false
	}
	return local, local != "" && strings.TrimSpace(local) == local
}

// kerberosName is the attribute whose values carry the realm, and whose case counts.
const kerberosName = "krbPrincipalName"

// asked returns the value that PrincipalAttribute has to have.
func (c *Client) asked(local string) string {
	if strings.EqualFold(c.c.PrincipalAttribute, kerberosName) {
		return local + "@" + c.c.Realm
	}
	return local
}

// match tells whether one of the values is the asked one. The server has compared already, by
// rules of its own; a looser one must not hand out another entry.
func (c *Client) match(found []string, asked string) bool {
	exact := strings.EqualFold(c.c.PrincipalAttribute, kerberosName)
	return slices.ContainsFunc(found, func(value string) bool {
		return value == asked || !exact && fold(value) == fold(asked)
	})
}

// canonical returns the principal without its realm: from the entry's krbCanonicalName, or,
// where it has none or the attribute is another one, from the first of its values: whatever
// name was asked for, an account has one.
func (c *Client) canonical(names, canonicalNames []string) (string, bool) {
	one := preferred(names, "")
	if !strings.EqualFold(c.c.PrincipalAttribute, kerberosName) {
		return localPart(one, "")
	}
	if len(canonicalNames) > 1 {
		return "", false
	}
	if len(canonicalNames) == 1 {
		one = canonicalNames[0]
	}
	local, ok := strings.CutSuffix(one, "@"+c.c.Realm)
	if !ok || strings.Contains(local, "@") {
		return "", false
	}
	return localPart(local, c.c.Realm)
}
