package kerberostest

import (
	"encoding/asn1"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/types"
)

// CAMMAC says how an AD-CAMMAC (RFC 7751 section 3) is made.
type CAMMAC struct {
	// Indicators are those in it.
	Indicators []string
	// Key signs it.
	Key types.EncryptionKey
	// Usage is the key usage; 0 for 64, which is right.
	Usage uint32
	// Kind is the type of the checksum; 0 for that of the key.
	Kind int32
	// EditMAC changes the checksum.
	EditMAC Edit
	// Signed are the indicators that the checksum is made over; nil for those in it.
	Signed []string
	// NoService leaves the svc-verifier out, as for a service that the KDC does not know.
	NoService bool
}

// Element returns an AuthorizationData element of the type.
func Element(kind int, data []byte) []byte {
	return TLV(0x30, append(TLV(0xa0, must(asn1.Marshal(kind))), TLV(0xa1, TLV(4, data))...))
}

// List returns an AuthorizationData of elements.
func List(elements ...[]byte) []byte {
	var all []byte
	for _, e := range elements {
		all = append(all, e...)
	}
	return TLV(0x30, all)
}

// Indicators returns the content of an AD-AUTHENTICATION-INDICATOR (RFC 8129 section 4).
func Indicators(words ...string) []byte {
	var all []byte
	for _, w := range words {
		all = append(all, TLV(0x0c, []byte(w))...)
	}
	return TLV(0x30, all)
}

// DER returns the AD-CAMMAC.
func (c CAMMAC) DER() []byte {
	elements := List(Element(97, Indicators(c.Indicators...)))
	signed := elements
	if c.Signed != nil {
		signed = List(Element(97, Indicators(c.Signed...)))
	}
	usage := c.Usage
	if usage == 0 {
		usage = 64
	}
	et := must(crypto.GetEtype(c.Key.KeyType))
	mac := c.EditMAC.apply(must(et.GetChecksumHash(c.Key.KeyValue, signed, usage)))
	kind := c.Kind
	if kind == 0 {
		kind = et.GetHashID()
	}
	sum := TLV(0x30, append(TLV(0xa0, must(asn1.Marshal(int(kind)))), TLV(0xa1, TLV(4, mac))...))
	// The KDC's own verifier, which no service can check.
	kdc := TLV(0x30, TLV(0xa3, TLV(0x30, append(TLV(0xa0, must(asn1.Marshal(16))), TLV(0xa1, TLV(4, make([]byte, 12)))...))))
	body := append(TLV(0xa0, elements), TLV(0xa1, kdc)...)
	if !c.NoService {
		body = append(body, TLV(0xa2, TLV(0x30, TLV(0xa3, sum)))...)
	}
	return TLV(0x30, body)
}

// IfRelevant returns the authorization data of a ticket with these elements in an
// AD-IF-RELEVANT.
func IfRelevant(elements ...[]byte) types.AuthorizationData {
	return types.AuthorizationData{{ADType: 1, ADData: List(elements...)}}
}

// WithIndicators returns the authorization data of a ticket that has the indicators.
func WithIndicators(key types.EncryptionKey, words ...string) types.AuthorizationData {
	return IfRelevant(Element(96, CAMMAC{Indicators: words, Key: key}.DER()))
}
