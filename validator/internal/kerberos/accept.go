package kerberos

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jcmturner/gokrb5/v8/iana/addrtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// The options of an AP-REQ (RFC 4120 section 5.5.1).
const (
	apUseSessionKey  = 1
	apMutualRequired = 2
)

// maxName is the longest principal that is accepted, in octets, without realm.
const maxName = 255

// Channel is what is known of the connection that a token came by.
type Channel struct {
	// ServerEndPoint is the hash over the gateway's certificate: tls-server-end-point (RFC
	// 5929 section 4.1). Empty when it is not known.
	ServerEndPoint []byte
	// Address is the client's address.
	Address netip.Addr
}

// Client is whom a ticket names, and how it proved that.
type Client struct {
	// Components are those of the principal, each plain text without '/' and '@'.
	Components []string
	// Realm is the client's realm.
	Realm string
	// LoginTime is when the client got its first ticket: authtime (RFC 4120 section 5.3).
	LoginTime time.Time
	// Indicators are the authentication indicators that the KDC signed, sorted.
	Indicators []string
	// Bound tells that the client's channel binding is that of the connection.
	Bound bool
	// Service is the principal that the ticket is for.
	Service string
	// Made is when the client made the token, and Ends when its ticket is worth nothing.
	Made, Ends time.Time
	// Reply is the token by which the client knows that its service has the key: AP-REP
	// (RFC 4121 section 4.1.2), in SPNEGO where the client used it. Nil where the client
	// wants none.
	Reply []byte
}

// Accept says whom the token proves, at the time at. A refusal is a reason, for the audit
// alone. Where nothing but a time is wrong, the client is whom a token of the right time would
// have proved.
func (a *Acceptor) Accept(ctx context.Context, r *Request, at time.Time, ch Channel) (c Client, reason string) {
	key, ticket, reason := a.open(ctx, r)
	if reason != "" {
		return Client{}, reason
	}
	// A ticket that begins later is read to its end: its token has to be remembered, or whoever
	// saw it could use it once that time has come.
	timing := a.checkTimes(ticket, at)
	if timing != "" && timing != reasonEarly && timing != reasonAuthTime {
		return Client{}, timing
	}
	if reason = cmp.Or(a.checkClient(r, ticket), checkAddresses(ticket.CAddr, ch.Address)); reason != "" {
		return Client{}, reason
	}
	auth, reason := a.authenticator(ctx, r, ticket)
	if reason != "" {
		return Client{}, reason
	}
	c = Client{
		Components: ticket.CName.NameString, Realm: ticket.CRealm, LoginTime: ticket.AuthTime, Ends: ticket.EndTime,
		Service: r.service(),
		Made:    auth.CTime.Add(time.Duration(auth.Cusec) * time.Microsecond),
	}
	gss, reason := readChecksum(auth.Cksum)
	if reason == "" {
		c.Bound, reason = a.bound(gss, auth.AuthorizationData, ch)
	}
	if reason == "" {
		c.Indicators, reason = indicators(ticket.AuthorizationData, key)
	}
	if reason == "" {
		c.Reply, reason = a.reply(ctx, r, replyTo{session: ticket.Key, auth: auth, mutual: gss.mutual()})
	}
	switch {
	case reason != "":
		return Client{}, reason
	case timing == "" && differ(c.Made, at) > a.c.Skew:
		timing = ReasonSkew
	}
	if timing != "" {
		c.Reply = nil
	}
	return c, timing
}

// open decrypts the ticket with the keys of the service that it is for.
func (a *Acceptor) open(ctx context.Context, r *Request) (types.EncryptionKey, *messages.EncTicketPart, string) {
	t := r.req.Ticket
	// MIT's library before 1.14 encoded versions of 2^31 and above as negative numbers.
	keys := a.c.Keys(ctx, r.service(), uint32(t.EncPart.KVNO), t.EncPart.EType)
	if len(keys) == 0 {
		return types.EncryptionKey{}, nil, reasonNoKey
	}
	for _, k := range keys {
		key := types.EncryptionKey{KeyType: t.EncPart.EType, KeyValue: k.Reveal()}
		plain, err := decrypt(t.EncPart, key, keyusage.KDC_REP_TICKET)
		if err != nil {
			if reason := a.unreadable(ctx, err, ""); reason != "" {
				return types.EncryptionKey{}, nil, reason
			}
			continue
		}
		var part messages.EncTicketPart
		if err := safely(func() error { return part.Unmarshal(plain) }); err != nil {
			return types.EncryptionKey{}, nil, a.unreadable(ctx, err, reasonTicket)
		}
		if !usable(part.Key) {
			return types.EncryptionKey{}, nil, reasonSession
		}
		return key, &part, ""
	}
	return types.EncryptionKey{}, nil, reasonTicket
}

// checkTimes: RFC 4120 section 3.2.3.
func (a *Acceptor) checkTimes(t *messages.EncTicketPart, at time.Time) string {
	start := t.StartTime
	if start.IsZero() {
		start = t.AuthTime
	}
	switch {
	case t.Flags.At(flags.Invalid) == 1:
		return reasonInvalid
	case start.Sub(at) > a.c.Skew:
		return reasonEarly
	case at.Sub(t.EndTime) > a.c.Skew:
		return reasonExpired
	case t.AuthTime.Unix() <= 0 || t.AuthTime.Sub(at) > a.c.Skew:
		return reasonAuthTime
	}
	return ""
}

// checkClient holds the client's name and the way of its ticket against the rules.
func (a *Acceptor) checkClient(r *Request, t *messages.EncTicketPart) string {
	const anonymous, wellKnown, kdc = 16, "WELLKNOWN", "krbtgt" // RFC 8062 section 3
	name := t.CName.NameString
	switch {
	case !plain(name):
		return reasonName
	case t.Flags.At(anonymous) == 1 || name[0] == wellKnown:
		return reasonAnonymous
	case name[0] == kdc:
		return reasonName
	case !slices.Contains(a.c.Realms, t.CRealm):
		return reasonRealm
	// Either no other realm had a hand in it, or the service's own KDC vouches for those that
	// had (RFC 4120 section 2.7).
	case len(t.Transited.Contents) > 0 && t.Flags.At(flags.TransitedPolicyChecked) == 0:
		return reasonTransited
	// A login in the service's own realm crosses no other: one that did was named by a stranger.
	case t.CRealm == r.req.Ticket.Realm && len(t.Transited.Contents) > 0:
		return reasonTransited
	case t.CRealm != r.req.Ticket.Realm && t.Transited.TRType > 1:
		return reasonTransited
	}
	return ""
}

// plain tells whether a principal can be written as text without escapes, which FreeIPA has
// none of either, and has one or two components.
func plain(name []string) bool {
	if len(name) == 0 || len(name) > 2 || len(strings.Join(name, "/")) > maxName {
		return false
	}
	for _, component := range name {
		if component == "" || !utf8.ValidString(component) || strings.ContainsAny(component, `/@\`) ||
			strings.ContainsFunc(component, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
			return false
		}
	}
	return true
}

// checkAddresses: a ticket without addresses is good from everywhere (RFC 4120 section 5.3).
func checkAddresses(addresses types.HostAddresses, client netip.Addr) string {
	if len(addresses) == 0 {
		return ""
	}
	client = client.Unmap().WithZone("")
	for _, address := range addresses {
		if address.AddrType != addrtype.IPv4 && address.AddrType != addrtype.IPv6 {
			continue
		}
		if ip, ok := netip.AddrFromSlice(address.Address); ok && ip.Unmap() == client {
			return ""
		}
	}
	return reasonAddress
}

// authenticator decrypts the authenticator and holds it against the ticket.
func (a *Acceptor) authenticator(ctx context.Context, r *Request, t *messages.EncTicketPart) (types.Authenticator, string) {
	var auth types.Authenticator
	plain, err := decrypt(r.req.EncryptedAuthenticator, t.Key, keyusage.AP_REQ_AUTHENTICATOR)
	if err == nil {
		err = safely(func() error { return auth.Unmarshal(plain) })
	}
	switch {
	case err != nil:
		return auth, a.unreadable(ctx, err, reasonAuthenticator)
	case auth.AVNO != 5 || auth.Cusec < 0 || auth.Cusec >= 1_000_000 || auth.CTime.Unix() <= 0:
		return auth, reasonAuthenticator
	case auth.CRealm != t.CRealm || !auth.CName.Equal(t.CName):
		return auth, reasonOther
	case len(auth.SubKey.KeyValue) > 0 && !usable(auth.SubKey):
		return auth, reasonSubkey
	}
	return auth, ""
}
