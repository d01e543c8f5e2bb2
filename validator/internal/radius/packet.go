package radius

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 2865 is built on it
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"github.com/estuary-pki/estuary/services/secret"
)

const (
	headerSize = 20
	maxPacket  = radius.MaxPacketLength

	accessAccept    = byte(radius.CodeAccessAccept)
	accessReject    = byte(radius.CodeAccessReject)
	accessChallenge = byte(radius.CodeAccessChallenge)

	typeState                = 24
	typeMessageAuthenticator = 80
)

var results = map[byte]Result{accessAccept: Accepted, accessReject: Rejected, accessChallenge: Challenged}

// question is what one request says; without a user it is Status-Server (RFC 5997).
type question struct {
	user     string
	password secret.Bytes
	state    []byte // of the challenge that is answered
}

// packet is a request as it is sent, again and again.
type packet struct {
	octets []byte
	secret []byte
	// unsigned takes an answer without Message-Authenticator.
	unsigned bool
}

// encode makes the request: Message-Authenticator first, where an attacker cannot put
// anything before it (CVE-2024-3596).
func (q question) encode(nas string, key secret.Bytes, id byte) (*packet, error) {
	code := radius.CodeAccessRequest
	if q.user == "" {
		code = radius.CodeStatusServer
	}
	p := radius.New(code, key.Reveal())
	p.Identifier = id
	errs := []error{rfc2869.MessageAuthenticator_Set(p, make([]byte, md5.Size))}
	if q.user != "" {
		errs = append(errs, rfc2865.UserName_SetString(p, q.user), rfc2865.UserPassword_Set(p, q.password.Reveal()),
			rfc2865.ServiceType_Set(p, rfc2865.ServiceType_Value_AuthenticateOnly))
	}
	errs = append(errs, rfc2865.NASIdentifier_SetString(p, nas))
	if len(q.state) > 0 {
		errs = append(errs, rfc2865.State_Set(p, q.state))
	}
	octets, err := p.MarshalBinary()
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("%w: %w", errEncoding, err)
	}
	copy(octets[headerSize+2:], sign(octets, key.Reveal()))
	return &packet{octets: octets, secret: key.Reveal()}, nil
}

// sign returns HMAC-MD5 over a packet whose Message-Authenticator is zero (RFC 3579 section
// 3.2).
func sign(octets, key []byte) []byte {
	m := hmac.New(md5.New, key)
	m.Write(octets)
	return m.Sum(nil)
}

// reply is an answer that is genuine.
type reply struct {
	code  byte
	state []byte
	// signed tells that it carried a Message-Authenticator.
	signed bool
}

// The reasons why octets are no answer to a request; they are counted under these words.
var (
	errShort         = errors.New("short")
	errIdentifier    = errors.New("identifier")
	errCode          = errors.New("code")
	errAuthenticator = errors.New("authenticator")
	errAttributes    = errors.New("attributes")
	errSignature     = errors.New("signature")
	errUnsigned      = errors.New("unsigned")
)

var errEncoding = errors.New("encoding a request")

// check returns the answer to the request, or why the octets are none: anybody can send some.
// What lies behind the packet's own length is padding (RFC 2865 section 3). It changes octets.
func (p *packet) check(octets []byte) (reply, error) {
	if len(octets) < headerSize {
		return reply{}, errShort
	}
	length := int(binary.BigEndian.Uint16(octets[2:4]))
	if length < headerSize || length > len(octets) || length > maxPacket {
		return reply{}, errShort
	}
	octets = octets[:length]
	r := reply{code: octets[0]}
	if octets[1] != p.octets[1] {
		return reply{}, errIdentifier
	}
	if _, known := results[r.code]; !known {
		return reply{}, errCode
	}
	var said [md5.Size]byte
	copy(said[:], octets[4:headerSize])
	copy(octets[4:headerSize], p.octets[4:headerSize])
	h := md5.New() //nolint:gosec // RFC 2865 section 3
	h.Write(octets)
	h.Write(p.secret)
	if subtle.ConstantTimeCompare(h.Sum(nil), said[:]) != 1 {
		return reply{}, errAuthenticator
	}
	return r, r.read(p, octets)
}

// read takes what matters of the attributes. The header holds the request's authenticator.
func (r *reply) read(p *packet, octets []byte) error {
	var mac []byte
	for rest := octets[headerSize:]; len(rest) > 0; {
		if len(rest) < 2 || rest[1] < 2 || int(rest[1]) > len(rest) {
			return errAttributes
		}
		value := rest[2:rest[1]]
		switch rest[0] {
		case typeMessageAuthenticator:
			if len(value) != md5.Size || mac != nil {
				return errSignature
			}
			mac = value
		case typeState:
			r.state = append([]byte{}, value...)
		}
		rest = rest[rest[1]:]
	}
	if mac == nil {
		if !p.unsigned {
			return errUnsigned
		}
		return nil
	}
	r.signed = true
	said := append([]byte{}, mac...)
	clear(mac)
	if !hmac.Equal(sign(octets, p.secret), said) {
		return errSignature
	}
	return nil
}
