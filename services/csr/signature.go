package csr

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
)

// family is what a signature algorithm needs the key to be.
type family string

const (
	familyRSA     family = "RSA"
	familyEC      family = "EC"
	familyEd25519 family = "Ed25519"
)

// algorithm is a signature algorithm. One with a fault is known by name and refused.
type algorithm struct {
	family family
	fault  string
}

const (
	broken = " is broken: SHA-256, SHA-384 or SHA-512 are accepted (RFC 8017, RFC 5758)"
	short  = " is too short: SHA-256, SHA-384 or SHA-512 are accepted (RFC 8017, RFC 5758)"
)

const oidPSS = "1.2.840.113549.1.1.10"

// algorithms lists the signature algorithms that are accepted, and those that old tools still
// use and whose users deserve a clear answer.
var algorithms = map[string]algorithm{
	"1.2.840.113549.1.1.11": {family: familyRSA},     // sha256WithRSAEncryption, RFC 8017
	"1.2.840.113549.1.1.12": {family: familyRSA},     // sha384WithRSAEncryption
	"1.2.840.113549.1.1.13": {family: familyRSA},     // sha512WithRSAEncryption
	oidPSS:                  {family: familyRSA},     // id-RSASSA-PSS, RFC 4055
	"1.2.840.10045.4.3.2":   {family: familyEC},      // ecdsa-with-SHA256, RFC 5758
	"1.2.840.10045.4.3.3":   {family: familyEC},      // ecdsa-with-SHA384
	"1.2.840.10045.4.3.4":   {family: familyEC},      // ecdsa-with-SHA512
	"1.3.101.112":           {family: familyEd25519}, // id-Ed25519, RFC 8410

	"1.2.840.113549.1.1.2":  {fault: "MD2" + broken},
	"1.2.840.113549.1.1.3":  {fault: "MD4" + broken},
	"1.2.840.113549.1.1.4":  {fault: "MD5" + broken},
	"1.2.840.113549.1.1.5":  {fault: "SHA-1" + broken},
	"1.3.14.3.2.3":          {fault: "MD5" + broken},
	"1.3.14.3.2.29":         {fault: "SHA-1" + broken},
	"1.2.840.10045.4.1":     {fault: "SHA-1" + broken},
	"1.2.840.113549.1.1.14": {fault: "SHA-224" + short},
	"1.2.840.10045.4.3.1":   {fault: "SHA-224" + short},
}

// checkAlgorithm refuses a signature algorithm that is weak, unknown or not that of the key.
func checkAlgorithm(in cryptobyte.String, key KeyType) error {
	id, err := oid(&in, "the algorithm")
	if err != nil {
		return within("signatureAlgorithm", err)
	}
	a, known := algorithms[id.String()]
	if !known {
		return refuse("the signature algorithm %s is not accepted", shortOID(id))
	}
	if a.fault != "" {
		return refuse("signature algorithm: %s", a.fault)
	}
	want := familyEC
	switch key {
	case RSA:
		want = familyRSA
	case Ed25519:
		want = familyEd25519
	}
	if a.family != want {
		return refuse("the signature algorithm is one for %s keys, the key is %s (RFC 2986 section 4.2)", a.family, want)
	}
	if id.String() == oidPSS {
		return nil // crypto/x509 reads the parameters
	}
	return checkParameters(in, a.family)
}

// checkParameters demands NULL or nothing with RSA (RFC 4055 section 5) and nothing with
// ECDSA (RFC 5758 section 3.2) and Ed25519 (RFC 8410 section 3).
func checkParameters(in cryptobyte.String, f family) error {
	if in.Empty() || f == familyRSA && string(in) == string(asn1.NullBytes) {
		return nil
	}
	return refuse("the signature algorithm has parameters that it must not have (RFC 4055, RFC 5758, RFC 8410)")
}

// shortOID shows an object identifier, cut where somebody sends a very long one.
func shortOID(id asn1.ObjectIdentifier) string {
	const most = 80
	if s := id.String(); len(s) <= most {
		return s
	}
	return id.String()[:most] + "…"
}
