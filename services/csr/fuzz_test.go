package csr_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

// FuzzParse demands of every input: a refusal of the right kind, or a request that
// crypto/x509 reads and verifies too, that reads the same a second time, and whose names
// survive being written.
func FuzzParse(f *testing.F) {
	for _, r := range []request{{}, {attributes: names(ctx(2, []byte("a.example")))}, {attributes: seq(oidChallenge, set(utf8String("x")))}} {
		f.Add(r.der(f))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := csr.Parse(der)
		agrees(t, der, r, err)
	})
}

// FuzzParseSigned does the same with requests whose subject and attributes are anything and
// whose signature is good, so that more than refusals is reached.
func FuzzParseSigned(f *testing.F) {
	f.Add(commonName("a"), names(ctx(2, []byte("a.example")), ctx(7, []byte{1, 2, 3, 4})))
	f.Add(seq(), names(ctx(6, []byte("urn:a")), ctx(1, []byte("a@b.example")), ctxc(4, commonName("b")), ctx(8, []byte{42})))
	f.Add(seq(rdn(oidC, tlv(19, []byte("DE")))), seq(oidChallenge, set(tlv(22, []byte("x")))))
	f.Add(seq(rdn(oidCN, tlv(30, []byte{0, 'a'}))), names(ctxc(0, oidOf(1, 2, 3), ctxc(0, utf8String("a")))))
	f.Fuzz(func(t *testing.T, subject, attributes []byte) {
		if len(subject)+len(attributes) > csr.MaxBody {
			return
		}
		der := request{subject: append([]byte{}, subject...), attributes: attributes}.der(t)
		r, err := csr.Parse(der)
		agrees(t, der, r, err)
	})
}

// agrees holds the result of Parse against crypto/x509.
func agrees(t *testing.T, der []byte, r *csr.Request, err error) {
	t.Helper()
	if err != nil {
		if r != nil || !errors.Is(err, fault.Malformed) {
			t.Fatalf("%v, %v", r, err)
		}
		return
	}
	ref, err := x509.ParseCertificateRequest(der)
	if err != nil || ref.CheckSignature() != nil {
		t.Fatal("crypto/x509 does not accept it")
	}
	if !bytes.Equal(r.DER(), der) || !bytes.Equal(r.SPKI(), ref.RawSubjectPublicKeyInfo) || !bytes.Equal(r.RawSubject(), ref.RawSubject) {
		t.Fatal("crypto/x509 reads other parts")
	}
	if len(r.Extensions()) != len(ref.Extensions) || r.CommonName() != ref.Subject.CommonName {
		t.Fatal("crypto/x509 reads other names")
	}
	for _, n := range r.Names() {
		if back, err := csr.ParseName(n.String()); err != nil || back != n {
			t.Fatalf("%s reads back as %s, %v", n, back, err)
		}
	}
}

// FuzzDecode demands that what is decoded keeps to the limits and decodes to itself.
func FuzzDecode(f *testing.F) {
	for _, body := range bodies(request{}.der(f)) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		der, err := csr.Decode(body)
		if err != nil {
			if der != nil || !errors.Is(err, fault.Malformed) {
				t.Fatalf("%x, %v", der, err)
			}
			return
		}
		if len(der) == 0 || len(der) > csr.MaxDER {
			t.Fatalf("%d octets", len(der))
		}
		if der[0] != '0' {
			return
		}
		for name, again := range bodies(der) {
			if len(again) > csr.MaxBody {
				continue
			}
			if got, err := csr.Decode(again); err != nil || !bytes.Equal(got, der) {
				t.Fatalf("%s: %x, %v", name, got, err)
			}
		}
	})
}

// FuzzParseName demands that a name that is read is written as it will be read again.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"dns:a.example", "ip:::1", "email:a@b.example", "uri:https://a.example/", "other:1.2.3:0500", "dirname:3000", "rid:1.2.3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := csr.ParseName(s)
		if err != nil {
			return
		}
		if back, err := csr.ParseName(n.String()); err != nil || back != n {
			t.Fatalf("%s reads back as %s, %v", n, back, err)
		}
	})
}
