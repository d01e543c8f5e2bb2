package kerberos

import (
	"bytes"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxToken is the longest GSS-API token that is looked at, in octets: what stands in 64 KiB of
// base64.
const MaxToken = 48 << 10

// maxMechanisms bounds the mechanisms that a client may list.
const maxMechanisms = 32

// The mechanisms (RFC 4178 section 4, RFC 4121 section 4.1). Windows lists Kerberos by two
// identifiers, of which the second came about by a slip of bits ([MS-SPNG] section 1.9).
var (
	oidSPNEGO      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
	oidKerberos    = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	oidMSKerberos  = asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2}
	ntlmSignature  = []byte("NTLMSSP\x00")
	tagGSS         = casn1.Tag(0x60) // [APPLICATION 0], constructed
	tagNegInit     = casn1.Tag(0).Constructed().ContextSpecific()
	tagNegResponse = casn1.Tag(1).Constructed().ContextSpecific()
)

// field returns the tag of the n-th field of a sequence with explicit tags.
func field(n uint8) casn1.Tag { return casn1.Tag(n).Constructed().ContextSpecific() }

// offer is what a client sent: a Kerberos token and how it was wrapped.
type offer struct {
	// wrapped tells that it came by SPNEGO.
	wrapped bool
	// mechanism is the identifier under which the client listed Kerberos.
	mechanism asn1.ObjectIdentifier
	// list is the DER of the mechanism list, for its checksum; nil where there was none.
	list []byte
	// preferred tells that Kerberos is the client's first choice, or its only one.
	preferred bool
	// mic is the client's checksum over the list; nil when it sent none.
	mic []byte
	// token is the token of the Kerberos mechanism (RFC 4121 section 4.1); nil when the
	// client sent another mechanism's, or none.
	token []byte
}

// readOffer takes SPNEGO apart (RFC 4178 section 4.2); a token of the Kerberos mechanism alone
// is an offer too. The reason is empty unless nothing can be done with it.
func readOffer(token []byte) (o offer, reason string) {
	if bytes.HasPrefix(token, ntlmSignature) {
		return offer{}, "" // no Kerberos in it: the answer says so
	}
	in := cryptobyte.String(token)
	switch {
	case in.PeekASN1Tag(tagNegResponse):
		return readResponse(in)
	case !in.PeekASN1Tag(tagGSS):
		return offer{}, reasonNoGSS
	}
	var body cryptobyte.String
	var mechanism asn1.ObjectIdentifier
	if !in.ReadASN1(&body, tagGSS) || !in.Empty() || !body.ReadASN1ObjectIdentifier(&mechanism) {
		return offer{}, reasonNoGSS
	}
	switch {
	case isKerberos(mechanism):
		return offer{mechanism: mechanism, preferred: true, token: token}, ""
	case !mechanism.Equal(oidSPNEGO):
		return offer{}, ""
	}
	return readInit(body)
}

// readInit reads a NegTokenInit (RFC 4178 section 4.2.1).
func readInit(in cryptobyte.String) (o offer, reason string) {
	var init, seq, list, token, mic cryptobyte.String
	var hasToken, hasMIC bool
	if !in.ReadASN1(&init, tagNegInit) || !in.Empty() || !init.ReadASN1(&seq, casn1.SEQUENCE) || !init.Empty() ||
		!seq.ReadASN1(&list, field(0)) || !seq.SkipOptionalASN1(field(1)) ||
		!readOctets(&seq, &token, &hasToken, 2) || !readOctets(&seq, &mic, &hasMIC, 3) || !seq.Empty() {
		return offer{}, reasonNegToken
	}
	o = offer{wrapped: true, list: list}
	var mechanisms cryptobyte.String
	if !list.ReadASN1(&mechanisms, casn1.SEQUENCE) || !list.Empty() {
		return offer{}, reasonNegToken
	}
	o.mechanism, o.preferred, reason = choose(mechanisms)
	if reason != "" || o.mechanism == nil {
		return o, reason
	}
	if hasMIC {
		o.mic = mic
	}
	// A client whose first choice is another mechanism may have sent that one's token.
	if hasToken && hasKerberosOID(token) {
		o.token = token
	}
	return o, ""
}

// choose finds Kerberos in a mechanism list, wherever it stands.
func choose(list cryptobyte.String) (mechanism asn1.ObjectIdentifier, preferred bool, reason string) {
	count := 0
	for ; !list.Empty(); count++ {
		var next asn1.ObjectIdentifier
		if count == maxMechanisms || !list.ReadASN1ObjectIdentifier(&next) {
			return nil, false, reasonNegToken
		}
		if mechanism == nil && isKerberos(next) {
			mechanism, preferred = next, count == 0
		}
	}
	if count == 0 {
		return nil, false, reasonNoMechanism
	}
	return mechanism, preferred, ""
}

// readResponse reads a NegTokenResp (RFC 4178 section 4.2.2), by which a client sends the
// token that it was asked for. The list that came before is not remembered: Kerberos is all
// that can be negotiated here, so that nothing can have been negotiated away.
func readResponse(in cryptobyte.String) (o offer, reason string) {
	var response, seq, token, mic cryptobyte.String
	var hasToken, hasMIC bool
	if !in.ReadASN1(&response, tagNegResponse) || !in.Empty() || !response.ReadASN1(&seq, casn1.SEQUENCE) || !response.Empty() ||
		!seq.SkipOptionalASN1(field(0)) || !seq.SkipOptionalASN1(field(1)) ||
		!readOctets(&seq, &token, &hasToken, 2) || !readOctets(&seq, &mic, &hasMIC, 3) || !seq.Empty() {
		return offer{}, reasonNegToken
	}
	if !hasToken || !hasKerberosOID(token) {
		return offer{}, reasonNoTicket
	}
	return offer{wrapped: true, mechanism: oidKerberos, preferred: true, token: token}, ""
}

// readOctets reads the n-th field, an optional OCTET STRING with an explicit tag.
func readOctets(in, out *cryptobyte.String, there *bool, n uint8) bool {
	var explicit cryptobyte.String
	if !in.ReadOptionalASN1(&explicit, there, field(n)) {
		return false
	}
	return !*there || explicit.ReadASN1(out, casn1.OCTET_STRING) && explicit.Empty()
}

func isKerberos(oid asn1.ObjectIdentifier) bool {
	return oid.Equal(oidKerberos) || oid.Equal(oidMSKerberos)
}

// hasKerberosOID tells whether a token is one of the Kerberos mechanism (RFC 2743 section 3.1).
func hasKerberosOID(token cryptobyte.String) bool {
	var body cryptobyte.String
	var mechanism asn1.ObjectIdentifier
	return token.ReadASN1(&body, tagGSS) && body.ReadASN1ObjectIdentifier(&mechanism) && isKerberos(mechanism)
}

// The tokens of the Kerberos mechanism (RFC 4121 section 4.1).
const (
	tokenAPReq    = 0x0100
	tokenAPRep    = 0x0200
	tokenKRBError = 0x0300
)

// readMechanism takes the AP-REQ out of a token of the Kerberos mechanism.
func readMechanism(token []byte) (apReq []byte, reason string) {
	in := cryptobyte.String(token)
	var body cryptobyte.String
	var mechanism asn1.ObjectIdentifier
	var kind uint16
	if !in.ReadASN1(&body, tagGSS) || !in.Empty() || !body.ReadASN1ObjectIdentifier(&mechanism) || !isKerberos(mechanism) ||
		!body.ReadUint16(&kind) {
		return nil, reasonNoGSS
	}
	switch kind {
	case tokenAPReq:
		return body, ""
	case tokenAPRep:
		return nil, reasonAPRep
	case tokenKRBError:
		return nil, reasonKRBError
	}
	return nil, reasonTokenID
}
