package kerberos

import (
	"crypto/hmac"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The types of authorization data (RFC 4120 section 7.5.4, RFC 7751, RFC 8129).
const (
	adIfRelevant      = 1
	adCAMMAC          = 96
	adIndicator       = 97
	usageCAMMAC       = 64 // RFC 7751 section 6
	maxElements       = 64
	maxIndicators     = 16
	maxIndicatorSize  = 64
	maxAuthDataOctets = MaxToken
)

// ours are the indicators that only a validator gives: no KDC can make one of them.
var ours = []string{"token", "x509"}

// indicators returns the authentication indicators of a ticket (RFC 8129): those within an
// AD-CAMMAC whose svc-verifier (RFC 7751 section 3.2) was made under the key that opened the
// ticket. What claims to be one and is not refuses the ticket: no KDC writes that.
func indicators(data types.AuthorizationData, key types.EncryptionKey) (found []string, reason string) {
	for _, e := range data {
		if e.ADType != adIfRelevant {
			if e.ADType == adIndicator {
				return nil, reasonBare
			}
			return nil, reasonCritical
		}
		inner, ok := readAuthData(e.ADData)
		if !ok {
			return nil, reasonAuthData
		}
		for _, e := range inner {
			var more []string
			switch e.kind {
			case adIndicator:
				return nil, reasonBare
			case adCAMMAC:
				more, reason = readCAMMAC(e.data, key)
			}
			if reason != "" {
				return nil, reason
			}
			found = append(found, more...)
		}
	}
	if len(found) > maxIndicators {
		return nil, reasonIndicator
	}
	found = slices.DeleteFunc(found, func(s string) bool { return slices.Contains(ours, s) })
	slices.Sort(found)
	return slices.Compact(found), ""
}

// element is an AuthorizationData element (RFC 4120 section 5.2.6).
type element struct {
	kind int64
	data []byte
}

// readAuthData reads a SEQUENCE OF elements, which should not be empty.
func readAuthData(der []byte) (out []element, ok bool) {
	in := cryptobyte.String(der)
	var list cryptobyte.String
	if len(der) > maxAuthDataOctets || !in.ReadASN1(&list, casn1.SEQUENCE) || !in.Empty() || list.Empty() {
		return nil, false
	}
	for !list.Empty() {
		var seq, kind, explicit, data cryptobyte.String
		var e element
		if len(out) == maxElements || !list.ReadASN1(&seq, casn1.SEQUENCE) ||
			!seq.ReadASN1(&kind, field(0)) || !kind.ReadASN1Integer(&e.kind) || !kind.Empty() ||
			!seq.ReadASN1(&explicit, field(1)) || !explicit.ReadASN1(&data, casn1.OCTET_STRING) || !explicit.Empty() || !seq.Empty() {
			return nil, false
		}
		e.data = data
		out = append(out, e)
	}
	return out, true
}

// readCAMMAC reads an AD-CAMMAC and returns the indicators in it. One without svc-verifier is
// for the KDC, and says nothing here.
func readCAMMAC(der []byte, key types.EncryptionKey) ([]string, string) {
	in := cryptobyte.String(der)
	var seq, elements, svc cryptobyte.String
	var signed bool
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&elements, field(0)) ||
		!seq.SkipOptionalASN1(field(1)) || !seq.ReadOptionalASN1(&svc, &signed, field(2)) ||
		!seq.SkipOptionalASN1(field(3)) || !seq.Empty() {
		return nil, reasonCAMMAC
	}
	if !signed {
		return nil, ""
	}
	kind, mac, ok := readVerifier(svc)
	if !ok {
		return nil, reasonCAMMAC
	}
	// Over the elements exactly as they came.
	if !verifies(elements, key, kind, mac) {
		return nil, reasonForged
	}
	inner, ok := readAuthData(elements)
	if !ok {
		return nil, reasonCAMMAC
	}
	var found []string
	for _, e := range inner {
		if e.kind != adIndicator {
			continue
		}
		list, ok := readIndicators(e.data)
		if !ok {
			return nil, reasonIndicator
		}
		found = append(found, list...)
	}
	return found, ""
}

// readVerifier reads a Verifier-MAC: the checksum alone counts, for the key is known.
func readVerifier(in cryptobyte.String) (kind int64, mac []byte, ok bool) {
	var seq, explicit, sum, kindField, macField, octets cryptobyte.String
	ok = in.ReadASN1(&seq, casn1.SEQUENCE) && in.Empty() &&
		seq.SkipOptionalASN1(field(0)) && seq.SkipOptionalASN1(field(1)) && seq.SkipOptionalASN1(field(2)) &&
		seq.ReadASN1(&explicit, field(3)) && seq.Empty() &&
		explicit.ReadASN1(&sum, casn1.SEQUENCE) && explicit.Empty() &&
		sum.ReadASN1(&kindField, field(0)) && kindField.ReadASN1Integer(&kind) && kindField.Empty() &&
		sum.ReadASN1(&macField, field(1)) && macField.ReadASN1(&octets, casn1.OCTET_STRING) && macField.Empty() && sum.Empty()
	return kind, octets, ok
}

// verifies tells whether mac is the keyed checksum over content that belongs to the key's own
// algorithm.
func verifies(content []byte, key types.EncryptionKey, kind int64, mac []byte) bool {
	var want []byte
	err := safely(func() error {
		et, err := crypto.GetEtype(key.KeyType)
		if err != nil || int64(et.GetHashID()) != kind {
			return err
		}
		want, err = et.GetChecksumHash(key.KeyValue, content, usageCAMMAC)
		return err
	})
	return err == nil && len(want) > 0 && hmac.Equal(want, mac)
}

// readIndicators reads AD-AUTHENTICATION-INDICATOR, a SEQUENCE OF UTF8String (RFC 8129
// section 4).
func readIndicators(der []byte) (out []string, ok bool) {
	in := cryptobyte.String(der)
	var list cryptobyte.String
	if !in.ReadASN1(&list, casn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	for !list.Empty() {
		var text cryptobyte.String
		if len(out) == maxIndicators || !list.ReadASN1(&text, casn1.UTF8String) || !fit(string(text)) {
			return nil, false
		}
		out = append(out, string(text))
	}
	return out, true
}

// fit tells whether an indicator can stand in a record: visible characters without the comma,
// by which lists are parted.
func fit(s string) bool {
	return s != "" && len(s) <= maxIndicatorSize && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ',' })
}
