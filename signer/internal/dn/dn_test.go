package dn_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/signer/internal/dn"
)

func TestParse(t *testing.T) {
	for text, want := range map[string][]dn.Element{
		"":                                 nil,
		"CN=host":                          {{Type: "CN", Value: "host"}},
		"cn=a, O=Example ,C=DE":            {{Type: "C", Value: "DE"}, {Type: "O", Value: "Example"}, {Type: "CN", Value: "a"}},
		`O=Smith\, Jones \2B Co,DC=x`:      {{Type: "DC", Value: "x"}, {Type: "O", Value: "Smith, Jones + Co"}},
		`CN=a\ `:                           {{Type: "CN", Value: "a "}},
		`CN=\c3\a4`:                        {{Type: "CN", Value: "ä"}},
		"CN={principal},OU=x=y":            {{Type: "OU", Value: "x=y"}, {Type: "CN", Value: "{principal}"}},
		"serialNumber=12,UID=u,ST=s,L=l":   {{Type: "L", Value: "l"}, {Type: "ST", Value: "s"}, {Type: "UID", Value: "u"}, {Type: "SERIALNUMBER", Value: "12"}},
		"DC=test,DC=example,STREET=Ring 1": {{Type: "STREET", Value: "Ring 1"}, {Type: "DC", Value: "example"}, {Type: "DC", Value: "test"}},
	} {
		got, err := dn.Parse(text)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"CN", "CN=", "=x", "X=1", "CN=a,", ",CN=a", "CN=a+O=b", `CN="a"`, "CN=#0401", `CN=a\`, `CN=a\z`, "CN=a;O=b",
		"CN=<a>", "CN=a\x00b", "CN=\xff", `CN=\ff`, "CN=a,,O=b", "2.5.4.3=a",
	} {
		if got, err := dn.Parse(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestMarshal(t *testing.T) {
	der, err := dn.Marshal([]dn.Element{{Type: "C", Value: "DE"}, {Type: "DC", Value: "example"}, {Type: "O", Value: "Bäcker"}, {Type: "CN", Value: "host-1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\x13\x02DE", "\x16\x07example", "\x0c\x07Bäcker", "\x13\x06host-1"} {
		if !bytes.Contains(der, []byte(want)) {
			t.Errorf("%q is not in %q", want, der)
		}
	}
	for _, e := range []dn.Element{
		{Type: "CN", Value: ""},
		{Type: "CN", Value: strings.Repeat("a", 65)},
		{Type: "CN", Value: strings.Repeat("ä", 65)},
		{Type: "CN", Value: "a\x00b"},
		{Type: "CN", Value: "a\nb"},
		{Type: "CN", Value: "a\u202eb"},
		{Type: "CN", Value: " a"},
		{Type: "CN", Value: "a "},
		{Type: "CN", Value: "a  b"},
		{Type: "CN", Value: "a\u200bb"},
		{Type: "CN", Value: "a\ufeffb"},
		{Type: "CN", Value: "a\ufffdb"},
		{Type: "CN", Value: "\xff"},
		{Type: "CN", Value: "a\u00a0b"},
		{Type: "CN", Value: "a\u3164b"},
		{Type: "CN", Value: "a\ufe0fb"},
		{Type: "CN", Value: "a\u2028b"},
		{Type: "CN", Value: "a\ue000b"},
		{Type: "C", Value: "de"},
		{Type: "C", Value: "DEU"},
		{Type: "C", Value: "D1"},
		{Type: "DC", Value: "ä"},
		{Type: "SERIALNUMBER", Value: "a@b"},
		{Type: "EMAIL", Value: "a"},
		{Type: "O", Value: strings.Repeat("a", 65)},
	} {
		if _, err := dn.Marshal([]dn.Element{e}); err == nil {
			t.Errorf("%s=%q was encoded", e.Type, e.Value)
		}
	}
	if _, err := dn.Marshal([]dn.Element{{Type: "CN", Value: strings.Repeat("ä", 64)}}); err != nil {
		t.Errorf("64 characters of two octets: %v", err)
	}
}

func TestEqual(t *testing.T) {
	marshal := func(name ...pkix.AttributeTypeAndValue) []byte {
		var sequence pkix.RDNSequence
		for _, a := range name {
			sequence = append(sequence, pkix.RelativeDistinguishedNameSET{a})
		}
		der, err := asn1.Marshal(sequence)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	utf8 := func(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(s)} }
	a := marshal(pkix.AttributeTypeAndValue{Type: cn, Value: "Host One"})
	for _, same := range []any{"host one", "HOST  ONE", utf8("Host One"), " host one "} {
		if !dn.Equal(a, marshal(pkix.AttributeTypeAndValue{Type: cn, Value: same})) {
			t.Errorf("%v is not the same", same)
		}
	}
	for name, other := range map[string][]byte{
		"value":     marshal(pkix.AttributeTypeAndValue{Type: cn, Value: "Host Two"}),
		"type":      marshal(pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Host One"}),
		"more":      marshal(pkix.AttributeTypeAndValue{Type: cn, Value: "Host One"}, pkix.AttributeTypeAndValue{Type: cn, Value: "x"}),
		"empty":     {0x30, 0},
		"trailing":  append(a[:len(a):len(a)], 0),
		"truncated": a[:len(a)-1],
		"nothing":   nil,
	} {
		if dn.Equal(a, other) {
			t.Errorf("%s: the same", name)
		}
	}
	if dn.Equal(nil, nil) || !dn.IsEmpty([]byte{0x30, 0}) || dn.IsEmpty(a) {
		t.Error("names that cannot be read are equal, or emptiness is not seen")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"CN=a,O=b", `CN=a\,b`, `CN=\c3\a4`, "CN={principal},OU=x", "CN=a\\", "C=DE"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := dn.Parse(text)
		if err != nil {
			return
		}
		der, err := dn.Marshal(name)
		if err != nil {
			return
		}
		var sequence pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 || len(sequence) != len(name) {
			t.Fatalf("%q became %x: %v", text, der, err)
		}
		for i, set := range sequence {
			if len(set) != 1 || set[0].Value != name[i].Value {
				t.Fatalf("%q: element %d is %v, not %q", text, i, set, name[i].Value)
			}
		}
	})
}
