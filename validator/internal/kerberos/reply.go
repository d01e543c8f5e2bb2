package kerberos

import (
	"context"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	gofork "github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The states of a negotiation (RFC 4178 section 4.2.2).
const (
	acceptCompleted  = 0
	acceptIncomplete = 1
	negReject        = 2
	requestMIC       = 3
)

// negResponse is a NegTokenResp. Empty fields are left out.
type negResponse struct {
	state     int64
	mechanism asn1.ObjectIdentifier
	token     []byte
	mic       []byte
}

func (n negResponse) marshal() []byte {
	var b cryptobyte.Builder
	b.AddASN1(tagNegResponse, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(field(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(n.state) })
			if n.mechanism != nil {
				b.AddASN1(field(1), func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(n.mechanism) })
			}
			if n.token != nil {
				b.AddASN1(field(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(n.token) })
			}
			if n.mic != nil {
				b.AddASN1(field(3), func(b *cryptobyte.Builder) { b.AddASN1OctetString(n.mic) })
			}
		})
	})
	return b.BytesOrPanic() // octets and constants: there is nothing that could go wrong
}

// reject tells a client that nothing it offers is taken.
func reject() []byte { return negResponse{state: negReject}.marshal() }

// ask asks a client for a token of the Kerberos mechanism.
func ask(o offer) []byte {
	state := int64(acceptIncomplete)
	if !o.preferred {
		state = requestMIC
	}
	return negResponse{state: state, mechanism: o.mechanism}.marshal()
}

// replyTo is what a reply is made of.
type replyTo struct {
	session types.EncryptionKey
	auth    types.Authenticator
	mutual  bool // the client asks for it in its checksum
}

// reply returns the token for the client, nil where it wants none. It checks the client's
// checksum over the mechanism list on the way.
func (a *Acceptor) reply(ctx context.Context, r *Request, to replyTo) (token []byte, reason string) {
	err := safely(func() (err error) {
		if !checkMIC(r.offer, to) {
			reason = reasonMIC
			return nil
		}
		token, err = buildReply(r, to)
		return err
	})
	if err != nil {
		return nil, a.unreadable(ctx, err, reasonLibrary)
	}
	return token, reason
}

func buildReply(r *Request, to replyTo) ([]byte, error) {
	var inner []byte
	var err error
	if to.mutual || r.req.APOptions.At(apMutualRequired) == 1 {
		if inner, err = mechanismReply(to); err != nil {
			return nil, err
		}
	}
	if !r.offer.wrapped {
		return inner, nil
	}
	answer := negResponse{state: acceptCompleted, mechanism: r.offer.mechanism, token: inner}
	// Where Kerberos was not the client's first choice it wants to know that nobody changed
	// its list (RFC 4178 section 5); so it does when it sent a checksum itself.
	if r.offer.list != nil && (!r.offer.preferred || r.offer.mic != nil) {
		if answer.mic, err = listMIC(r.offer.list, to); err != nil {
			return nil, err
		}
	}
	return answer.marshal(), nil
}

// encAPRepPart and apRep are RFC 4120 section 5.5.2. The library can only read them.
type encAPRepPart struct {
	CTime     time.Time `asn1:"generalized,explicit,tag:0"`
	Cusec     int       `asn1:"explicit,tag:1"`
	SeqNumber int64     `asn1:"optional,explicit,tag:3"`
}

// mechanismReply returns the token with the AP-REP (RFC 4121 section 4.1.2).
func mechanismReply(to replyTo) ([]byte, error) {
	part, err := gofork.Marshal(encAPRepPart{CTime: to.auth.CTime, Cusec: to.auth.Cusec, SeqNumber: to.auth.SeqNumber})
	if err != nil {
		return nil, errors.New("encoding an AP-REP")
	}
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(part, asnAppTag.EncAPRepPart), to.session, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		return nil, errors.New("encrypting an AP-REP")
	}
	rep, err := gofork.Marshal(messages.APRep{PVNO: 5, MsgType: msgtype.KRB_AP_REP, EncPart: sealed})
	if err != nil {
		return nil, errors.New("encoding an AP-REP")
	}
	var b cryptobyte.Builder
	b.AddASN1(tagGSS, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidKerberos)
		b.AddUint16(tokenAPRep)
		b.AddBytes(asn1tools.AddASNAppTag(rep, asnAppTag.APREP))
	})
	return b.Bytes()
}

// micKey is the key of the context: the client's subkey, or else the session's (RFC 4121
// section 2).
func (to replyTo) micKey() types.EncryptionKey {
	if len(to.auth.SubKey.KeyValue) > 0 {
		return to.auth.SubKey
	}
	return to.session
}

// checkMIC tells whether the client's checksum over its mechanism list, if there is one, is
// right.
func checkMIC(o offer, to replyTo) bool {
	if o.mic == nil {
		return true
	}
	var m gssapi.MICToken
	if err := m.Unmarshal(slices.Clone(o.mic), false); err != nil || m.Flags != 0 {
		return false
	}
	m.Payload = slices.Clone(o.list)
	good, err := m.Verify(to.micKey(), keyusage.GSSAPI_INITIATOR_SIGN)
	return err == nil && good
}

// listMIC returns the checksum over the client's mechanism list (RFC 4121 section 4.2.6.1).
func listMIC(list []byte, to replyTo) ([]byte, error) {
	m := gssapi.MICToken{
		Flags: gssapi.MICTokenFlagSentByAcceptor, SndSeqNum: uint64(to.auth.SeqNumber),
		Payload: slices.Clone(list),
	}
	if err := m.SetChecksum(to.micKey(), keyusage.GSSAPI_ACCEPTOR_SIGN); err != nil {
		return nil, errors.New("making a checksum")
	}
	return m.Marshal()
}
