package csr_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

// hostile is a broken request and what its refusal has to say.
type hostile struct {
	name string
	der  []byte
	says string
}

// hostileText are the texts that no name may hold, with how the refusal calls them.
var hostileText = []struct{ name, text, says string }{
	{"NUL", "a\x00b", "U+0000"},
	{"LF", "a\nb", "U+000A"},
	{"CR", "a\rb", "U+000D"},
	{"TAB", "a\tb", "U+0009"},
	{"ESC", "a\x1b[2Jb", "U+001B"},
	{"DEL", "a\x7fb", "U+007F"},
	{"C1", "a\u0085b", "U+0085"},
	{"CSI", "a\u009bb", "U+009B"},
	{"RLO", "a\u202eb", "U+202E"},
	{"LRE", "a\u202ab", "U+202A"},
	{"LRI", "a\u2066b", "U+2066"},
	{"PDI", "a\u2069b", "U+2069"},
	{"LRM", "a\u200eb", "U+200E"},
	{"ALM", "a\u061cb", "U+061C"},
	{"zero width space", "a\u200bb", "U+200B"},
	{"zero width joiner", "a\u200db", "U+200D"},
	{"word joiner", "a\u2060b", "U+2060"},
	{"byte order mark", "a\ufeffb", "U+FEFF"},
	{"soft hyphen", "a\u00adb", "U+00AD"},
	{"line separator", "a\u2028b", "U+2028"},
	{"tag character", "a\U000e0041b", "U+E0041"},
	{"variation selector", "a\ufe0fb", "U+FE0F"},
	{"Hangul filler", "a\u3164b", "U+3164"},
	{"private use", "a\ue000b", "U+E000"},
	{"noncharacter", "a\uffffb", "U+FFFF"},
	{"replacement", "a\ufffdb", "U+FFFD"},
}

func hostileRequests(t *testing.T) []hostile {
	var out []hostile
	for _, list := range [][]hostile{
		hostileStructure(t), hostileSubjects(t), hostileAttributes(t), hostileNames(t), hostileAlgorithms(t), hostileKeys(t),
	} {
		out = append(out, list...)
	}
	return out
}

func TestParseRefuses(t *testing.T) {
	list := hostileRequests(t)
	if len(list) < 200 {
		t.Fatalf("%d hostile requests", len(list))
	}
	seen := map[string]bool{}
	for _, h := range list {
		if seen[h.name] {
			t.Errorf("two cases are called %q", h.name)
		}
		seen[h.name] = true
		r, err := csr.Parse(h.der)
		if r != nil || !errors.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, %v", h.name, r, err)
			continue
		}
		says := fault.Public(err)
		if !strings.Contains(says, h.says) {
			t.Errorf("%s: the refusal %q does not say %q", h.name, says, h.says)
		}
		if len(says) > 400 || strings.ContainsFunc(says, func(r rune) bool { return r < ' ' || r == 0x7f || r > 0x7e && r != '…' }) {
			t.Errorf("%s: the refusal %q is long or holds what the client chose", h.name, says)
		}
	}
}

func hostileStructure(t *testing.T) []hostile {
	good := request{}.der(t)
	list := []hostile{
		{"empty", nil, "CertificationRequest is missing"},
		{"one octet", good[:1], "CertificationRequest is missing"},
		{"cut in the middle", good[:len(good)/2], "CertificationRequest is missing"},
		{"cut by one", good[:len(good)-1], "CertificationRequest is missing"},
		{"a SET", append([]byte{0x31}, good[1:]...), "CertificationRequest is missing"},
		{"empty SEQUENCE", seq(), "CertificationRequestInfo is missing"},
		{"empty info", seq(seq()), "signatureAlgorithm is missing"},
		{"text", []byte("-----BEGIN CERTIFICATE REQUEST-----"), "CertificationRequest is missing"},
		{"above the size", make([]byte, csr.MaxDER+1), "49153 octets"},
		{"trailing NUL", request{after: []byte{0}}.der(t), "1 trailing octets behind the CertificationRequest"},
		{"request twice", join(good, good), "trailing octets behind the CertificationRequest"},
		{"behind the signature", request{tail: null}.der(t), "trailing octets behind the signature"},
		{"behind the attributes", request{infoTail: null}.der(t), "trailing octets behind the attributes"},
		{"no attributes", request{noAttrs: true}.der(t), "set of attributes is missing"},
		{"attributes twice", request{infoTail: ctxc(0)}.der(t), "trailing octets behind the attributes"},
		{"version 1", request{version: []byte{2, 1, 1}}.der(t), "version is not 0"},
		{"version -1", request{version: []byte{2, 1, 0xff}}.der(t), "version is not 0"},
		{"version 256", request{version: []byte{2, 2, 1, 0}}.der(t), "version is not 0"},
		{"version padded", request{version: []byte{2, 2, 0, 0}}.der(t), "universal tag 2 is not DER"},
		{"version empty", request{version: []byte{2, 0}}.der(t), "universal tag 2 is not DER"},
		{"version a BOOLEAN", request{version: []byte{1, 1, 0}}.der(t), "version is missing"},
		{"no version", request{version: []byte{}}.der(t), "version is missing"},
		{"no subject", request{subject: []byte{}}.der(t), "subjectPublicKeyInfo is missing"},
		{"subject a SET", request{subject: set()}.der(t), "subject is missing"},
		{"no key", request{spki: []byte{}}.der(t), "subjectPublicKeyInfo is missing"},
		{"signature empty", request{signature: []byte{}}.der(t), "universal tag 3 is not DER"},
		{"signature of 7 spare bits", request{signature: []byte{7, 0x80}}.der(t), "whole number of octets"},
		{"signature of 8 spare bits", request{signature: []byte{8, 0}}.der(t), "universal tag 3 is not DER"},
		{"signature without octets", request{signature: []byte{0}}.der(t), "signature does not fit"},
		{"indefinite length", join([]byte{0x30, 0x80}, good[4:], []byte{0, 0}), "CertificationRequest is missing"},
		{"padded length", join([]byte{0x30, 0x83, 0}, good[2:]), "CertificationRequest is missing"},
		{"length of 4 GiB", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0}, "CertificationRequest is missing"},
		{"length of 5 octets", []byte{0x30, 0x85, 1, 0, 0, 0, 0, 0}, "CertificationRequest is missing"},
		{"tag above 30", request{attributes: []byte{0x3f, 0x81, 0x01, 0}}.der(t), "its tag or length is not DER"},
		{"end of contents", request{attributes: []byte{0, 0}}.der(t), "universal tag 0 is not DER"},
		{"primitive SEQUENCE", request{attributes: []byte{0x10, 0}}.der(t), "encoded as primitive"},
		{"constructed OCTET STRING", request{attributes: seq(oidOf(1, 2), set([]byte{0x24, 0}))}.der(t), "encoded as constructed"},
		{"constructed UTF8String", request{subject: seq(rdn(oidCN, tlv(0x2c, utf8String("a"))))}.der(t), "encoded as constructed"},
		{"BOOLEAN of 1", request{attributes: seq(oidOf(1, 2), set([]byte{1, 1, 1}))}.der(t), "universal tag 1 is not DER"},
		{"NULL with content", request{attributes: seq(oidOf(1, 2), set([]byte{5, 1, 0}))}.der(t), "universal tag 5 is not DER"},
		{"negative padded INTEGER", request{attributes: seq(oidOf(1, 2), set([]byte{2, 2, 0xff, 0x80}))}.der(t), "universal tag 2 is not DER"},
		{"spare bits set", request{attributes: seq(oidOf(1, 2), set([]byte{3, 2, 4, 0xff}))}.der(t), "universal tag 3 is not DER"},
		{"OID padded", request{attributes: seq([]byte{6, 3, 0x2a, 0x80, 1}, set(null))}.der(t), "universal tag 6 is not DER"},
		{"OID cut", request{attributes: seq([]byte{6, 2, 0x2a, 0x81}, set(null))}.der(t), "universal tag 6 is not DER"},
		{"OID empty", request{attributes: seq([]byte{6, 0}, set(null))}.der(t), "universal tag 6 is not DER"},
		{"OID arc of 2^35", request{attributes: seq([]byte{6, 7, 0x2a, 0x81, 0x80, 0x80, 0x80, 0x80, 0}, set(null))}.der(t), "arcs below 2^31"},
	}
	deep := null
	for range 40 {
		deep = seq(deep)
	}
	flipped := request{}.der(t)
	flipped[len(flipped)-1] ^= 1
	other := request{signature: append([]byte{0}, request{subject: commonName("other")}.der(t)[100:170]...)}
	return append(list,
		hostile{"40 levels", request{attributes: seq(oidOf(1, 2), set(deep))}.der(t), "more than 32 elements"},
		hostile{"signature flipped", flipped, "signature does not fit"},
		hostile{"signature of something else", other.der(t), "signature does not fit"},
		hostile{"signature with a tail", request{signature: append([]byte{0}, append(seq([]byte{2, 1, 1}, []byte{2, 1, 1}), 0)...)}.der(t), "signature does not fit"},
		hostile{"signature of zeros", request{signature: append([]byte{0}, seq([]byte{2, 1, 0}, []byte{2, 1, 0})...)}.der(t), "signature does not fit"},
	)
}

func hostileSubjects(t *testing.T) []hostile {
	subject := func(name string, s []byte, says string) hostile {
		return hostile{"subject: " + name, request{subject: s}.der(t), says}
	}
	many := make([][]byte, csr.MaxRDNs+1)
	for i := range many {
		many[i] = rdn(oidCN, utf8String("a"))
	}
	var wide [][]byte
	for i := range csr.MaxRDNs + 1 {
		wide = append(wide, seq(oidOf(1, 2, i), utf8String("a")))
	}
	out := []hostile{
		subject("invalid UTF-8", seq(rdn(oidCN, tlv(12, []byte{'a', 0xff}))), "commonName: the text is not valid UTF-8"),
		subject("overlong UTF-8", seq(rdn(oidCN, tlv(12, []byte{0xc0, 0x80}))), "not valid UTF-8"),
		subject("surrogate in UTF-8", seq(rdn(oidCN, tlv(12, []byte{0xed, 0xa0, 0x80}))), "not valid UTF-8"),
		subject("PrintableString with @", seq(rdn(oidCN, tlv(19, []byte("a@b")))), "U+0040"),
		subject("PrintableString with NUL", seq(rdn(oidCN, tlv(19, []byte("a\x00b")))), "U+0000"),
		subject("PrintableString with octet FF", seq(rdn(oidCN, tlv(19, []byte{0xff}))), "PrintableString"),
		subject("NumericString with letters", seq(rdn(oidCN, tlv(18, []byte("12a")))), "NumericString"),
		subject("IA5String with octet 80", seq(rdn(oidCN, tlv(22, []byte{0x80}))), "tag 22 holds more than ASCII"),
		subject("IA5String with LF", seq(rdn(oidCN, tlv(22, []byte("a\nb")))), "U+000A"),
		subject("T61String in Latin-1", seq(rdn(oidCN, tlv(20, []byte{0xe4}))), "tag 20 holds more than ASCII"),
		subject("VisibleString", seq(rdn(oidCN, tlv(26, []byte("a")))), "universal tag 26 is not accepted"),
		subject("GeneralString", seq(rdn(oidCN, tlv(27, []byte("a")))), "universal tag 27 is not accepted"),
		subject("UniversalString", seq(rdn(oidCN, tlv(28, []byte{0, 0, 0, 'a'}))), "universal tag 28 is not accepted"),
		subject("BMPString of odd length", seq(rdn(oidCN, tlv(30, []byte{0, 'a', 0}))), "cut short"),
		subject("BMPString with surrogates", seq(rdn(oidCN, tlv(30, []byte{0xd8, 0, 0xdc, 0}))), "D800"),
		subject("BMPString with bidi", seq(rdn(oidCN, tlv(30, []byte{0x20, 0x2e}))), "U+202E"),
		subject("an INTEGER", seq(rdn(oidCN, []byte{2, 1, 1})), "not a character string"),
		subject("an OCTET STRING", seq(rdn(oidCN, octets([]byte("abc")))), "not a character string"),
		subject("a SEQUENCE", seq(rdn(oidCN, seq())), "not a character string"),
		subject("a context tag", seq(rdn(oidCN, ctx(12, []byte("abc")))), "not a character string"),
		subject("no value", seq(set(seq(oidCN))), "has no value"),
		subject("no type", seq(set(seq(utf8String("a")))), "not an object identifier"),
		subject("two values", seq(set(seq(oidCN, utf8String("a"), utf8String("b")))), "trailing octets behind the value"),
		subject("empty RDN", seq(set()), "RelativeDistinguishedName is empty"),
		subject("RDN a SEQUENCE", seq(seq(seq(oidCN, utf8String("a")))), "RelativeDistinguishedName is missing"),
		subject("attribute a SET", seq(set(set(oidCN, utf8String("a")))), "AttributeTypeAndValue is missing"),
		subject("empty CN", commonName(""), "commonName is empty"),
		subject("one type twice in an RDN", seq(set(seq(oidCN, utf8String("a")), seq(oidCN, utf8String("b")))), "two attributes of the type 2.5.4.3"),
		subject("65 RDNs", seq(many...), "more than 64 relative"),
		subject("65 attributes in an RDN", seq(set(wide...)), "more than 64 attributes in"),
		subject("CN of 5000 characters", commonName(strings.Repeat("a", 5000)), "5000 characters"),
		subject("country of 1", seq(rdn(oidC, utf8String("D"))), "countryName has 1 characters"),
		subject("country of 3", seq(rdn(oidC, utf8String("DEU"))), "countryName has 3 characters"),
	}
	for _, h := range hostileText {
		out = append(out, subject(h.name, commonName(h.text), "subject: commonName: the text holds "+h.says))
	}
	for _, bound := range []struct {
		name string
		id   []byte
		max  int
	}{
		{"commonName", oidCN, 64},
		{"serialNumber", oidOf(2, 5, 4, 5), 64},
		{"localityName", oidOf(2, 5, 4, 7), 128},
		{"stateOrProvinceName", oidOf(2, 5, 4, 8), 128},
		{"organizationName", oidO, 64},
		{"organizationalUnitName", oidOf(2, 5, 4, 11), 64},
		{"title", oidOf(2, 5, 4, 12), 64},
		{"pseudonym", oidOf(2, 5, 4, 65), 128},
		{"emailAddress", oidOf(1, 2, 840, 113549, 1, 9, 1), 255},
		{"givenName", oidOf(2, 5, 4, 42), 32768},
		{"attribute 1.2.3", oidOf(1, 2, 3), 256},
	} {
		says := fmt.Sprintf("%s has %d characters: at most %d", bound.name, bound.max+1, bound.max)
		out = append(out, subject("long "+bound.name, seq(rdn(bound.id, utf8String(strings.Repeat("a", bound.max+1)))), says))
	}
	return out
}
