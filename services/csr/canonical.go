package csr

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/net/idna"
)

// Bounds of names, in octets.
const (
	maxDomain = 253  // RFC 1035 section 2.3.4, as text
	maxLabel  = 63   // RFC 1035 section 2.3.4
	maxLocal  = 64   // RFC 5321 section 4.5.3.1.1
	maxURI    = 2048 // ours
)

// canonicalDNS returns a dNSName in lower case. A wildcard is the whole left-most label.
func canonicalDNS(s string) (string, error) {
	name := strings.TrimPrefix(s, "*.")
	name, err := canonicalDomain(name)
	if err != nil {
		return "", within("dNSName "+quote(s), err)
	}
	if len(s) > maxDomain {
		return "", refuse("dNSName %s: %d octets: at most %d are accepted (RFC 1035 section 2.3.4)", quote(s), len(s), maxDomain)
	}
	return s[:len(s)-len(name)] + name, nil
}

// canonicalDomain returns a host name in lower case: labels of letters, digits and inner
// hyphens (RFC 1123 section 2.1), none reserved but valid A-labels (RFC 5890 section 2.3),
// the last one not a number, which would make it an address to some.
func canonicalDomain(s string) (string, error) {
	switch {
	case s == "":
		return "", refuse("it is empty (RFC 1123 section 2.1)")
	case len(s) > maxDomain:
		return "", refuse("%d octets: at most %d are accepted (RFC 1035 section 2.3.4)", len(s), maxDomain)
	case strings.HasSuffix(s, "."):
		return "", refuse("it ends in a dot (RFC 5280 section 4.2.1.6)")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !ldh(r) && r != '.' }); i >= 0 {
		return "", refuse("it holds %s: letters, digits, hyphens and dots are accepted, A-labels for other scripts (RFC 5890 section 2.3)",
			firstBad(s[i:], func(rune) bool { return false }))
	}
	s = strings.Map(lower, s)
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return "", refuse("its last label is a number, as in an IP address (RFC 1123 section 2.1)")
	}
	return s, nil
}

// checkLabel checks one label of lower-case letters, digits and hyphens.
func checkLabel(label string) error {
	switch {
	case label == "" || len(label) > maxLabel:
		return refuse("a label has %d octets: 1 to %d are accepted (RFC 1035 section 2.3.4)", len(label), maxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return refuse("a label begins or ends with a hyphen (RFC 1123 section 2.1)")
	case len(label) < 4 || label[2:4] != "--":
		return nil
	case !strings.HasPrefix(label, "xn--"):
		return refuse("a label has hyphens in third and fourth place and is no A-label (RFC 5890 section 2.3.1)")
	}
	u, err := idna.Registration.ToUnicode(label)
	if err == nil {
		var back string
		if back, err = idna.Registration.ToASCII(u); err == nil && back == label && u != label {
			return nil
		}
	}
	return &refusal{public: "the label " + quote(label) + " is not an A-label (RFC 5890 section 2.3.2.1)", cause: err}
}

func ldh(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-'
}

// lower works on ASCII alone, unlike unicode.ToLower.
func lower(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// canonicalEmail returns an rfc822Name (RFC 5280 section 4.2.1.6): dot-atom, "@", domain. The
// local part keeps its case; quoted local parts and address literals are not accepted.
func canonicalEmail(s string) (string, error) {
	local, domain, ok := strings.Cut(s, "@")
	if !ok {
		return "", refuse("rfc822Name %s: there is no @ (RFC 5321 section 4.1.2)", quote(s))
	}
	if len(local) == 0 || len(local) > maxLocal {
		return "", refuse("rfc822Name %s: the local part has %d octets: 1 to %d are accepted (RFC 5321 section 4.5.3.1.1)", quote(s), len(local), maxLocal)
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool {
			return (!ldh(r)) && !strings.ContainsRune("!#$%&'*+/=?^_`{|}~", r)
		}) {
			return "", refuse("rfc822Name %s: the local part is not a dot-atom (RFC 5322 section 3.2.3)", quote(s))
		}
	}
	domain, err := canonicalDomain(domain)
	if err != nil {
		return "", within("rfc822Name "+quote(s), err)
	}
	return local + "@" + domain, nil
}

// canonicalURI returns a uniformResourceIdentifier (RFC 5280 section 4.2.1.6): absolute, of
// the characters of RFC 3986, without user information, with a host wherever there is "//".
func canonicalURI(s string) (string, error) {
	if len(s) > maxURI {
		return "", refuse("uniformResourceIdentifier of %d octets: at most %d are accepted", len(s), maxURI)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`{|}", r) }); i >= 0 {
		return "", refuse("uniformResourceIdentifier %s: it holds %s (RFC 3986 section 2)", quote(s), firstBad(s[i:], func(rune) bool { return false }))
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || len(s) == len(u.Scheme)+1 {
		return "", &refusal{public: "uniformResourceIdentifier " + quote(s) + ": it is not an absolute URI (RFC 3986 section 4.3)", cause: err}
	}
	rest := s[len(u.Scheme)+1:]
	if !strings.HasPrefix(rest, "//") {
		return u.Scheme + ":" + rest, nil
	}
	if u.User != nil {
		return "", refuse("uniformResourceIdentifier %s: user information is not accepted (RFC 3986 section 7.5)", quote(s))
	}
	if err := checkHost(u); err != nil {
		return "", within("uniformResourceIdentifier "+quote(s), err)
	}
	path := strings.IndexAny(rest[2:], "/?#")
	if path < 0 {
		path = len(rest) - 2
	}
	return u.Scheme + "://" + strings.Map(lower, rest[2:2+path]) + rest[2+path:], nil
}

// checkHost demands a host name or an IP address where a URI has an authority.
func checkHost(u *url.URL) error {
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		_, err := canonicalAddr(addr)
		return err
	}
	if strings.HasPrefix(u.Host, "[") {
		return refuse("the host is not an IP address (RFC 3986 section 3.2.2)")
	}
	_, err := canonicalDomain(host)
	return err
}

// canonicalIP returns an address as net/netip writes it.
func canonicalIP(s string) (string, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return "", &refusal{public: "iPAddress " + quote(s) + ": it is not an IP address (RFC 5952)", cause: err}
	}
	return canonicalAddr(addr)
}

func canonicalAddr(addr netip.Addr) (string, error) {
	if addr.Is4In6() || addr.Zone() != "" {
		return "", refuse("iPAddress %s: IPv4 within IPv6 and zones are not accepted (RFC 5280 section 4.2.1.6)", quote(addr.String()))
	}
	return addr.String(), nil
}

// canonicalOID checks the dotted form of an object identifier with arcs below 2^31.
func canonicalOID(s string) (string, error) {
	const wrong = "%s is not an object identifier with arcs below 2^31"
	var arcs []int
	if len(s) > 1024 {
		return "", refuse(wrong, quote(s))
	}
	for arc := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseInt(arc, 10, 32)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != arc {
			return "", &refusal{public: refuse(wrong, quote(s)).Error(), cause: err}
		}
		arcs = append(arcs, int(n))
	}
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(arcs)
	der, err := b.Bytes()
	if err != nil {
		return "", &refusal{public: refuse(wrong, quote(s)).Error(), cause: err}
	}
	in := cryptobyte.String(der)
	id, err := oid(&in, quote(s))
	if err != nil {
		return "", err
	}
	return id.String(), nil
}
