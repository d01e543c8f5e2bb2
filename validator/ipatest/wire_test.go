package ipatest_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

func TestStartTLS(t *testing.T) {
	s := start(t, ipatest.Config{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw"})
	c, err := ldap.DialURL(s.LDAP())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got, _ := bindOn(t, c, dn, "pw", false); got != 0 || s.Clear() != 1 {
		t.Errorf("in the clear: result %d, counted %d", got, s.Clear())
	}
	if err := c.StartTLS(trust(t, s)); err != nil {
		t.Fatal(err)
	}
	if who, err := c.WhoAmI(nil); err != nil || who.AuthzID != "" {
		t.Errorf("after StartTLS: %v, %v", who, err)
	}
	if got, _ := bindOn(t, c, dn, "pw", false); got != 0 || s.Clear() != 1 {
		t.Errorf("over TLS: result %d, counted %d", got, s.Clear())
	}
	if who, err := c.WhoAmI(nil); err != nil || who.AuthzID != "dn: "+dn {
		t.Errorf("bound as %v, %v", who, err)
	}
	if err := c.StartTLS(trust(t, s)); err == nil {
		t.Error("StartTLS over TLS")
	}
}

// Octets that stand behind a StartTLS request in the clear must not be taken for what came
// over TLS.
func TestStartTLSInjection(t *testing.T) {
	s := start(t, ipatest.Config{})
	c, err := net.Dial("tcp", strings.TrimPrefix(s.LDAP(), "ldap://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	request := extended(1, "1.3.6.1.4.1.1466.20037")
	if _, err := c.Write(append(request, extended(2, "1.3.6.1.4.1.4203.1.11.3")...)); err != nil {
		t.Fatal(err)
	}
	p, err := ber.ReadPacket(c)
	if err != nil || p.Children[1].Children[0].Value.(int64) != ldap.LDAPResultOperationsError {
		t.Errorf("answer %v, %v", p, err)
	}
}

func extended(id int64, oid string) []byte {
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 23, nil, "")
	op.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, oid, ""))
	p.AppendChild(op)
	return p.Bytes()
}

// tlv is BER by hand, so that the control does not rest on one library at both ends.
func tlv(tag byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string([]byte{tag, 0x82, byte(len(body) >> 8), byte(len(body))}) + body
}

func TestControlByHand(t *testing.T) {
	s := start(t, ipatest.Config{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw", AuthTypes: []string{"password", "otp"}})
	s.AddToken(ipatest.Token{ID: "t", Owner: "alice", HOTP: true})
	for _, c := range []struct {
		name, dn, password, control, critical string
		want                                  byte
	}{
		{"none", dn, "pw", "", "", 0},
		{"critical, password", dn, "pw", controlOTP, tlv(1, "\xff"), 49},
		{"critical, code", dn, "pw" + s.Code("t"), controlOTP, tlv(1, "\xff"), 0},
		{"not critical, password", dn, "pw", controlOTP, tlv(1, "\x00"), 49},
		{"default, with a value", dn, "pw", controlOTP, tlv(4, ""), 49},
		{"service account", s.ServiceDN(), s.ServicePassword(), controlOTP, tlv(1, "\xff"), 49},
		{"unknown, critical", dn, "pw", "1.2.3.4", tlv(1, "\x01"), 12},
		{"unknown", dn, "pw", "1.2.3.4", "", 0},
	} {
		controls := ""
		if c.control != "" {
			controls = tlv(0xa0, tlv(0x30, tlv(4, c.control), c.critical))
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.LDAP(), "ldap://"))
		if err != nil {
			t.Fatal(err)
		}
		request := tlv(0x30, tlv(2, "\x07"), tlv(0x60, tlv(2, "\x03"), tlv(4, c.dn), tlv(0x80, c.password)), controls)
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 10)
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Fatal(err)
		}
		// SEQUENCE, message 7, BindResponse, ENUMERATED of one octet.
		if !bytes.Equal(answer[2:6], []byte{2, 1, 7, 0x61}) || answer[9] != c.want {
			t.Errorf("%s: answer %x, want result %d", c.name, answer, c.want)
		}
		_ = conn.Close()
	}
}

func TestExternal(t *testing.T) {
	s := populated(t)
	c, err := ldap.DialURL(s.LDAPI())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.ExternalBind(); err != nil {
		t.Fatal(err)
	}
	if who, err := c.WhoAmI(nil); err != nil || who.AuthzID != "dn: "+s.ServiceDN() {
		t.Errorf("bound as %v, %v", who, err)
	}
	if got := find(t, c, s.Base(), ldap.ScopeWholeSubtree, "(uid=alice)"); len(got) != 1 {
		t.Errorf("found %q", got)
	}
	if err := dial(t, s).ExternalBind(); !ldap.IsErrorWithCode(err, ldap.LDAPResultInappropriateAuthentication) {
		t.Errorf("without a client certificate: %v", err)
	}
}

// The control that says "password expired" comes with a success.
func TestMustChange(t *testing.T) {
	s := start(t, ipatest.Config{})
	for _, must := range []bool{true, false} {
		dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw", MustChange: must})
		r, err := dial(t, s).SimpleBind(ldap.NewSimpleBindRequest(dn, "pw", nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := ldap.FindControl(r.Controls, "2.16.840.1.113730.3.4.4") != nil; got != must {
			t.Errorf("control %t, want %t", got, must)
		}
	}
}

// What is no LDAP ends the connection, and nothing else.
func TestMalformed(t *testing.T) {
	s := start(t, ipatest.Config{})
	for _, data := range []string{
		"GET / HTTP/1.0\r\n\r\n", "\x30\x84\x7f\xff\xff\xff", "\x30\x80\x00\x00", "\x30\x00", "\x30\x03\x02\x01\x01",
		"\x30\x05\x02\x01\x01\x04\x00", "\x30\x05\x02\x01\x01\x7f\x00", "\x30\x85\x00\x00\x00\x00\x01",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.LDAP(), "ldap://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 100)); err == nil {
			t.Errorf("%q: answered %d octets", data, n)
		}
		_ = c.Close()
	}
	if got, _ := bind(t, s, s.ServiceDN(), s.ServicePassword(), false); got != 0 {
		t.Errorf("afterwards: result %d", got)
	}
}

// FuzzParse feeds octets to the parser of requests and to the evaluation of filters.
func FuzzParse(f *testing.F) {
	filter, err := ldap.CompileFilter("(&(|(uid=al*i*ce)(cn~=x))(!(mail>=1))(uidNumber<=5)(sn=*)(cn:dn:2.4.8:=x))")
	if err != nil {
		f.Fatal(err)
	}
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 3, nil, "")
	op.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "dc=ipa", ""))
	for _, tag := range []ber.Tag{ber.TagEnumerated, ber.TagEnumerated, ber.TagInteger, ber.TagInteger, ber.TagBoolean} {
		op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, tag, 0, ""))
	}
	op.AppendChild(filter)
	op.AppendChild(ber.NewSequence(""))
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 1, ""))
	p.AppendChild(op)
	if err := ipatest.Parse(bufio.NewReader(bytes.NewReader(p.Bytes()))); err != nil {
		f.Fatalf("a good search: %v", err)
	}
	f.Add(p.Bytes())
	f.Add(extended(1, "1.3.6.1.4.1.1466.20037"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = ipatest.Parse(bufio.NewReader(bytes.NewReader(data)))
	})
}

func TestNormalDN(t *testing.T) {
	for dn, want := range map[string]string{
		"UID=Alice, CN=Users ,dc=IPA": "uid=alice,cn=users,dc=ipa",
		`cn=a\,b\2c c,dc=x`:           `cn=a\2cb\2c c,dc=x`,
		"b=2+A=1,dc=x":                "a=1+b=2,dc=x",
		"":                            "",
		"cn=Two  Spaces":              "cn=two spaces",
	} {
		if got, err := ipatest.NormalDN(dn); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", dn, got, err, want)
		}
	}
	if _, err := ipatest.NormalDN("nonsense"); err == nil {
		t.Error("nonsense is a DN")
	}
}
