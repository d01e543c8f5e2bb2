package subjectid_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/subjectid"
)

const (
	user   = assertionv1.IdentityKind_IDENTITY_KIND_USER
	host   = assertionv1.IdentityKind_IDENTITY_KIND_HOST
	device = assertionv1.IdentityKind_IDENTITY_KIND_DEVICE
)

var good = []subjectid.ID{
	{Kind: user, Principal: "alice", Realm: "IPA.TEST"},
	{Kind: host, Principal: "host/h.ipa.test", Realm: "IPA.TEST"},
	{Kind: device, Principal: "pump-7@site", Realm: "DEVICES"},
	{Kind: user, Principal: "jürgen", Realm: "IPA.TEST"},
}

func with(e pkix.Extension) *x509.Certificate {
	return &x509.Certificate{Extensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}}, e}}
}

func TestThereAndBack(t *testing.T) {
	for _, id := range good {
		e, err := subjectid.Extension(id)
		if err != nil {
			t.Fatal(err)
		}
		if e.Critical {
			t.Error("critical: RFC 5280 section 4.2.1.8 forbids that")
		}
		if got, err := subjectid.Read(with(e)); err != nil || got != id {
			t.Errorf("%v came back as %v, %v", id, got, err)
		}
	}
}

func TestUnfit(t *testing.T) {
	for name, id := range map[string]subjectid.ID{
		"no kind":         {Principal: "a", Realm: "R"},
		"unknown kind":    {Kind: 99, Principal: "a", Realm: "R"},
		"no principal":    {Kind: user, Realm: "R"},
		"no realm":        {Kind: user, Principal: "a"},
		"realm with an @": {Kind: user, Principal: "a", Realm: "R@S"},
		"too long":        {Kind: user, Principal: strings.Repeat("a", 1024), Realm: "R"},
		"not UTF-8":       {Kind: user, Principal: "\xff", Realm: "R"},
	} {
		if _, err := subjectid.Extension(id); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// TestOtherForms: what others put into the extension is nobody's identity, nor is ours cut
// short, altered in its structure, or with more behind.
func TestOtherForms(t *testing.T) {
	if _, err := subjectid.Read(&x509.Certificate{}); !errors.Is(err, subjectid.ErrNone) {
		t.Errorf("without the extension: %v", err)
	}
	e, err := subjectid.Extension(good[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := range e.Value {
		if id, err := subjectid.Read(with(pkix.Extension{Id: subjectid.OID, Value: e.Value[:n]})); err == nil {
			t.Errorf("cut to %d octets: %v", n, id)
		}
	}
	for name, value := range map[string][]byte{
		"more behind":      append(bytes.Clone(e.Value), 0),
		"another class":    bytes.Replace(e.Value, []byte("user"), []byte("root"), 1),
		"no realm":         bytes.Replace(e.Value, []byte("@"), []byte("!"), 1),
		"another string":   bytes.Replace(e.Value, []byte("\x0c\x04user"), []byte("\x16\x04user"), 1),
		"other attributes": {0x30, 0x02, 0x30, 0x00},
	} {
		if id, err := subjectid.Read(with(pkix.Extension{Id: subjectid.OID, Value: value})); err == nil {
			t.Errorf("%s: %v", name, id)
		}
	}
}

// TestOpenSSLReads holds the encoding against another reader's.
func TestOpenSSLReads(t *testing.T) {
	e, err := subjectid.Extension(good[0])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "e")
	if err := os.WriteFile(file, e.Value, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "asn1parse", "-inform", "DER", "-in", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"UTF8STRING        :alice@IPA.TEST", "UTF8STRING        :user", "OBJECT            :1.2.840.113554.1.4.1.6.1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, id := range good {
		if e, err := subjectid.Extension(id); err == nil {
			f.Add(e.Value)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		id, err := subjectid.Read(with(pkix.Extension{Id: subjectid.OID, Value: value}))
		if err != nil {
			return
		}
		again, err := subjectid.Extension(id)
		if err != nil || !bytes.Equal(again.Value, value) {
			t.Errorf("%x is read as %v, which is %x: %v", value, id, again.Value, err)
		}
	})
}
