package radius_test

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"slices"
	"testing"

	layeh "layeh.com/radius"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// What a fuzzer cannot guess is done for it.
const (
	doSeal  = 1 << iota // the Response Authenticator
	doSign              // the first Message-Authenticator, before that
	laxMode             // answers need not be signed
)

// genuine is a second opinion of an answer, with a library's eyes.
func genuine(octets, request []byte, lax bool) bool {
	if len(octets) < 20 {
		return false
	}
	length := int(binary.BigEndian.Uint16(octets[2:]))
	if length < 20 || length > len(octets) || length > 4096 {
		return false
	}
	octets = slices.Clone(octets[:length])
	p, err := layeh.Parse(octets, []byte(testSecret))
	known := octets[0] == accessAccept || octets[0] == accessReject || octets[0] == accessChallenge
	if err != nil || !known || octets[1] != request[1] || !layeh.IsAuthenticResponse(octets, request, []byte(testSecret)) {
		return false
	}
	var macs [][]byte
	for _, a := range p.Attributes {
		if a.Type == 80 {
			macs = append(macs, slices.Clone([]byte(a.Attribute)))
			a.Attribute = make([]byte, len(a.Attribute))
		}
	}
	if len(macs) == 0 {
		return lax
	}
	p.Authenticator = [16]byte(request[4:20])
	plain, err := p.MarshalBinary()
	return err == nil && len(macs) == 1 && hmac.Equal(mac(plain, testSecret), macs[0])
}

// help seals and signs what a fuzzer made.
func help(octets, request []byte, mode byte) []byte {
	octets = slices.Clone(octets)
	if len(octets) < 20 {
		return octets
	}
	length := int(binary.BigEndian.Uint16(octets[2:]))
	if length < 20 || length > len(octets) {
		return octets
	}
	p := octets[:length]
	if mode&doSign != 0 {
		for at := 20; at+18 <= length && p[at+1] >= 2; at += int(p[at+1]) {
			if p[at] == 80 && p[at+1] == 18 {
				copy(p[4:20], request[4:20])
				clear(p[at+2 : at+18])
				copy(p[at+2:at+18], mac(p, testSecret))
				break
			}
		}
	}
	if mode&doSeal != 0 {
		seal(p, request, testSecret)
	}
	return octets
}

func FuzzReply(f *testing.F) {
	f.Fuzz(func(t *testing.T, octets []byte, mode byte) {
		lax := mode&laxMode != 0
		p := radius.NewPacket(7, [16]byte{1, 2, 3}, []byte(testSecret), lax)
		octets = help(octets, p.Octets(), mode)
		want := genuine(octets, p.Octets(), lax)
		before := slices.Clone(p.Octets())
		code, signed, state, err := p.Check(slices.Clone(octets))
		if (err == nil) != want {
			t.Fatalf("%x, lax %t: %v, and the library: %t", octets, lax, err, want)
		}
		if err == nil && (code != octets[0] || !signed && !lax || len(state) > 253) {
			t.Fatalf("%x: code %d, signed %t, state %x", octets, code, signed, state)
		}
		if !bytes.Equal(before, p.Octets()) {
			t.Fatal("the request has changed")
		}
	})
}
