package kerberos_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/kerberos/kerberostest"
)

// sane fails when the library panicked, or when something was accepted that is not alice.
func sane(t *testing.T, c kerberos.Client, reason string) {
	t.Helper()
	if strings.Contains(reason, "gave up") {
		t.Fatal("the library panicked")
	}
	if reason == "" && (len(c.Components) == 0 || len(c.Components) > 2 || c.Realm != "IPA.TEST" && c.Realm != "OTHER.TEST") {
		t.Fatalf("accepted %+v", c)
	}
}

// FuzzToken: whatever comes from the network.
func FuzzToken(f *testing.F) {
	gss := kerberostest.New(now).GSS()
	f.Add(gss)
	f.Add(kerberostest.Init(gss, kerberostest.NegoEx, kerberostest.MSKerberos, kerberostest.Kerberos))
	f.Add(kerberostest.InitMIC(nil, []byte("mic"), kerberostest.Kerberos))
	f.Add(kerberostest.TLV(0xa1, kerberostest.TLV(0x30, kerberostest.TLV(0xa2, kerberostest.TLV(4, gss)))))
	f.Add([]byte("NTLMSSP\x00"))
	f.Add(spnego(kerberostest.TLV(0xa0, kerberostest.TLV(0x30, nil))))
	a := acceptor(f, nil)
	f.Fuzz(func(t *testing.T, token []byte) {
		r, challenge, reason := a.Read(t.Context(), token)
		if (r == nil) == (reason == "") || challenge != nil && reason == "" {
			t.Fatalf("%v, %x, %q", r, challenge, reason)
		}
		if strings.Contains(reason, "gave up") {
			t.Fatal("the library panicked")
		}
		if r == nil {
			return
		}
		c, reason := a.Accept(t.Context(), r, now, channel)
		sane(t, c, reason)
	})
}

// FuzzTicket: what the KDC sealed, or whoever has the service's key.
func FuzzTicket(f *testing.F) {
	tok := kerberostest.New(now)
	tok.Part.AuthorizationData = kerberostest.WithIndicators(tok.TicketKey, "otp")
	tok.EditPart = func(b []byte) []byte { f.Add(b); return b }
	tok.GSS()
	a := acceptor(f, nil)
	f.Fuzz(func(t *testing.T, part []byte) {
		tok := kerberostest.New(now)
		tok.EditPart = func([]byte) []byte { return part }
		c, reason := judge(t, a, tok.GSS())
		sane(t, c, reason)
	})
}

// FuzzAuthenticator: what a client sealed, that may be anybody with an account.
func FuzzAuthenticator(f *testing.F) {
	tok := kerberostest.New(now)
	tok.Auth.SubKey = kerberostest.Key(20, 3)
	tok.Auth.AuthorizationData = types.AuthorizationData{{ADType: 1, ADData: kerberostest.List(kerberostest.Element(143, []byte{0, 0x40, 0, 0}))}}
	tok.EditAuth = func(b []byte) []byte { f.Add(b); return b }
	tok.GSS()
	a := acceptor(f, nil)
	f.Fuzz(func(t *testing.T, auth []byte) {
		tok := kerberostest.New(now)
		tok.EditAuth = func([]byte) []byte { return auth }
		c, reason := judge(t, a, tok.GSS())
		sane(t, c, reason)
		if reason == "" && (c.Realm != "IPA.TEST" || !slices.Equal(c.Components, []string{"alice"})) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

// FuzzCAMMAC: authorization data of a ticket, of which a client can choose some.
func FuzzCAMMAC(f *testing.F) {
	key := kerberostest.Key(18, 1)
	f.Add(kerberostest.WithIndicators(key, "otp")[0].ADData)
	f.Add(kerberostest.WithIndicators(kerberostest.Key(18, 9), "pkinit")[0].ADData)
	f.Add(kerberostest.List(kerberostest.Element(97, kerberostest.Indicators("otp"))))
	f.Add(kerberostest.List(kerberostest.Element(128, []byte{0, 0, 0, 0})))
	f.Add([]byte{0x30, 0})
	a := acceptor(f, nil)
	f.Fuzz(func(t *testing.T, der []byte) {
		tok := kerberostest.New(now)
		tok.Part.AuthorizationData = types.AuthorizationData{{ADType: 1, ADData: der}}
		c, reason := judge(t, a, tok.GSS())
		sane(t, c, reason)
		// Only the one that was signed can be among them.
		if len(c.Indicators) > 0 && !slices.Equal(c.Indicators, []string{"otp"}) {
			t.Fatalf("indicators %q by %q", c.Indicators, reason)
		}
	})
}
