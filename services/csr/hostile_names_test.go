package csr_test

import (
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
)

func hostileAttributes(t *testing.T) []hostile {
	attr := func(name string, a []byte, says string) hostile {
		return hostile{"attribute: " + name, request{attributes: a}.der(t), says}
	}
	san := seq(ctx(2, []byte("a.example")))
	var many, exts [][]byte
	for i := range csr.MaxAttributes + 1 {
		many = append(many, seq(oidOf(1, 2, i), set(null)))
	}
	for i := range csr.MaxExtensions + 1 {
		exts = append(exts, extension(oidOf(1, 2, i), null))
	}
	secret := "hunter2\x00"
	return []hostile{
		attr("a SET", set(), "an Attribute is missing"),
		attr("empty", seq(), "type of an attribute"),
		attr("no values", seq(oidExtReq), "set of values is missing"),
		attr("empty values", seq(oidExtReq, set()), "there is no value"),
		attr("values a SEQUENCE", seq(oidExtReq, seq(seq())), "set of values is missing"),
		attr("behind the values", seq(oidExtReq, set(seq()), null), "trailing octets behind the set of values"),
		attr("33 of them", join(many...), "more than 32 attributes"),
		attr("unknown one twice", join(seq(oidOf(1, 2, 3), set(null)), seq(oidOf(1, 2, 3), set(null))), "attribute 1.2.3 is there twice"),
		attr("extensionRequest twice", join(names(ctx(2, []byte("a.example"))), names(ctx(2, []byte("b.example")))), "1.2.840.113549.1.9.14 is there twice"),
		attr("extensionRequest with two values", seq(oidExtReq, set(seq(), seq())), "trailing octets behind the one value"),
		attr("extensionRequest a NULL", seq(oidExtReq, set(null)), "the one value is missing"),
		attr("Microsoft's own", seq(oidOf(1, 3, 6, 1, 4, 1, 311, 2, 1, 14), set(seq(extension(oidSAN, san)))), "1.3.6.1.4.1.311.2.1.14 is not accepted"),
		attr("extension twice", extensions(extension(oidSAN, san), extension(oidSAN, san)), "extension 2.5.29.17 is requested twice"),
		attr("unknown extension twice", extensions(extension(oidOf(1, 2, 3), null), extension(oidOf(1, 2, 3), null)), "extension 1.2.3 is requested twice"),
		attr("65 extensions", extensions(exts...), "more than 64 requested extensions"),
		attr("extension a SET", extensions(set()), "an Extension is missing"),
		attr("extension without type", extensions(seq(octets(null))), "type of an extension"),
		attr("extension without value", extensions(seq(oidSAN)), "value is missing"),
		attr("extension value no OCTET STRING", extensions(seq(oidSAN, san)), "value is missing"),
		attr("extension with a tail", extensions(seq(oidSAN, octets(san), null)), "trailing octets behind the value"),
		attr("critical of two octets", extensions(seq(oidSAN, []byte{1, 2, 0, 0}, octets(san))), "universal tag 1 is not DER"),
		attr("critical behind the value", extensions(seq(oidSAN, octets(san), yes)), "trailing octets behind the value"),
		attr("critical twice", extensions(seq(oidSAN, yes, yes, octets(san))), "value is missing"),
		attr("extension value empty", extensions(extension(oidOf(1, 2, 3))), "not one DER element"),
		attr("extension value of two elements", extensions(extension(oidOf(1, 2, 3), null, null)), "not one DER element"),
		attr("extension value in BER", extensions(extension(oidOf(1, 2, 3), []byte{1, 1, 5})), "extension 1.2.3: the content"),
		attr("extension value with BER inside", extensions(extension(oidOf(1, 2, 3), seq([]byte{0x24, 0}))), "encoded as constructed"),
		attr("challenge twice", join(seq(oidChallenge, set(utf8String("a"))), seq(oidChallenge, set(utf8String("a")))), "is there twice"),
		attr("challenge with two values", seq(oidChallenge, set(utf8String("a"), utf8String("b"))), "not exactly one value"),
		attr("challenge empty", seq(oidChallenge, set(utf8String(""))), "0 characters"),
		attr("challenge of 256 characters", seq(oidChallenge, set(utf8String(strings.Repeat("x", 256)))), "256 characters"),
		attr("challenge an OCTET STRING", seq(oidChallenge, set(octets([]byte("a")))), "value is not text"),
		attr("challenge with NUL", seq(oidChallenge, set(utf8String(secret))), "value is not text without control"),
	}
}

func hostileNames(t *testing.T) []hostile {
	san := func(name, says string, general ...[]byte) hostile {
		return hostile{"SAN: " + name, request{attributes: names(general...)}.der(t), says}
	}
	dns := func(s, says string) hostile { return san("dns "+s, says, ctx(2, []byte(s))) }
	email := func(s, says string) hostile { return san("email "+s, says, ctx(1, []byte(s))) }
	uri := func(s, says string) hostile { return san("uri "+s, says, ctx(6, []byte(s))) }
	upn := must(asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}))
	long := strings.Repeat("a", 63) + "."
	out := []hostile{
		{"SAN: no sequence", request{attributes: extensions(extension(oidSAN, set()))}.der(t), "GeneralNames is missing"},
		{"SAN: two sequences", request{attributes: extensions(extension(oidSAN, seq(), seq()))}.der(t), "not one DER element"},
		san("empty", "holds no name"),
		san("65 names", "more than 64 names", repeated(65)...),
		san("x400Address", "tag 0xa3 is not accepted", ctxc(3)),
		san("ediPartyName", "tag 0xa5 is not accepted", ctxc(5)),
		san("tag 9", "tag 0x89 is not accepted", ctx(9, []byte("a"))),
		san("a universal string", "tag 0x16 is not accepted", tlv(22, []byte("a.example"))),
		san("constructed dNSName", "tag 0xa2 is not accepted", ctxc(2, tlv(22, []byte("a.example")))),
		san("primitive otherName", "tag 0x80 is not accepted", ctx(0)),
		san("IP of 0 octets", "0 octets, not 4 or 16", ctx(7)),
		san("IP of 5 octets", "5 octets, not 4 or 16", ctx(7, make([]byte, 5))),
		san("IP of 8 octets", "8 octets, not 4 or 16", ctx(7, make([]byte, 8))),
		san("IPv4 in IPv6", "IPv4 within IPv6", ctx(7, append(make([]byte, 10), 0xff, 0xff, 1, 2, 3, 4))),
		san("directoryName with NUL", "directoryName: commonName: the text holds U+0000", ctxc(4, commonName("a\x00"))),
		san("directoryName with a tail", "trailing octets behind the Name", ctxc(4, commonName("a"), null)),
		san("directoryName not a Name", "Name is missing", ctxc(4, set())),
		san("registeredID padded", "registeredID", ctx(8, []byte{0x2a, 0x80, 1})),
		san("registeredID empty", "registeredID", ctx(8)),
		san("otherName empty", "otherName", ctxc(0)),
		san("otherName without value", "otherName 1.3.6.1.4.1.311.20.2.3: the value is missing", ctxc(0, upn)),
		san("otherName with an implicit value", "the value is missing", ctxc(0, upn, utf8String("a"))),
		san("otherName with two values", "not one DER element", ctxc(0, upn, ctxc(0, null, null))),
		san("otherName with an empty value", "not one DER element", ctxc(0, upn, ctxc(0))),
		san("otherName with a tail", "trailing octets behind the value", ctxc(0, upn, ctxc(0, null), null)),
		san("UPN with invalid UTF-8", "not valid UTF-8", ctxc(0, upn, ctxc(0, tlv(12, []byte{0xff})))),
		san("UPN a VisibleString with ESC", "U+001B", ctxc(0, upn, ctxc(0, tlv(26, []byte{0x1b})))),
		san("UPN a UniversalString above Unicode", "110000", ctxc(0, upn, ctxc(0, tlv(28, []byte{0, 0x11, 0, 0})))),
		san("UPN a UniversalString with NUL", "U+0000", ctxc(0, upn, ctxc(0, tlv(28, []byte{0, 0, 0, 0})))),
		san("Kerberos name with LF", "U+000A", ctxc(0, oidOf(1, 3, 6, 1, 5, 2, 2), ctxc(0, seq(ctxc(0, tlv(27, []byte("A\nB"))))))),
		dns("", "it is empty"), dns(".", "ends in a dot"), dns("a.example.", "ends in a dot"), dns(".a.example", "a label has 0 octets"),
		dns("a..example", "a label has 0 octets"), dns("-a.example", "hyphen"), dns("a-.example", "hyphen"), dns("a_b.example", "U+005F"),
		dns("a b.example", "U+0020"), dns(" a.example", "U+0020"), dns("a.example ", "U+0020"), dns("192.0.2.1", "last label is a number"),
		dns("1", "last label is a number"), dns("a.example:443", "U+003A"), dns("https://a.example", "U+003A"), dns("2001:db8::1", "U+003A"),
		dns("*", "U+002A"), dns("*.", "it is empty"), dns("*a.example", "U+002A"), dns("a*.example", "U+002A"), dns("a.*.example", "U+002A"),
		dns("*.*.example", "U+002A"), dns("**.example", "U+002A"), dns("xn--a.example", "not an A-label"), dns("xn--.example", "hyphen"),
		dns("xn--zzzzzzz99999.example", "not an A-label"), dns("ab--cd.example", "no A-label"), dns("bücher.example", "U+00FC"), dns("раураl.example", "U+0440"),
		dns("a.example\xff", "U+FFFD"), dns(strings.Repeat("a", 64)+".example", "64 octets"), dns(strings.Repeat(long, 4)+"example", "263 octets"),
		dns("*."+strings.Repeat(long, 3)+strings.Repeat("a", 61), "255 octets"), dns("a@b.example", "U+0040"), dns("a/b", "U+002F"), dns("a。example", "U+3002"),
		email("", "no @"), email("a", "no @"), email("@a.example", "0 octets"), email("a@", "it is empty"), email("a@b@c.example", "U+0040"),
		email("a@b.example.", "ends in a dot"), email("a@[192.0.2.1]", "U+005B"), email(`"a b"@c.example`, "dot-atom"), email("a..b@c.example", "dot-atom"),
		email(".a@c.example", "dot-atom"), email("a.@c.example", "dot-atom"), email("ä@c.example", "dot-atom"), email("a <a@c.example>", "dot-atom"),
		email("a@*.example", "U+002A"), email(strings.Repeat("a", 65)+"@c.example", "65 octets"), email("a@192.0.2.1", "last label is a number"),
		uri("", "not an absolute URI"), uri("/path", "not an absolute URI"), uri("a.example", "not an absolute URI"), uri("//a.example/", "not an absolute URI"),
		uri("http:", "not an absolute URI"), uri("http://", "it is empty"), uri("file:///etc/passwd", "it is empty"), uri("http://a b/", "U+0020"),
		uri("http://ä.example/", "U+00E4"), uri("http://a:b@c.example/", "user information"), uri("http://c@d.example/", "user information"),
		uri("http://a_b.example/", "U+005F"), uri("http://[::ffff:1.2.3.4]/", "IPv4 within IPv6"), uri("http://[fe80::1%25eth0]/", "zones"),
		uri("http://[v1.a]/", "not an"), uri("http://a.example/%zz", "not an absolute URI"), uri("http://a.example:x/", "not an absolute URI"),
		uri("http://a.example/<b>", "U+003C"), uri("http://%61.example/", "not an absolute URI"), uri("1http://a.example/", "not an absolute URI"),
		uri("urn:"+strings.Repeat("a", 2045), "2049 octets"),
	}
	for _, h := range hostileText {
		out = append(out,
			san("dns with "+h.name, "dNSName", ctx(2, []byte(h.text+".example"))),
			san("email with "+h.name, "rfc822Name", ctx(1, []byte(h.text+"@c.example"))),
			san("uri with "+h.name, "uniformResourceIdentifier", ctx(6, []byte("urn:"+h.text))),
			san("UPN with "+h.name, "otherName 1.3.6.1.4.1.311.20.2.3: the text holds "+h.says, ctxc(0, upn, ctxc(0, utf8String(h.text)))))
	}
	return out
}

func hostileAlgorithms(t *testing.T) []hostile {
	alg := func(name string, r request, says string) hostile {
		return hostile{"algorithm: " + name, r.der(t), says}
	}
	rsaKey := rsaKeys()[2048]
	pss := func(params ...[]byte) request {
		return request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 10), seq(params...))}
	}
	sha256 := seq(oidOf(2, 16, 840, 1, 101, 3, 4, 2, 1), null)
	mgf := seq(oidOf(1, 2, 840, 113549, 1, 1, 8), sha256)
	return []hostile{
		alg("MD2", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 2), null)}, "MD2 is broken"),
		alg("MD4", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 3), null)}, "MD4 is broken"),
		alg("MD5", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 4), null)}, "MD5 is broken"),
		alg("SHA-1 with RSA", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 5), null)}, "SHA-1 is broken"),
		alg("SHA-1 with RSA, ISO", request{key: rsaKey, algorithm: seq(oidOf(1, 3, 14, 3, 2, 29), null)}, "SHA-1 is broken"),
		alg("MD5 with RSA, ISO", request{key: rsaKey, algorithm: seq(oidOf(1, 3, 14, 3, 2, 3), null)}, "MD5 is broken"),
		alg("SHA-224 with RSA", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 14), null)}, "SHA-224 is too short"),
		alg("SHA-1 with ECDSA", request{algorithm: seq(oidOf(1, 2, 840, 10045, 4, 1))}, "SHA-1 is broken"),
		alg("SHA-224 with ECDSA", request{algorithm: seq(oidOf(1, 2, 840, 10045, 4, 3, 1))}, "SHA-224 is too short"),
		alg("unknown", request{algorithm: seq(oidOf(1, 2, 3))}, "signature algorithm 1.2.3 is not accepted"),
		alg("none", request{algorithm: seq()}, "not an object identifier"),
		alg("DSA", request{algorithm: seq(oidOf(2, 16, 840, 1, 101, 3, 4, 3, 2))}, "is not accepted"),
		alg("Ed448", request{algorithm: seq(oidOf(1, 3, 101, 113))}, "is not accepted"),
		alg("ECDSA with an RSA key", request{key: rsaKey, algorithm: ecdsa256}, "one for EC keys, the key is RSA"),
		alg("RSA with an EC key", request{algorithm: rsa256}, "one for RSA keys, the key is EC"),
		alg("Ed25519 with an EC key", request{algorithm: seq(oidOf(1, 3, 101, 112))}, "one for Ed25519 keys, the key is EC"),
		alg("ECDSA with NULL", request{algorithm: seq(oidOf(1, 2, 840, 10045, 4, 3, 2), null)}, "must not have"),
		alg("RSA with a SEQUENCE", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 11), seq())}, "must not have"),
		alg("RSA with NULL twice", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 11), null, null)}, "must not have"),
		alg("PSS with SHA-1", pss(), "RSASSA-PSS parameters"),
		alg("PSS with a long salt", pss(ctxc(0, sha256), ctxc(1, mgf), ctxc(2, []byte{2, 2, 0, 0xde})), "RSASSA-PSS parameters"),
		alg("PSS without parameters", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 10))}, "RSASSA-PSS parameters"),
		alg("PSS signed as PKCS#1 v1.5", pss(ctxc(0, sha256), ctxc(1, mgf), ctxc(2, []byte{2, 1, 32})), "signature does not fit"),
		alg("SHA-512 over a SHA-256 signature", request{key: rsaKey, algorithm: seq(oidOf(1, 2, 840, 113549, 1, 1, 13), null)}, "signature does not fit"),
	}
}
