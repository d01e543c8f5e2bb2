package csr_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"dns:Host.Example":                      "dns:host.example",
		"dns:localhost":                         "dns:localhost",
		"dns:*.Apps.example":                    "dns:*.apps.example",
		"dns:1.2.3.a4":                          "dns:1.2.3.a4",
		"dns:XN--BCHER-KVA.example":             "dns:xn--bcher-kva.example",
		"ip:192.0.2.1":                          "ip:192.0.2.1",
		"ip:2001:DB8:0:0::1":                    "ip:2001:db8::1",
		"email:O'Hara+x@Mail.Example":           "email:O'Hara+x@mail.example",
		"uri:HTTPS://Host.Example:8443/A?b=C#d": "uri:https://host.example:8443/A?b=C#d",
		"uri:http://[2001:DB8::1]/x":            "uri:http://[2001:db8::1]/x",
		"uri:URN:UUID:F81D":                     "uri:urn:UUID:F81D",
		"uri:spiffe://Realm.Example":            "uri:spiffe://realm.example",
		"rid:1.3.6.1.4.1":                       "rid:1.3.6.1.4.1",
		"other:1.3.6.1.4.1.311.20.2.3:0C0161":   "other:1.3.6.1.4.1.311.20.2.3:0c0161",
		"dirname:300C310A300806035504030C0161":  "dirname:300c310a300806035504030c0161",
	} {
		n, err := csr.ParseName(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if n.String() != want {
			t.Errorf("%s: got %s, want %s", in, n, want)
		}
		if again, err := csr.ParseName(n.String()); err != nil || again != n {
			t.Errorf("%s: %s reads back as %s, %v", in, n, again, err)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	for in, says := range map[string]string{
		"":                    "has no type",
		"host.example":        "has no type",
		"DNS:host.example":    `the name type "DNS" is unknown`,
		"dns :host.example":   "is unknown",
		"dns:":                "it is empty",
		"dns: host.example":   "U+0020",
		"dns:host.example.":   "ends in a dot",
		"dns:bücher.example":  "U+00FC",
		"dns:\u202e":          "U+202E",
		"ip:":                 "not an IP address",
		"ip:192.0.2.256":      "not an IP address",
		"ip:192.0.2.01":       "not an IP address",
		"ip:192.0.2.0/24":     "not an IP address",
		"ip:::ffff:192.0.2.1": "IPv4 within IPv6",
		"ip:fe80::1%eth0":     "zones",
		"email:root":          "no @",
		"uri:host":            "not an absolute URI",
		"rid:1":               "not an object identifier",
		"rid:3.1":             "not an object identifier",
		"rid:1.40":            "not an object identifier",
		"rid:1.2.03":          "not an object identifier",
		"rid:1.2.-3":          "not an object identifier",
		"rid:1.2.4294967296":  "not an object identifier",
		"rid:1.2." + strings.Repeat("1.", 600) + "1": "not an object identifier",
		"other:1.2.3":                          "an OID, a colon",
		"other:1.2.x:0500":                     "not an object identifier",
		"other:1.2.3:":                         "not one DER element",
		"other:1.2.3:0":                        "hexadecimal",
		"other:1.2.3:zz":                       "hexadecimal",
		"other:1.2.3:05000500":                 "not one DER element",
		"other:1.2.3:0c0100":                   "U+0000",
		"other:1.2.3:010101":                   "universal tag 1",
		"dirname:":                             "Name is missing",
		"dirname:3000 ":                        "hexadecimal",
		"dirname:30003000":                     "trailing octets",
		"dirname:300c310a300806035504030c010a": "U+000A",
		"dirname:" + strings.Repeat("30", csr.MaxDER+1): "more than 49152 octets",
	} {
		n, err := csr.ParseName(in)
		if n != (csr.Name{}) || !errors.Is(err, fault.Malformed) {
			t.Errorf("%.40q: %v, %v", in, n, err)
			continue
		}
		if says2 := fault.Public(err); !strings.Contains(says2, says) || len(says2) > 400 {
			t.Errorf("%.40q: the refusal %q does not say %q", in, says2, says)
		}
	}
}

// TestRareNamesAreWritten shows the forms that crypto/x509 does not read.
func TestRareNamesAreWritten(t *testing.T) {
	r := parsed(t, request{attributes: names(
		ctxc(0, oidOf(1, 3, 6, 1, 4, 1, 311, 20, 2, 3), ctxc(0, utf8String("a"))),
		ctxc(4, commonName("a")),
		ctx(8, []byte{0x2b, 6, 1}),
		ctx(6, []byte("URN:x")),
	)})
	want := []string{"other:1.3.6.1.4.1.311.20.2.3:0c0161", "dirname:300c310a300806035504030c0161", "rid:1.3.6.1", "uri:urn:x"}
	if len(r.Names()) != len(want) {
		t.Fatalf("names: %v", r.Names())
	}
	for i, n := range r.Names() {
		if n.String() != want[i] {
			t.Errorf("got %s, want %s", n, want[i])
		}
		if back, err := csr.ParseName(n.String()); err != nil || back != n {
			t.Errorf("%s reads back as %s, %v", n, back, err)
		}
	}
}
