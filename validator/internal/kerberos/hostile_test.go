package kerberos_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	gofork "github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/estuary-pki/estuary/validator/internal/kerberos/kerberostest"
)

type hostile struct {
	name string
	// edit spoils a good token; token makes one of its own.
	edit  func(*kerberostest.Token)
	token func() []byte
	says  string // a part of the reason
}

func setFlag(f *gofork.BitString, bit int) { types.SetFlag(f, bit) }

func data(der []byte) types.AuthorizationData {
	return types.AuthorizationData{{ADType: 1, ADData: der}}
}

func forged(edit func(*kerberostest.CAMMAC)) func(*kerberostest.Token) {
	return func(t *kerberostest.Token) {
		c := kerberostest.CAMMAC{Indicators: []string{"otp"}, Key: t.TicketKey}
		edit(&c)
		t.Part.AuthorizationData = kerberostest.IfRelevant(kerberostest.Element(96, c.DER()))
	}
}

func client(realm string, name ...string) func(*kerberostest.Token) {
	return func(t *kerberostest.Token) {
		t.Part.CRealm, t.Auth.CRealm = realm, realm
		t.Part.CName.NameString, t.Auth.CName.NameString = name, name
	}
}

func etypes(ticket, session int32) func(*kerberostest.Token) {
	return func(t *kerberostest.Token) {
		t.TicketKey, t.Session = kerberostest.Key(ticket, 1), kerberostest.Key(session, 9)
		t.Ticket.EncPart.EType = ticket
	}
}

// spnego wraps a body that Init would not make.
func spnego(body []byte) []byte {
	return kerberostest.TLV(0x60, append([]byte("\x06\x06\x2b\x06\x01\x05\x05\x02"), kerberostest.TLV(0xa0, kerberostest.TLV(0x30, body))...))
}

var ofTokens = []hostile{
	{name: "nothing", token: func() []byte { return nil }, says: "not one of GSS-API"},
	{name: "18 octets without mechanisms", token: func() []byte { return spnego(kerberostest.TLV(0xa0, kerberostest.TLV(0x30, nil))) }, says: "lists no mechanism"},
	{name: "no mechanism list", token: func() []byte { return spnego(nil) }, says: "SPNEGO token cannot be read"},
	{name: "a mechanism that is no identifier", token: func() []byte {
		return spnego(kerberostest.TLV(0xa0, kerberostest.TLV(0x30, []byte{4, 1, 0})))
	}, says: "SPNEGO token cannot be read"},
	{name: "33 mechanisms", token: func() []byte {
		return spnego(kerberostest.TLV(0xa0, kerberostest.TLV(0x30, bytes.Repeat([]byte{6, 1, 0x2a}, 33))))
	}, says: "SPNEGO token cannot be read"},
	{name: "a tail behind SPNEGO", token: func() []byte {
		return append(kerberostest.Init(kerberostest.New(now).GSS(), kerberostest.Kerberos), 0)
	}, says: "not one of GSS-API"},
	{name: "a tail behind the mechanism's token", token: func() []byte {
		return kerberostest.Init(append(kerberostest.New(now).GSS(), 0), kerberostest.Kerberos)
	}, says: "not one of GSS-API"},
	{name: "an answer without a token", token: func() []byte {
		return kerberostest.TLV(0xa1, kerberostest.TLV(0x30, []byte{0xa0, 3, 0x0a, 1, 0}))
	}, says: "carries no Kerberos token"},
	{name: "an answer that is none", token: func() []byte { return kerberostest.TLV(0xa1, []byte{5, 0}) }, says: "SPNEGO token cannot be read"},
	{name: "too long", token: func() []byte { return make([]byte, 48<<10+1) }, says: "longer than 49152"},
	{name: "deeply nested", token: func() []byte {
		b := []byte{5, 0}
		for len(b) < 40<<10 {
			b = kerberostest.TLV(0x30, b)
		}
		return kerberostest.Mechanism(kerberostest.Kerberos, 0x0100, b)
	}, says: "AP-REQ cannot be read"},
	{name: "a checksum over another list", token: func() []byte {
		return kerberostest.InitMIC(kerberostest.New(now).GSS(), append([]byte("\x04\x04\x00\xff\xff\xff\xff\xff"), make([]byte, 20)...), kerberostest.Kerberos)
	}, says: "checksum over the mechanism list"},
	{name: "a checksum that is none", token: func() []byte {
		return kerberostest.InitMIC(kerberostest.New(now).GSS(), []byte{1}, kerberostest.Kerberos)
	}, says: "checksum over the mechanism list"},
	{name: "KRB-ERROR", edit: func(t *kerberostest.Token) { t.TokenID = 0x0300 }, says: "KRB-ERROR"},
	{name: "AP-REP", edit: func(t *kerberostest.Token) { t.TokenID = 0x0200 }, says: "AP-REP"},
	{name: "another identifier", edit: func(t *kerberostest.Token) { t.TokenID = 0x0404 }, says: "identifier that is not known"},
	{name: "an AP-REQ that is an AP-REP", edit: func(t *kerberostest.Token) {
		t.EditAPReq = func(b []byte) []byte { return append([]byte{0x6f}, b[1:]...) }
	}, says: "AP-REQ cannot be read"},
	{name: "user to user", edit: func(t *kerberostest.Token) { setFlag(&t.Options, 1) }, says: "user-to-user"},
	{name: "version 4", edit: func(t *kerberostest.Token) { t.Ticket.TktVNO = 4 }, says: "protocol version"},
}

var ofServices = []hostile{
	{name: "another service of the keytab", edit: func(t *kerberostest.Token) {
		t.Ticket.SName = types.NewPrincipalName(3, "HTTP/other")
		t.TicketKey = kerberostest.Key(18, 2)
	}, says: "another service"},
	{name: "another service's ticket under our name", edit: func(t *kerberostest.Token) { t.TicketKey = kerberostest.Key(18, 2) }, says: "cannot be decrypted"},
	{name: "no service at all", edit: func(t *kerberostest.Token) { t.Ticket.SName.NameString = []string{""} }, says: "another service"},
	{name: "an empty service name", edit: func(t *kerberostest.Token) {
		t.EditAPReq = func(b []byte) []byte {
			// The names in the SEQUENCE OF give way to nothing, with all lengths made right.
			return bytes.Replace(b, []byte("\x1b\x04HTTP\x1b\x09localhost"), []byte("\x1b\x0fHTTP\x00\x00localhost"), 1)
		}
	}, says: "another service"},
	{name: "the slash within a component", edit: func(t *kerberostest.Token) { t.Ticket.SName.NameString = []string{"HTTP/localhost"} }, says: "another service"},
	{name: "another realm's service", edit: func(t *kerberostest.Token) { t.Ticket.Realm = "OTHER.TEST" }, says: "another service"},
	{name: "the service in other letters", edit: func(t *kerberostest.Token) { t.Ticket.SName.NameString = []string{"http", "localhost"} }, says: "another service"},
	{name: "RC4", edit: etypes(23, 18), says: "algorithm that is not accepted"},
	{name: "DES3", edit: etypes(16, 18), says: "algorithm that is not accepted"},
	{name: "an RC4 session key", edit: etypes(18, 23), says: "session key"},
	{name: "a DES3 session key", edit: etypes(18, 16), says: "session key"},
	{name: "a session key of another length", edit: func(t *kerberostest.Token) {
		t.EditPart = func(b []byte) []byte { return bytes.Replace(b, []byte{2, 1, 18}, []byte{2, 1, 17}, 1) }
	}, says: "session key"},
	{name: "a version that is not there", edit: func(t *kerberostest.Token) { t.Ticket.EncPart.KVNO = 4 }, says: "no key of the ticket's version"},
	{name: "a version that is no number of 32 bits", edit: func(t *kerberostest.Token) { t.Ticket.EncPart.KVNO = 1 << 40 }, says: "AP-REQ cannot be read"},
	{name: "an altered ticket", edit: func(t *kerberostest.Token) { t.TicketKey = kerberostest.Key(18, 5) }, says: "cannot be decrypted"},
	{name: "a ticket that holds no ticket", edit: func(t *kerberostest.Token) { t.EditPart = func([]byte) []byte { return []byte("none") } }, says: "cannot be decrypted or read"},
	{name: "a ticket's part cut off", edit: func(t *kerberostest.Token) { t.EditPart = func(b []byte) []byte { return b[:len(b)-9] } }, says: "cannot be decrypted or read"},
	{name: "expired", edit: func(t *kerberostest.Token) { t.Part.EndTime = now.Add(-2*time.Minute - time.Second) }, says: "expired"},
	{name: "not valid yet", edit: func(t *kerberostest.Token) { t.Part.StartTime = now.Add(2*time.Minute + time.Second) }, says: "not valid yet"},
	{name: "postdated, not validated", edit: func(t *kerberostest.Token) { setFlag(&t.Part.Flags, 7) }, says: "invalid"},
	{name: "a login to come", edit: func(t *kerberostest.Token) { t.Part.AuthTime = now.Add(time.Hour) }, says: "login"},
	{name: "another address", edit: func(t *kerberostest.Token) {
		t.Part.CAddr = types.HostAddresses{{AddrType: 2, Address: []byte{192, 0, 2, 8}}}
	}, says: "other addresses"},
	{name: "an address of no kind", edit: func(t *kerberostest.Token) {
		t.Part.CAddr = types.HostAddresses{{AddrType: 20, Address: []byte{192, 0, 2, 7}}}
	}, says: "other addresses"},
}

var ofClients = []hostile{
	{name: "a realm that is not accepted", edit: client("EVIL.TEST", "alice"), says: "realm is not accepted"},
	{name: "our realm in the authenticator only", edit: func(t *kerberostest.Token) { t.Part.CRealm = "OTHER.TEST" }, says: "another client"},
	{name: "our realm in the ticket only", edit: func(t *kerberostest.Token) { t.Auth.CRealm = "OTHER.TEST" }, says: "another client"},
	{name: "another name in the authenticator", edit: func(t *kerberostest.Token) { t.Auth.CName.NameString = []string{"admin"} }, says: "another client"},
	{name: "transited, not checked", edit: func(t *kerberostest.Token) {
		client("OTHER.TEST", "alice")(t)
		t.Part.Transited = messages.TransitedEncoding{TRType: 1, Contents: []byte("EVIL.TEST")}
	}, says: "did not check"},
	{name: "our own realm, transited, not checked", edit: func(t *kerberostest.Token) {
		t.Part.Transited = messages.TransitedEncoding{TRType: 1, Contents: []byte("EVIL.TEST")}
	}, says: "did not check"},
	{name: "transited by a way that is not known", edit: func(t *kerberostest.Token) {
		client("OTHER.TEST", "alice")(t)
		t.Part.Transited = messages.TransitedEncoding{TRType: 9}
	}, says: "did not check"},
	{name: "anonymous", edit: client("IPA.TEST", "WELLKNOWN", "ANONYMOUS"), says: "anonymous"},
	{name: "anonymous by its flag", edit: func(t *kerberostest.Token) { setFlag(&t.Part.Flags, 16) }, says: "anonymous"},
	{name: "the KDC", edit: client("IPA.TEST", "krbtgt", "IPA.TEST"), says: "cannot stand for an account"},
	{name: "no name", edit: client("IPA.TEST", ""), says: "cannot stand for an account"},
	{name: "a slash in a component", edit: client("IPA.TEST", "host/evil.ipa.test"), says: "cannot stand for an account"},
	{name: "an at sign", edit: client("IPA.TEST", "admin@IPA.TEST"), says: "cannot stand for an account"},
	{name: "a backslash", edit: client("IPA.TEST", `ad\min`), says: "cannot stand for an account"},
	{name: "NUL", edit: client("IPA.TEST", "admin\x00"), says: "cannot stand for an account"},
	{name: "a line break", edit: client("IPA.TEST", "admin\n"), says: "cannot stand for an account"},
	{name: "a blank", edit: client("IPA.TEST", "ad min"), says: "cannot stand for an account"},
	{name: "not UTF-8", edit: client("IPA.TEST", "ad\xffmin"), says: "cannot"},
	{name: "three components", edit: client("IPA.TEST", "host", "a.ipa.test", "b"), says: "cannot stand for an account"},
	{name: "256 octets", edit: client("IPA.TEST", strings.Repeat("a", 256)), says: "cannot stand for an account"},
}

var ofAuthenticators = []hostile{
	{name: "under another key", edit: func(t *kerberostest.Token) {
		session := t.Session
		t.EditPart = func(b []byte) []byte { return bytes.Replace(b, session.KeyValue, kerberostest.Key(18, 77).KeyValue, 1) }
	}, says: "authenticator cannot be decrypted"},
	{name: "none", edit: func(t *kerberostest.Token) { t.EditAuth = func([]byte) []byte { return nil } }, says: "authenticator cannot be decrypted"},
	{name: "cut off", edit: func(t *kerberostest.Token) { t.EditAuth = func(b []byte) []byte { return b[:len(b)-3] } }, says: "authenticator cannot be decrypted"},
	{name: "version 4", edit: func(t *kerberostest.Token) { t.Auth.AVNO = 4 }, says: "authenticator cannot be decrypted or read"},
	{name: "a million microseconds", edit: func(t *kerberostest.Token) { t.Auth.Cusec = 1_000_000 }, says: "authenticator cannot be decrypted or read"},
	{name: "microseconds below nothing", edit: func(t *kerberostest.Token) { t.Auth.Cusec = -1 }, says: "authenticator cannot be decrypted or read"},
	{name: "from the past", edit: func(t *kerberostest.Token) { t.Auth.CTime = now.Add(-3 * time.Minute) }, says: "at another time"},
	{name: "from the future", edit: func(t *kerberostest.Token) { t.Auth.CTime = now.Add(3 * time.Minute) }, says: "at another time"},
	{name: "no checksum", edit: func(t *kerberostest.Token) { t.Auth.Cksum = types.Checksum{} }, says: "no checksum of GSS-API"},
	{name: "a checksum of another type", edit: func(t *kerberostest.Token) { t.Auth.Cksum.CksumType = 16 }, says: "no checksum of GSS-API"},
	{name: "a short checksum", edit: func(t *kerberostest.Token) { t.Auth.Cksum.Checksum = t.Auth.Cksum.Checksum[:23] }, says: "no checksum of GSS-API"},
	{name: "a checksum of another length", edit: func(t *kerberostest.Token) { binary.LittleEndian.PutUint32(t.Auth.Cksum.Checksum, 17) }, says: "no checksum of GSS-API"},
	{name: "DCE style", edit: func(t *kerberostest.Token) { t.Auth.Cksum.Checksum = kerberostest.Checksum(nil, 2|1<<12) }, says: "DCE"},
	{name: "an RC4 subkey", edit: func(t *kerberostest.Token) { t.Auth.SubKey = kerberostest.Key(23, 3) }, says: "subkey"},
	{name: "a short subkey", edit: func(t *kerberostest.Token) {
		t.Auth.SubKey = types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 5)}
	}, says: "subkey"},
	{name: "the binding of another connection", edit: func(t *kerberostest.Token) {
		t.Auth.Cksum.Checksum = kerberostest.Checksum([]byte("another"), 2)
	}, says: "another connection"},
}

var ofAuthData = []hostile{
	{name: "an empty AD-IF-RELEVANT", edit: func(t *kerberostest.Token) { t.Part.AuthorizationData = data([]byte{0x30, 0}) }, says: "authorization data cannot be read"},
	{name: "an AD-IF-RELEVANT of nothing", edit: func(t *kerberostest.Token) { t.Part.AuthorizationData = data(nil) }, says: "authorization data cannot be read"},
	{name: "a critical element", edit: func(t *kerberostest.Token) {
		t.Part.AuthorizationData = types.AuthorizationData{{ADType: 4711, ADData: []byte{5, 0}}}
	}, says: "not AD-IF-RELEVANT"},
	{name: "a bare indicator", edit: func(t *kerberostest.Token) {
		t.Part.AuthorizationData = types.AuthorizationData{{ADType: 97, ADData: kerberostest.Indicators("otp")}}
	}, says: "not signed by the KDC"},
	{name: "a bare indicator in AD-IF-RELEVANT", edit: func(t *kerberostest.Token) {
		t.Part.AuthorizationData = kerberostest.IfRelevant(kerberostest.Element(97, kerberostest.Indicators("otp")))
	}, says: "not signed by the KDC"},
	{name: "a CAMMAC that is critical", edit: func(t *kerberostest.Token) {
		t.Part.AuthorizationData = types.AuthorizationData{{ADType: 96, ADData: kerberostest.CAMMAC{Indicators: []string{"otp"}, Key: t.TicketKey}.DER()}}
	}, says: "not AD-IF-RELEVANT"},
	{name: "a CAMMAC under the session key", edit: forged(func(c *kerberostest.CAMMAC) { c.Key = kerberostest.Key(18, 9) }), says: "not signed under"},
	{name: "a CAMMAC under another service's key", edit: forged(func(c *kerberostest.CAMMAC) { c.Key = kerberostest.Key(18, 2) }), says: "not signed under"},
	{name: "a CAMMAC of another usage", edit: forged(func(c *kerberostest.CAMMAC) { c.Usage = 63 }), says: "not signed under"},
	{name: "a CAMMAC over other indicators", edit: forged(func(c *kerberostest.CAMMAC) { c.Signed = []string{"hardened"} }), says: "not signed under"},
	{name: "a CAMMAC with an altered checksum", edit: forged(func(c *kerberostest.CAMMAC) {
		c.EditMAC = func(b []byte) []byte { b[0] ^= 1; return b }
	}), says: "not signed under"},
	{name: "a CAMMAC with no checksum", edit: forged(func(c *kerberostest.CAMMAC) { c.EditMAC = func([]byte) []byte { return nil } }), says: "not signed under"},
	{name: "a CAMMAC with a checksum cut off", edit: forged(func(c *kerberostest.CAMMAC) { c.EditMAC = func(b []byte) []byte { return b[:4] } }), says: "not signed under"},
	{name: "a CAMMAC with another algorithm's checksum", edit: forged(func(c *kerberostest.CAMMAC) { c.Kind = 15 }), says: "not signed under"},
	{name: "a CAMMAC with a checksum without key", edit: forged(func(c *kerberostest.CAMMAC) { c.Kind = 1 }), says: "not signed under"},
	{name: "a CAMMAC with RC4's checksum", edit: forged(func(c *kerberostest.CAMMAC) { c.Kind = -138 }), says: "not signed under"},
	{name: "a CAMMAC that is none", edit: func(t *kerberostest.Token) {
		t.Part.AuthorizationData = kerberostest.IfRelevant(kerberostest.Element(96, []byte{0x30, 0}))
	}, says: "AD-CAMMAC cannot be read"},
	{name: "a CAMMAC of nothing", edit: func(t *kerberostest.Token) {
		t.Part.AuthorizationData = kerberostest.IfRelevant(kerberostest.Element(96, nil))
	}, says: "AD-CAMMAC cannot be read"},
	{name: "an empty indicator", edit: forged(func(c *kerberostest.CAMMAC) { c.Indicators = []string{""} }), says: "indicator is empty"},
	{name: "an indicator that is two", edit: forged(func(c *kerberostest.CAMMAC) { c.Indicators = []string{"otp,pkinit"} }), says: "indicator is empty"},
	{name: "a long indicator", edit: forged(func(c *kerberostest.CAMMAC) { c.Indicators = []string{strings.Repeat("a", 65)} }), says: "too long"},
	{name: "seventeen indicators", edit: forged(func(c *kerberostest.CAMMAC) { c.Indicators = strings.Split("abcdefghijklmnopq", "") }), says: "too long"},
	{name: "a PAC that is none", edit: func(t *kerberostest.Token) {
		// Nobody reads it: it says nothing of indicators. What is behind it is read.
		t.Part.AuthorizationData = kerberostest.IfRelevant(kerberostest.Element(128, []byte{255, 255, 255, 255}), kerberostest.Element(97, nil))
	}, says: "not signed by the KDC"},
}

// TestHostile: none of these is accepted, none crashes, and the record says what it was.
func TestHostile(t *testing.T) {
	a := acceptor(t, nil)
	count := 0
	for group, cases := range map[string][]hostile{
		"token": ofTokens, "service": ofServices, "client": ofClients, "authenticator": ofAuthenticators, "authorization data": ofAuthData,
	} {
		for _, c := range cases {
			count++
			token := c.token
			if token == nil {
				token = func() []byte {
					tok := kerberostest.New(now)
					c.edit(tok)
					return kerberostest.Init(tok.GSS(), kerberostest.Kerberos)
				}
			}
			got, reason := judge(t, a, token())
			if reason == "" || !strings.Contains(reason, c.says) {
				t.Errorf("%s, %s: %q, not %q: %+v", group, c.name, reason, c.says, got)
			}
			if strings.Contains(reason, "panicked") || got.Reply != nil && !strings.Contains(reason, "another time") {
				t.Errorf("%s, %s: %q with a reply of %d octets", group, c.name, reason, len(got.Reply))
			}
		}
	}
	if count < 40 {
		t.Errorf("%d cases are too few", count)
	}
}

// TestEveryOctet: a good token of which any one octet is changed, or that ends anywhere, is
// not accepted, unless the change is in what says nothing.
func TestEveryOctet(t *testing.T) {
	a := acceptor(t, nil)
	tok := kerberostest.New(now)
	tok.Part.AuthorizationData = kerberostest.WithIndicators(tok.TicketKey, "otp")
	token := kerberostest.Init(tok.GSS(), kerberostest.Kerberos)
	first, _, _ := a.Read(t.Context(), token)
	for i := range token {
		if _, reason := judge(t, a, token[:i]); reason == "" {
			t.Errorf("%d of %d octets were accepted", i, len(token))
		}
		for _, bit := range []byte{1, 0x80} {
			altered := bytes.Clone(token)
			altered[i] ^= bit
			c, reason := judge(t, a, altered)
			if reason != "" {
				continue
			}
			// The options of the AP-REQ, the type of the service's name, the mechanism list:
			// the client is the same, and so is the authenticator.
			r, _, _ := a.Read(t.Context(), altered)
			if r.ID() != first.ID() || c.Realm != "IPA.TEST" || c.Components[0] != "alice" || len(c.Indicators) != 1 {
				t.Errorf("octet %d: %+v", i, c)
			}
		}
	}
}

// TestReasonsSayNothing: no reason holds what the client sent.
func TestReasonsSayNothing(t *testing.T) {
	a := acceptor(t, nil)
	tok := kerberostest.New(now)
	client("CANARY-REALM", "canary-name")(tok)
	token := tok.GSS()
	for _, b := range [][]byte{token, []byte(base64.StdEncoding.EncodeToString(token))} {
		if _, reason := judge(t, a, b); reason == "" || strings.Contains(strings.ToLower(reason), "canary") {
			t.Errorf("reason %q", reason)
		}
	}
}
