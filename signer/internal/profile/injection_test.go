package profile_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"testing"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// hostile are texts that somebody might want to see in a certificate, or that might break
// whoever reads one.
var hostile = []string{
	"admin", "root@EXAMPLE.TEST", "ipa.example.test", "*.example.test", "*", "a.*.test", "host.example.test.", ".example.test", "a..b",
	"host.example.test\x00.evil.test", "evil\r\nSubject: x", "evil\nname", "a\tb", "evil\u202etset.elpmaxe", "\u2066x\u2069", "a\u200bb", "\ufeffx",
	"bücher.example", "xn--bcher-kva.example", "раураl.example", "192.0.2.1", "[2001:db8::1]", "CN=admin", "x,O=Evil", "x+UID=0", `x\,O=Evil`, `"quoted"`,
	"<script>alert(1)</script>", "%s%n", "{principal}", "${jndi:ldap://x}", strings.Repeat("a", 64), strings.Repeat("a", 5000), " leading", "trailing ",
}

// vector is a request that asks for more than the identity has.
type vector struct {
	name     string
	subject  pkix.RDNSequence
	extended []pkix.Extension
}

func vectors(t *testing.T) []vector {
	var all []vector
	rdn := func(oid asn1.ObjectIdentifier, value string) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: oid, Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(value)}}}
	}
	types := map[string]asn1.ObjectIdentifier{
		"CN": {2, 5, 4, 3}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "UID": {0, 9, 2342, 19200300, 100, 1, 1},
		"DC": {0, 9, 2342, 19200300, 100, 1, 25}, "emailAddress": {1, 2, 840, 113549, 1, 9, 1},
	}
	general := map[string]int{"email": 1, "dns": 2, "uri": 6}
	for _, text := range hostile {
		for name, oid := range types {
			all = append(all, vector{name: fmt.Sprintf("%s=%.30q", name, text), subject: pkix.RDNSequence{rdn(oid, text)}})
		}
		for name, tag := range general {
			e := names(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(text)})
			all = append(all, vector{name: fmt.Sprintf("%s:%.30q", name, text), extended: []pkix.Extension{e}})
		}
	}
	all = append(all, vector{name: "multi-valued", subject: pkix.RDNSequence{append(rdn(types["CN"], "pump-7"), rdn(types["UID"], "0")...)}})
	all = append(all, vector{name: "two CNs", subject: pkix.RDNSequence{rdn(types["CN"], "pump-7"), rdn(types["CN"], "admin")}})
	return append(append(all, otherNames(t)...), extensions()...)
}

// otherNames are the forms of name that log people in: UPN, Kerberos principal, and the like.
func otherNames(t *testing.T) []vector {
	utf8 := func(s string) []byte { return append([]byte{0x0c, byte(len(s))}, s...) }
	other := func(oid asn1.ObjectIdentifier, value []byte) asn1.RawValue {
		id, err := asn1.Marshal(oid)
		if err != nil {
			t.Fatal(err)
		}
		body := append(id, append([]byte{0xa0, byte(len(value))}, value...)...)
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: body}
	}
	principal := []byte("\x30\x1e\xa0\x06\x1b\x04TEST\xa1\x14\x30\x12\xa0\x03\x02\x01\x01\xa1\x0b\x30\x09\x1b\x05admin\x1b\x00")
	context := func(tag int, compound bool, b []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: b}
	}
	var all []vector
	for name, raw := range map[string]asn1.RawValue{
		"UPN":           other(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, utf8("admin@example.test")),
		"KRB5Principal": other(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 2}, principal),
		"SRVName":       other(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 7}, []byte("\x16\x0a_ldap.test")),
		"SmtpUTF8":      other(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}, utf8("a@ü.test")),
		"XmppAddr":      other(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5}, utf8("a@b")),
		"NTDS GUID":     other(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 1}, []byte{4, 1, 0}),
		"x400":          context(3, true, []byte{0x30, 0}),
		"directory":     context(4, true, []byte{0x30, 0}),
		"registered":    context(8, false, []byte{0x2a, 3}),
		"ip4":           context(7, false, []byte{192, 0, 2, 1}),
		"ip6":           context(7, false, make([]byte, 16)),
		"ip of 5":       context(7, false, make([]byte, 5)),
		"ip net":        context(7, false, make([]byte, 8)),
		"empty dns":     context(2, false, nil),
		"tag 9":         context(9, false, []byte("x")),
	} {
		all = append(all, vector{name: name, extended: []pkix.Extension{names(t, raw)}})
	}
	return all
}

// extensions are what would make more of a certificate than the profile does.
func extensions() []vector {
	var all []vector
	for name, e := range map[string]struct {
		oid   asn1.ObjectIdentifier
		value string
	}{
		"CA:TRUE":              {asn1.ObjectIdentifier{2, 5, 29, 19}, "\x30\x03\x01\x01\xff"},
		"CA:TRUE pathlen":      {asn1.ObjectIdentifier{2, 5, 29, 19}, "\x30\x06\x01\x01\xff\x02\x01\x05"},
		"keyCertSign":          {asn1.ObjectIdentifier{2, 5, 29, 15}, "\x03\x02\x01\x06"},
		"all key usages":       {asn1.ObjectIdentifier{2, 5, 29, 15}, "\x03\x03\x07\xff\x80"},
		"anyEKU":               {asn1.ObjectIdentifier{2, 5, 29, 37}, "\x30\x06\x06\x04\x55\x1d\x25\x00"},
		"OCSPSigning":          {asn1.ObjectIdentifier{2, 5, 29, 37}, "\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x09"},
		"serverAuth":           {asn1.ObjectIdentifier{2, 5, 29, 37}, "\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"},
		"PKINIT client":        {asn1.ObjectIdentifier{2, 5, 29, 37}, "\x30\x09\x06\x07\x2b\x06\x01\x05\x02\x03\x04"},
		"SID":                  {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}, "\x30\x00"},
		"template name":        {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}, "\x1e\x02\x00A"},
		"template":             {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 7}, "\x30\x00"},
		"application policies": {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 10}, "\x30\x00"},
		"policies":             {asn1.ObjectIdentifier{2, 5, 29, 32}, "\x30\x08\x30\x06\x06\x04\x55\x1d\x20\x00"},
		"name constraints":     {asn1.ObjectIdentifier{2, 5, 29, 30}, "\x30\x00"},
		"policy constraints":   {asn1.ObjectIdentifier{2, 5, 29, 36}, "\x30\x03\x80\x01\x00"},
		"inhibit any":          {asn1.ObjectIdentifier{2, 5, 29, 54}, "\x02\x01\x00"},
		"key id":               {asn1.ObjectIdentifier{2, 5, 29, 14}, "\x04\x01\x01"},
		"authority key id":     {asn1.ObjectIdentifier{2, 5, 29, 35}, "\x30\x03\x80\x01\x01"},
		"issuer names":         {asn1.ObjectIdentifier{2, 5, 29, 18}, "\x30\x03\x82\x01x"},
		"CRL":                  {asn1.ObjectIdentifier{2, 5, 29, 31}, "\x30\x00"},
		"AIA":                  {asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}, "\x30\x00"},
		"SIA":                  {asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 11}, "\x30\x00"},
		"proxy":                {asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 14}, "\x30\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x15\x01"},
		"must staple":          {asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, "\x30\x03\x02\x01\x05"},
		"no check":             {asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, "\x05\x00"},
		"poison":               {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, "\x05\x00"},
		"private":              {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, "\x0c\x01x"},
		"Netscape":             {asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 1}, "\x03\x02\x00\x07"},
		"huge":                 {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, "\x04\x82\x4e\x20" + strings.Repeat("A", 20000)},
		"not DER":              {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 3}, "\x30\xff"},
	} {
		for _, critical := range []bool{false, true} {
			all = append(all, vector{
				name:     fmt.Sprintf("%s critical=%v", name, critical),
				extended: []pkix.Extension{{Id: e.oid, Critical: critical, Value: []byte(e.value)}},
			})
		}
	}
	return all
}

// TestNothingOfARequestButTheKeyIsCertified: every vector is either refused, or gives the
// very certificate that a bare request for the same key gives, octet for octet.
func TestNothingOfARequestButTheKeyIsCertified(t *testing.T) {
	a := newAuthority(t)
	k := newKey(t)
	drop := newSet(t, a, device(func(p *profile.Profile) { p.CSRNames = "drop" }))
	strict := newSet(t, a, device(func(p *profile.Profile) { p.CSRSubject, p.CSRExtensions = "match", "refuse" }))
	m := says([]string{"dns:pump-7.example.net"})
	bare := tbs(t, a, drop, m, asks(t, k, x509.CertificateRequest{}))
	all := vectors(t)
	if len(all) < 300 {
		t.Fatalf("%d vectors: at least 300 are wanted", len(all))
	}
	var unread, dropped, refused int
	for _, v := range all {
		r, err := v.request(k)
		if errors.Is(err, fault.Malformed) {
			unread++
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		if got := tbs(t, a, drop, m, r); got == nil || !bytes.Equal(got, bare) {
			t.Errorf("%s: changed the certificate, or was refused although the profile drops", v.name)
		}
		dropped++
		if _, err := strict.Build(m, r, now, serial); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s: not refused: %v", v.name, err)
			continue
		}
		refused++
	}
	t.Logf("%d vectors: %d not read as a request, %d dropped, %d refused", len(all), unread, dropped, refused)
	if dropped < 100 {
		t.Errorf("only %d vectors reached the profile", dropped)
	}
}

func (v vector) request(k *ecdsa.PrivateKey) (*csr.Request, error) {
	template := x509.CertificateRequest{ExtraExtensions: v.extended}
	if v.subject != nil {
		var err error
		if template.RawSubject, err = asn1.Marshal(v.subject); err != nil {
			return nil, err
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, k)
	if err != nil {
		return nil, err
	}
	return csr.Parse(der)
}

func tbs(t *testing.T, a *ca.Authority, s *profile.Set, m *assertionv1.Assertion, r *csr.Request) []byte {
	t.Helper()
	template, err := s.Build(m, r, now, serial)
	if err != nil {
		t.Error(err)
		return nil
	}
	draft, err := a.Draft(template, r.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return draft.RawTBSCertificate
}

// TestHostileIdentities: what a validator asserts stands in the certificate exactly, as one
// value, or the request is refused.
func TestHostileIdentities(t *testing.T) {
	a := newAuthority(t)
	set := newSet(t, a, device(func(p *profile.Profile) { p.Subject = "CN={principal},O={realm},UID={uid}" }))
	r := asks(t, newKey(t), x509.CertificateRequest{})
	var issued int
	for _, text := range hostile {
		m := says([]string{"dns:pump-7.example.net"}, func(m *assertionv1.Assertion) {
			m.Identity.Principal, m.Identity.Realm, m.Identity.Uid = text, "DEVICES", text
		})
		if _, err := set.Build(m, r, now, serial); err != nil {
			if !errors.Is(err, fault.Forbidden) {
				t.Errorf("%.40q: %v", text, err)
			}
			continue
		}
		issued++
		c := issue(t, a, set, m, r)
		if n := c.Subject.Names; len(n) != 3 || n[0].Value != text || n[1].Value != "DEVICES" || n[2].Value != text || len(san(c)) != 1 {
			t.Errorf("%q became %v %v", text, n, san(c))
		}
	}
	if issued == 0 || issued == len(hostile) {
		t.Errorf("%d of %d issued: the test shows nothing", issued, len(hostile))
	}
	for _, text := range hostile {
		for _, kind := range []string{"dns:", "email:", "uri:", "ip:", "other:"} {
			m := says([]string{kind + text})
			template, err := set.Build(m, r, now, serial)
			if err == nil && len(template.DNSNames)+len(template.EmailAddresses)+len(template.URIs)+len(template.IPAddresses) != 1 {
				t.Errorf("%q became something else: %v", kind+text, template)
			}
			if err != nil && !errors.Is(err, fault.Forbidden) {
				t.Errorf("%q: %v", kind+text, err)
			}
		}
	}
}
