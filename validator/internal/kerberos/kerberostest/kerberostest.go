// Package kerberostest turns descriptions of Kerberos tickets and tokens, good ones and bad
// ones, into their octets, for tests: it is client and KDC in one.
package kerberostest

import (
	"crypto/md5" //nolint:gosec // RFC 4121 section 4.1.1.2
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	gofork "github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// The names that tokens carry unless they are changed.
const (
	Realm   = "IPA.TEST"
	Service = "HTTP/localhost"
	User    = "alice"
	KVNO    = 3
)

// The mechanisms (RFC 4178, RFC 4121, [MS-SPNG], [MS-NLMP]).
var (
	SPNEGO     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
	Kerberos   = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	MSKerberos = asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2}
	NegoEx     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 30}
	NTLM       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
)

// Edit changes octets; nil changes nothing.
type Edit func([]byte) []byte

func (e Edit) apply(b []byte) []byte {
	if e == nil {
		return b
	}
	return e(b)
}

// Token is a token in the making.
type Token struct {
	// TicketKey seals the ticket, Session the authenticator: it also stands in the ticket.
	TicketKey, Session types.EncryptionKey
	// Ticket is the plain part of the ticket; its EncPart is filled in.
	Ticket messages.Ticket
	// Part is the sealed one.
	Part messages.EncTicketPart
	// Auth is the authenticator.
	Auth types.Authenticator
	// Options are those of the AP-REQ.
	Options gofork.BitString
	// TokenID stands before the AP-REQ (RFC 4121 section 4.1).
	TokenID uint16
	// OID is the mechanism's.
	OID asn1.ObjectIdentifier
	// EditPart, EditAuth and EditAPReq change the DER of the ticket's part and of the
	// authenticator before they are sealed, and that of the AP-REQ.
	EditPart, EditAuth, EditAPReq Edit
}

// Key returns a key of the algorithm that always is the same for the same seed.
func Key(etype int32, seed byte) types.EncryptionKey {
	sizes := map[int32]int{17: 16, 18: 32, 19: 16, 20: 32, 16: 24, 23: 16}
	b := make([]byte, sizes[etype])
	for i := range b {
		b[i] = seed + byte(i)*7
	}
	return types.EncryptionKey{KeyType: etype, KeyValue: b}
}

// New returns a good token of alice@IPA.TEST for HTTP/localhost@IPA.TEST, made at this time
// with a ticket of an hour ago, with mutual authentication asked for.
func New(now time.Time) *Token {
	t := &Token{TicketKey: Key(18, 1), Session: Key(18, 9), TokenID: 0x0100, OID: Kerberos}
	t.Ticket = messages.Ticket{TktVNO: 5, Realm: Realm, SName: types.NewPrincipalName(3, Service)}
	t.Ticket.EncPart = types.EncryptedData{EType: 18, KVNO: KVNO}
	client := types.NewPrincipalName(1, User)
	now = now.UTC()
	login := now.Add(-time.Hour).Truncate(time.Second)
	t.Part = messages.EncTicketPart{
		Flags: types.NewKrbFlags(), CRealm: Realm, CName: client,
		AuthTime: login, StartTime: login, EndTime: login.Add(10 * time.Hour),
	}
	t.Auth = types.Authenticator{
		AVNO: 5, CRealm: Realm, CName: client, CTime: now.Truncate(time.Second), Cusec: now.Nanosecond() / 1000, SeqNumber: 77,
		Cksum: types.Checksum{CksumType: 0x8003, Checksum: Checksum(nil, 1<<1|1<<2)},
	}
	t.Options = types.NewKrbFlags()
	types.SetFlag(&t.Options, 2)
	return t
}

// Checksum returns what stands in an authenticator's checksum of GSS-API (RFC 4121 section
// 4.1.1): channel bindings over this hash of a certificate, none where it is nil, and flags.
func Checksum(endPoint []byte, flags uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 16)
	binding := make([]byte, 16)
	if endPoint != nil {
		data := append([]byte("tls-server-end-point:"), endPoint...)
		sum := md5.Sum(append(append(make([]byte, 16), binary.LittleEndian.AppendUint32(nil, uint32(len(data)))...), data...)) //nolint:gosec // as above
		binding = sum[:]
	}
	return binary.LittleEndian.AppendUint32(append(b, binding...), flags)
}

// GSS returns the token of the Kerberos mechanism.
func (t *Token) GSS() []byte {
	t.Part.Key = t.Session
	part := asn1tools.AddASNAppTag(must(gofork.Marshal(t.Part)), asnAppTag.EncTicketPart)
	t.Ticket.EncPart.Cipher = seal(t.EditPart.apply(part), t.TicketKey, keyusage.KDC_REP_TICKET)
	auth := t.EditAuth.apply(must(t.Auth.Marshal()))
	req := messages.APReq{PVNO: 5, MsgType: 14, APOptions: t.Options, Ticket: t.Ticket}
	req.EncryptedAuthenticator = types.EncryptedData{EType: t.Session.KeyType, Cipher: seal(auth, t.Session, keyusage.AP_REQ_AUTHENTICATOR)}
	return Mechanism(t.OID, t.TokenID, t.EditAPReq.apply(must(req.Marshal())))
}

// Mechanism wraps an inner token (RFC 2743 section 3.1, RFC 4121 section 4.1).
func Mechanism(oid asn1.ObjectIdentifier, id uint16, inner []byte) []byte {
	b := must(asn1.Marshal(oid))
	return TLV(0x60, append(binary.BigEndian.AppendUint16(b, id), inner...))
}

// Init wraps a token of a mechanism, nil for none, in SPNEGO (RFC 4178 section 4.2.1), with
// these mechanisms listed.
func Init(token []byte, mechanisms ...asn1.ObjectIdentifier) []byte {
	return InitMIC(token, nil, mechanisms...)
}

// InitMIC is Init with a mechListMIC, nil for none.
func InitMIC(token, mic []byte, mechanisms ...asn1.ObjectIdentifier) []byte {
	body := TLV(0xa0, MechanismList(mechanisms...))
	if token != nil {
		body = append(body, TLV(0xa2, TLV(4, token))...)
	}
	if mic != nil {
		body = append(body, TLV(0xa3, TLV(4, mic))...)
	}
	return TLV(0x60, append(must(asn1.Marshal(SPNEGO)), TLV(0xa0, TLV(0x30, body))...))
}

// MechanismList returns the DER of a MechTypeList.
func MechanismList(mechanisms ...asn1.ObjectIdentifier) []byte {
	var list []byte
	for _, m := range mechanisms {
		list = append(list, must(asn1.Marshal(m))...)
	}
	return TLV(0x30, list)
}

// Header returns what stands behind the scheme Negotiate for the token in SPNEGO.
func (t *Token) Header() string {
	return base64.StdEncoding.EncodeToString(Init(t.GSS(), Kerberos))
}

// TLV returns a DER element.
func TLV(tag byte, content []byte) []byte {
	n := len(content)
	head := []byte{tag, byte(n)}
	switch {
	case n >= 1<<16:
		head = []byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}
	case n >= 1<<8:
		head = []byte{tag, 0x82, byte(n >> 8), byte(n)}
	case n >= 0x80:
		head = []byte{tag, 0x81, byte(n)}
	}
	return append(head, content...)
}

func seal(plain []byte, key types.EncryptionKey, usage uint32) []byte {
	return must(crypto.GetEncryptedData(plain, key, usage, 0)).Cipher
}

// must returns what cannot fail with the arguments of a test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("making a token: %v", err))
	}
	return v
}
