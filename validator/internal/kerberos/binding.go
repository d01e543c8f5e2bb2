package kerberos

import (
	"crypto/md5" //nolint:gosec // RFC 4121 section 4.1.1.2 demands it; the authenticator is authenticated otherwise
	"crypto/subtle"
	"encoding/binary"

	"github.com/jcmturner/gokrb5/v8/types"
)

// What stands in the checksum of an authenticator (RFC 4121 section 4.1.1).
const (
	gssChecksum     = 0x8003
	gssFlagMutual   = 1 << 1
	gssFlagDCEStyle = 1 << 12 // [MS-KILE] section 3.2.1
	bindingOctets   = 16
	minGSSChecksum  = 4 + bindingOctets + 4
)

// gssFields are the content of that checksum: a hash over channel bindings and flags.
type gssFields struct {
	binding []byte
	flags   uint32
}

func (g gssFields) mutual() bool { return g.flags&gssFlagMutual != 0 }

func readChecksum(c types.Checksum) (gssFields, string) {
	if c.CksumType != gssChecksum || len(c.Checksum) < minGSSChecksum || binary.LittleEndian.Uint32(c.Checksum) != bindingOctets {
		return gssFields{}, reasonChecksum
	}
	g := gssFields{binding: c.Checksum[4 : 4+bindingOctets], flags: binary.LittleEndian.Uint32(c.Checksum[4+bindingOctets:])}
	if g.flags&gssFlagDCEStyle != 0 {
		return gssFields{}, reasonDCE // it takes another round
	}
	return g, ""
}

// bound compares the client's channel binding with the connection.
func (a *Acceptor) bound(g gssFields, data types.AuthorizationData, ch Channel) (bool, string) {
	if a.c.Bindings == BindingsOff {
		return false, ""
	}
	absent := subtle.ConstantTimeCompare(g.binding, make([]byte, bindingOctets)) == 1
	switch {
	case absent && a.c.Bindings == BindingsRequired:
		return false, reasonUnbound
	case absent && bindsAlways(data):
		return false, reasonUnbound
	case absent:
		return false, ""
	case len(ch.ServerEndPoint) == 0:
		return false, reasonNoChannel
	case subtle.ConstantTimeCompare(g.binding, bindingHash(ch.ServerEndPoint)) == 0:
		return false, reasonBinding
	}
	return true, ""
}

// bindingHash returns the MD5 hash over channel bindings without addresses, whose application
// data are those of tls-server-end-point (RFC 4121 section 4.1.1.2, RFC 5929 section 4).
func bindingHash(endPoint []byte) []byte {
	const prefix = "tls-server-end-point:"
	b := make([]byte, 16, 20+len(prefix)+len(endPoint)) // no addresses: types and lengths are 0
	b = binary.LittleEndian.AppendUint32(b, uint32(len(prefix)+len(endPoint)))
	b = append(append(b, prefix...), endPoint...)
	sum := md5.Sum(b) //nolint:gosec // as above
	return sum[:]
}

// bindsAlways tells whether the client says that it sends channel bindings wherever it can:
// KERB_AP_OPTIONS_CBT in AD-AUTH-DATA-AP-OPTIONS ([MS-KILE] section 3.2.5.8). One that says
// so and sends none is not talking to us by TLS.
func bindsAlways(data types.AuthorizationData) bool {
	const apOptions, cbt = 143, 0x4000
	for _, e := range data {
		if e.ADType != adIfRelevant {
			continue
		}
		inner, ok := readAuthData(e.ADData)
		if !ok {
			continue // it may be ignored
		}
		for _, e := range inner {
			if e.kind == apOptions && len(e.data) == 4 && binary.LittleEndian.Uint32(e.data)&cbt != 0 {
				return true
			}
		}
	}
	return false
}
