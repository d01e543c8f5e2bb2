package kerberos_test

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/kerberos/kerberostest"
)

var (
	now      = time.Date(2026, 11, 1, 12, 0, 0, 250_000_000, time.UTC)
	endPoint = sha256.Sum256([]byte("the gateway's certificate"))
	channel  = kerberos.Channel{ServerEndPoint: endPoint[:], Address: netip.MustParseAddr("192.0.2.7")}
)

// keys are those of the keytab: of HTTP/localhost in every algorithm, RC4 and DES3 among them,
// and of another service.
func keys(_ context.Context, principal string, kvno uint32, etype int32) []secret.Bytes {
	if kvno != kerberostest.KVNO && kvno != 0 {
		return nil
	}
	switch principal {
	case "HTTP/localhost@IPA.TEST":
		// One that does not fit comes first.
		return []secret.Bytes{
			secret.New(kerberostest.Key(etype, 200).KeyValue),
			secret.New(kerberostest.Key(etype, 1).KeyValue),
		}
	case "HTTP/other@IPA.TEST":
		return []secret.Bytes{secret.New(kerberostest.Key(etype, 2).KeyValue)}
	}
	return nil
}

func acceptor(t testing.TB, edit func(*kerberos.Config)) *kerberos.Acceptor {
	t.Helper()
	c := kerberos.Config{
		Keys: keys, Principals: []string{"HTTP/localhost@IPA.TEST"}, Realms: []string{"IPA.TEST", "OTHER.TEST"},
		Skew: 2 * time.Minute, Bindings: kerberos.BindingsAbsentOK, Log: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&c)
	}
	a, err := kerberos.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// judge reads and accepts a token.
func judge(t testing.TB, a *kerberos.Acceptor, token []byte) (kerberos.Client, string) {
	t.Helper()
	r, challenge, reason := a.Read(context.Background(), token)
	if reason != "" || challenge != nil {
		return kerberos.Client{}, "read: " + reason
	}
	return a.Accept(context.Background(), r, now, channel)
}

// TestAccept: every combination of algorithms that is accepted, by Kerberos alone and by
// SPNEGO in which Kerberos stands somewhere; and the reply is one that the client believes.
func TestAccept(t *testing.T) {
	a := acceptor(t, nil)
	for _, ticketType := range []int32{17, 18, 19, 20} {
		for _, sessionType := range []int32{17, 18, 19, 20} {
			tok := kerberostest.New(now)
			tok.TicketKey, tok.Session = kerberostest.Key(ticketType, 1), kerberostest.Key(sessionType, 9)
			tok.Ticket.EncPart.EType = ticketType
			tok.Part.AuthorizationData = kerberostest.WithIndicators(tok.TicketKey, "otp", "hardened", "token")
			gss := tok.GSS()
			for name, token := range map[string][]byte{
				"alone":        gss,
				"first":        kerberostest.Init(gss, kerberostest.Kerberos, kerberostest.NTLM),
				"as Windows":   kerberostest.Init(gss, kerberostest.MSKerberos, kerberostest.Kerberos, kerberostest.NegoEx, kerberostest.NTLM),
				"second":       kerberostest.Init(gss, kerberostest.NegoEx, kerberostest.Kerberos),
				"as an answer": kerberostest.TLV(0xa1, kerberostest.TLV(0x30, kerberostest.TLV(0xa2, kerberostest.TLV(4, gss)))),
			} {
				c, reason := judge(t, a, token)
				if reason != "" {
					t.Errorf("%d/%d %s: %s", ticketType, sessionType, name, reason)
					continue
				}
				if !slices.Equal(c.Components, []string{"alice"}) || c.Realm != "IPA.TEST" || c.Bound || c.Service != "HTTP/localhost@IPA.TEST" ||
					!c.LoginTime.Equal(tok.Part.AuthTime) || !c.Made.Equal(now) || !slices.Equal(c.Indicators, []string{"hardened", "otp"}) {
					t.Errorf("%d/%d %s: %+v", ticketType, sessionType, name, c)
				}
				checkReply(t, name, tok, c.Reply)
			}
		}
	}
}

// checkReply holds a reply against RFC 4178 section 4.2.2 and RFC 4121 section 4.1.2.
func checkReply(t *testing.T, name string, tok *kerberostest.Token, reply []byte) {
	t.Helper()
	in := cryptobyte.String(reply)
	var mic cryptobyte.String
	if name != "alone" {
		var outer, seq, state, mech, token, octets cryptobyte.String
		var hasMIC bool
		if !in.ReadASN1(&outer, casn1.Tag(1).ContextSpecific().Constructed()) || !outer.ReadASN1(&seq, casn1.SEQUENCE) ||
			!seq.ReadASN1(&state, casn1.Tag(0).ContextSpecific().Constructed()) || string(state) != "\x0a\x01\x00" ||
			!seq.ReadASN1(&mech, casn1.Tag(1).ContextSpecific().Constructed()) ||
			!seq.ReadASN1(&token, casn1.Tag(2).ContextSpecific().Constructed()) || !token.ReadASN1(&octets, casn1.OCTET_STRING) ||
			!seq.ReadOptionalASN1(&mic, &hasMIC, casn1.Tag(3).ContextSpecific().Constructed()) || !seq.Empty() {
			t.Errorf("%s: the answer is no accept-completed: %x", name, reply)
			return
		}
		if hasMIC != (name == "second") {
			t.Errorf("%s: checksum over the list: %v", name, hasMIC)
		}
		in = octets
	}
	part, err := openReply(in, tok)
	if err != nil || !part.CTime.Equal(tok.Auth.CTime) || part.Cusec != tok.Auth.Cusec {
		t.Errorf("%s: the AP-REP says %+v, %v", name, part, err)
	}
	if name == "second" {
		checkListMIC(t, tok, mic)
	}
}

func openReply(in cryptobyte.String, tok *kerberostest.Token) (part messages.EncAPRepPart, err error) {
	var body, oid cryptobyte.String
	var id uint16
	if !in.ReadASN1(&body, 0x60) || !body.ReadASN1Element(&oid, casn1.OBJECT_IDENTIFIER) || !body.ReadUint16(&id) || id != 0x0200 {
		return part, context.Canceled
	}
	var rep messages.APRep
	if err := rep.Unmarshal(body); err != nil {
		return part, err
	}
	plain, err := crypto.DecryptEncPart(rep.EncPart, tok.Session, 12)
	if err != nil {
		return part, err
	}
	return part, part.Unmarshal(plain)
}

func checkListMIC(t *testing.T, tok *kerberostest.Token, in cryptobyte.String) {
	t.Helper()
	var octets cryptobyte.String
	var m gssapi.MICToken
	if !in.ReadASN1(&octets, casn1.OCTET_STRING) || m.Unmarshal(octets, true) != nil {
		t.Fatalf("no checksum in %x", in)
	}
	m.Payload = kerberostest.MechanismList(kerberostest.NegoEx, kerberostest.Kerberos)
	if good, err := m.Verify(tok.Session, 23); !good {
		t.Errorf("the checksum over the list is wrong: %v", err)
	}
}

// TestReplyOnlyWhenAsked: a client that wants no mutual authentication gets no AP-REP.
func TestReplyOnlyWhenAsked(t *testing.T) {
	a := acceptor(t, nil)
	tok := kerberostest.New(now)
	tok.Options = types.NewKrbFlags()
	tok.Auth.Cksum.Checksum = kerberostest.Checksum(nil, 0)
	if c, reason := judge(t, a, tok.GSS()); reason != "" || c.Reply != nil {
		t.Errorf("%q, %x", reason, c.Reply)
	}
	c, reason := judge(t, a, kerberostest.Init(tok.GSS(), kerberostest.Kerberos))
	want := kerberostest.TLV(0xa1, kerberostest.TLV(0x30, append([]byte{0xa0, 3, 0x0a, 1, 0},
		kerberostest.TLV(0xa1, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"))...)))
	if reason != "" || !slices.Equal(c.Reply, want) {
		t.Errorf("%q, %x, not %x", reason, c.Reply, want)
	}
	// Either of the two places asks for it.
	tok.Auth.Cksum.Checksum = kerberostest.Checksum(nil, 2)
	if c, reason := judge(t, a, tok.GSS()); reason != "" || c.Reply == nil {
		t.Errorf("asked for by the checksum: %q, %x", reason, c.Reply)
	}
}

// TestChallenges: who offers no Kerberos, or not yet a ticket, is told so.
func TestChallenges(t *testing.T) {
	a := acceptor(t, nil)
	const completed, incomplete, reject, micWanted = 0, 1, 2, 3
	for name, c := range map[string]struct {
		token []byte
		state byte
	}{
		"NTLM":                        {[]byte("NTLMSSP\x00\x01\x00\x00\x00"), reject},
		"NTLM in SPNEGO":              {kerberostest.Init([]byte("NTLMSSP\x00"), kerberostest.NTLM), reject},
		"another mechanism":           {kerberostest.Mechanism(kerberostest.NegoEx, 0x0100, nil), reject},
		"Kerberos without a token":    {kerberostest.Init(nil, kerberostest.Kerberos), incomplete},
		"Kerberos behind NTLM":        {kerberostest.Init([]byte("NTLMSSP\x00"), kerberostest.NTLM, kerberostest.Kerberos), micWanted},
		"Microsoft's identifier last": {kerberostest.Init([]byte{1, 2, 3}, kerberostest.NegoEx, kerberostest.NTLM, kerberostest.MSKerberos), micWanted},
	} {
		r, challenge, reason := a.Read(t.Context(), c.token)
		if r != nil || reason == "" || len(challenge) < 9 || challenge[0] != 0xa1 || challenge[8] != c.state {
			t.Errorf("%s: %v, %x, %q", name, r, challenge, reason)
		}
	}
}

// TestSkewIsExact: an authenticator counts up to the very end of the skew, both ways; and the
// client of a late one is told, for the record.
func TestSkewIsExact(t *testing.T) {
	a := acceptor(t, nil)
	for _, c := range []struct {
		off  time.Duration
		good bool
	}{
		{-2 * time.Minute, true},
		{2 * time.Minute, true},
		{-2*time.Minute - time.Microsecond, false},
		{2*time.Minute + time.Microsecond, false},
	} {
		tok := kerberostest.New(now.Add(c.off))
		tok.Part.StartTime, tok.Part.AuthTime = now.Add(-time.Hour), now.Add(-time.Hour)
		got, reason := judge(t, a, tok.GSS())
		if (reason == "") != c.good || !c.good && reason != kerberos.ReasonSkew {
			t.Errorf("%v: %q", c.off, reason)
		}
		if got.Realm != "IPA.TEST" || !got.Made.Equal(now.Add(c.off)) {
			t.Errorf("%v: %+v", c.off, got)
		}
	}
}

// TestBindings: present, absent and wrong under every demand.
func TestBindings(t *testing.T) {
	other := sha256.Sum256([]byte("another certificate"))
	says := types.AuthorizationData{{ADType: 1, ADData: kerberostest.List(kerberostest.Element(143, []byte{0, 0x40, 0, 0}))}}
	for _, c := range []struct {
		demand   kerberos.Bindings
		endPoint []byte
		data     types.AuthorizationData
		bound    bool
		reason   bool
	}{
		{demand: kerberos.BindingsOff, endPoint: endPoint[:]},
		{demand: kerberos.BindingsOff},
		{demand: kerberos.BindingsOff, endPoint: other[:]},
		{demand: kerberos.BindingsAbsentOK, endPoint: endPoint[:], bound: true},
		{demand: kerberos.BindingsAbsentOK},
		{demand: kerberos.BindingsAbsentOK, endPoint: other[:], reason: true},
		{demand: kerberos.BindingsAbsentOK, data: says, reason: true},
		{demand: kerberos.BindingsRequired, endPoint: endPoint[:], bound: true},
		{demand: kerberos.BindingsRequired, reason: true},
		{demand: kerberos.BindingsRequired, endPoint: other[:], reason: true},
	} {
		a := acceptor(t, func(cfg *kerberos.Config) { cfg.Bindings = c.demand })
		tok := kerberostest.New(now)
		tok.Auth.Cksum.Checksum = kerberostest.Checksum(c.endPoint, 2)
		tok.Auth.AuthorizationData = c.data
		got, reason := judge(t, a, tok.GSS())
		if (reason != "") != c.reason || got.Bound != c.bound {
			t.Errorf("%s with %x: bound %v, %q", c.demand, c.endPoint, got.Bound, reason)
		}
	}
	// The gateway did not say.
	a := acceptor(t, nil)
	tok := kerberostest.New(now)
	tok.Auth.Cksum.Checksum = kerberostest.Checksum(endPoint[:], 2)
	r, _, _ := a.Read(t.Context(), tok.GSS())
	if _, reason := a.Accept(t.Context(), r, now, kerberos.Channel{Address: channel.Address}); reason == "" {
		t.Error("a binding that could not be compared was accepted")
	}
}

// TestNames: whom a ticket names.
func TestNames(t *testing.T) {
	a := acceptor(t, nil)
	for _, name := range [][]string{{"alice"}, {"host", "pump-7.ipa.test"}, {"HTTP", "web.ipa.test"}, {"jürgen"}, {"alice", "admin"}} {
		tok := kerberostest.New(now)
		tok.Part.CName.NameString, tok.Auth.CName.NameString = name, name
		if c, reason := judge(t, a, tok.GSS()); reason != "" || !slices.Equal(c.Components, name) {
			t.Errorf("%q: %q, %q", name, c.Components, reason)
		}
	}
	// Another realm, by a way that the KDC has checked, or directly.
	tok := kerberostest.New(now)
	tok.Part.CRealm, tok.Auth.CRealm = "OTHER.TEST", "OTHER.TEST"
	if c, reason := judge(t, a, tok.GSS()); reason != "" || c.Realm != "OTHER.TEST" {
		t.Errorf("%+v, %q", c, reason)
	}
	tok.Part.Transited = messages.TransitedEncoding{TRType: 1, Contents: []byte("THIRD.TEST")}
	types.SetFlag(&tok.Part.Flags, 12)
	if c, reason := judge(t, a, tok.GSS()); reason != "" || c.Realm != "OTHER.TEST" {
		t.Errorf("%+v, %q", c, reason)
	}
	tok = kerberostest.New(now)
	tok.Part.CAddr = types.HostAddresses{{AddrType: 24, Address: make([]byte, 16)}, {AddrType: 2, Address: []byte{192, 0, 2, 7}}}
	if _, reason := judge(t, a, tok.GSS()); reason != "" {
		t.Errorf("the client's own address: %q", reason)
	}
}

// TestID: the same authenticator has the same id, whatever stands around it.
func TestID(t *testing.T) {
	a := acceptor(t, nil)
	gss := kerberostest.New(now).GSS()
	r1, _, _ := a.Read(t.Context(), gss)
	r2, _, _ := a.Read(t.Context(), kerberostest.Init(gss, kerberostest.NegoEx, kerberostest.Kerberos))
	r3, _, _ := a.Read(t.Context(), kerberostest.New(now).GSS())
	if r1.ID() != r2.ID() || r1.ID() == r3.ID() {
		t.Errorf("%x %x %x", r1.ID(), r2.ID(), r3.ID())
	}
}

func TestNewNeedsAll(t *testing.T) {
	for i, edit := range []func(*kerberos.Config){
		func(c *kerberos.Config) { c.Keys = nil },
		func(c *kerberos.Config) { c.Log = nil },
		func(c *kerberos.Config) { c.Principals = nil },
		func(c *kerberos.Config) { c.Principals = []string{"HTTP/localhost"} },
		func(c *kerberos.Config) { c.Principals = []string{"HTTP@IPA.TEST"} },
		func(c *kerberos.Config) { c.Realms = nil },
		func(c *kerberos.Config) { c.Skew = 0 },
		func(c *kerberos.Config) { c.Skew = kerberos.MaxSkew + 1 },
		func(c *kerberos.Config) { c.Bindings = "perhaps" },
	} {
		c := kerberos.Config{
			Keys: keys, Principals: []string{"HTTP/localhost@IPA.TEST"}, Realms: []string{"IPA.TEST"},
			Skew: time.Minute, Bindings: kerberos.BindingsOff, Log: slog.New(slog.DiscardHandler),
		}
		edit(&c)
		if _, err := kerberos.New(c); err == nil {
			t.Errorf("case %d was made", i)
		}
	}
}
