package otpd

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 2865 is built on it
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/estuary-pki/estuary/services/secret"
)

// The codes (RFC 2865 section 3, RFC 5997).
const (
	accessRequest = 1
	accessAccept  = 2
	accessReject  = 3
	statusServer  = 12
)

const (
	headerSize = 20
	maxPacket  = 4096

	typeUserName             = 1
	typeUserPassword         = 2
	typeMessageAuthenticator = 80

	maxUserPassword = 128 // RFC 2865 section 5.2
)

// packet is a request.
type packet struct {
	code, identifier byte
	authenticator    [md5.Size]byte
	id               [sha256.Size]byte
	user             string
	password         secret.Bytes
	signed           bool // carries a good Message-Authenticator
}

// read reads one packet (RFC 2865 section 3) off a stream. The error is io.EOF between two.
func read(r io.Reader, buffer []byte) (*packet, error) {
	if _, err := io.ReadFull(r, buffer[:4]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(buffer[2:4]))
	if length < headerSize || length > maxPacket {
		return nil, fmt.Errorf("a packet of %d octets: %d to %d are possible (RFC 2865 section 3)", length, headerSize, maxPacket)
	}
	if _, err := io.ReadFull(r, buffer[4:length]); err != nil {
		return nil, fmt.Errorf("reading a packet: %w", err)
	}
	defer clear(buffer[:length]) // a password has been in it
	return decode(buffer[:length])
}

// decode reads a packet whose length has been checked. It changes octets.
func decode(octets []byte) (*packet, error) {
	p := &packet{code: octets[0], identifier: octets[1], id: sha256.Sum256(octets)}
	copy(p.authenticator[:], octets[4:headerSize])
	var hidden []byte
	mac := 0
	for rest := octets[headerSize:]; len(rest) > 0; {
		if len(rest) < 2 || rest[1] < 2 || int(rest[1]) > len(rest) {
			return nil, errors.New("an attribute reaches beyond its packet (RFC 2865 section 5)")
		}
		kind, value, at := rest[0], rest[2:rest[1]], len(octets)-len(rest)
		rest = rest[rest[1]:]
		switch kind {
		case typeUserName:
			if p.user != "" {
				return nil, errors.New("two User-Names")
			}
			p.user = string(value)
		case typeUserPassword:
			if hidden != nil {
				return nil, errors.New("two User-Passwords")
			}
			hidden = value
		case typeMessageAuthenticator:
			if len(value) != md5.Size || mac != 0 {
				return nil, errors.New("not one Message-Authenticator of 16 octets (RFC 3579 section 3.2)")
			}
			mac = at + 2
		}
	}
	if n := len(hidden); n%md5.Size != 0 || n > maxUserPassword {
		return nil, fmt.Errorf("a User-Password of %d octets (RFC 2865 section 5.2)", n)
	}
	p.password = p.reveal(hidden)
	if mac == 0 {
		return p, nil
	}
	said := bytes.Clone(octets[mac : mac+md5.Size])
	clear(octets[mac : mac+md5.Size])
	if !hmac.Equal(sign(octets), said) {
		p.password.Wipe()
		return nil, errors.New("a Message-Authenticator that is not made with the empty secret")
	}
	p.signed = true
	return p, nil
}

// reveal decodes a User-Password under the empty secret (RFC 2865 section 5.2). The octets
// that fill it up are NUL.
func (p *packet) reveal(hidden []byte) secret.Bytes {
	plain := make([]byte, len(hidden))
	previous := p.authenticator[:]
	for at := 0; at < len(hidden); at += md5.Size {
		mask := md5.Sum(previous) //nolint:gosec // RFC 2865; the secret before it is empty
		for i := range mask {
			plain[at+i] = hidden[at+i] ^ mask[i]
		}
		previous = hidden[at : at+md5.Size]
	}
	return secret.New(bytes.TrimRight(plain, "\x00"))
}

// sign returns HMAC-MD5 under the empty secret, over a packet whose Message-Authenticator is
// zero.
func sign(octets []byte) []byte {
	m := hmac.New(md5.New, nil)
	m.Write(octets)
	return m.Sum(nil)
}

// reply encodes an answer: with a Message-Authenticator, the first attribute, where the
// request has one.
func (p *packet) reply(code byte) []byte {
	size := headerSize
	if p.signed {
		size += 2 + md5.Size
	}
	octets := make([]byte, size)
	octets[0], octets[1] = code, p.identifier
	binary.BigEndian.PutUint16(octets[2:], uint16(size))
	copy(octets[4:], p.authenticator[:])
	if p.signed {
		octets[headerSize], octets[headerSize+1] = typeMessageAuthenticator, 2+md5.Size
		copy(octets[headerSize+2:], sign(octets))
	}
	sum := md5.Sum(octets) //nolint:gosec // RFC 2865 section 3; the secret behind it is empty
	copy(octets[4:], sum[:])
	return octets
}
