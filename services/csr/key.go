package csr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	oidRSA     = "1.2.840.113549.1.1.1"
	oidEC      = "1.2.840.10045.2.1"
	oidEd25519 = "1.3.101.112"
)

// curves are the named curves that are accepted (RFC 5480 section 2.1.1.1).
var curves = map[string]struct {
	keyType KeyType
	curve   elliptic.Curve
}{
	"1.2.840.10045.3.1.7": {P256, elliptic.P256()},
	"1.3.132.0.34":        {P384, elliptic.P384()},
	"1.3.132.0.35":        {P521, elliptic.P521()},
}

// refusedKeys gives names to keys that somebody is likely to try.
var refusedKeys = map[string]string{
	"1.2.840.10040.4.1":     "DSA",
	"1.2.840.113549.1.1.10": "RSASSA-PSS (use rsaEncryption; the signature may be RSASSA-PSS)",
	"1.3.101.110":           "X25519 (it cannot sign)",
	"1.3.101.111":           "X448 (it cannot sign)",
	"1.3.101.113":           "Ed448",
	"1.3.132.0.33":          "P-224 (too short)",
	"1.2.840.10045.3.1.1":   "P-192 (too short)",
	"1.3.132.0.10":          "secp256k1",
}

const acceptedKeys = "RSA of 2048 to 8192 bits, P-256, P-384, P-521 and Ed25519 are accepted"

// checkKey refuses a SubjectPublicKeyInfo (RFC 5280 section 4.1) whose key is of another
// kind or size than is accepted, or weak. It costs well under a millisecond whatever the key.
func checkKey(spki cryptobyte.String) (KeyType, int, error) {
	const where = "subjectPublicKeyInfo (RFC 5280 section 4.1)"
	in, err := only(spki, cbasn1.SEQUENCE, "the SubjectPublicKeyInfo")
	if err != nil {
		return "", 0, within(where, err)
	}
	alg, err := child(&in, cbasn1.SEQUENCE, "the algorithm")
	if err != nil {
		return "", 0, within(where, err)
	}
	id, err := oid(&alg, "the algorithm")
	if err != nil {
		return "", 0, within(where, err)
	}
	bits, err := only(in, cbasn1.BIT_STRING, "the subjectPublicKey")
	if err != nil {
		return "", 0, within(where, err)
	}
	if bits[0] != 0 {
		return "", 0, refuse("the public key is not a whole number of octets (RFC 5280 section 4.1)")
	}
	key := bits[1:]
	switch id.String() {
	case oidRSA:
		n, err := checkRSA(alg, key)
		return RSA, n, err
	case oidEC:
		return checkEC(alg, key)
	case oidEd25519:
		if !alg.Empty() {
			return "", 0, refuse("the Ed25519 key has parameters (RFC 8410 section 3)")
		}
		return Ed25519, 256, checkEd25519(key)
	}
	return "", 0, refusedKey(id)
}

func refusedKey(id asn1.ObjectIdentifier) error {
	name, known := refusedKeys[id.String()]
	if !known {
		name = shortOID(id)
	}
	return refuse("key type %s: %s", name, acceptedKeys)
}

// checkEC refuses a curve that is not accepted and a point that is not on its curve.
// Compressed points, which RFC 5480 section 2.2 lets us leave out, are not accepted.
func checkEC(parameters, point cryptobyte.String) (KeyType, int, error) {
	if parameters.PeekASN1Tag(cbasn1.SEQUENCE) || parameters.PeekASN1Tag(cbasn1.NULL) || parameters.Empty() {
		return "", 0, refuse("the EC key does not name its curve: only named curves are accepted (RFC 5480 section 2.1.1)")
	}
	id, err := oid(&parameters, "the curve")
	if err != nil {
		return "", 0, within("EC key (RFC 5480 section 2.1.1)", err)
	}
	if err := end(parameters, "the curve"); err != nil {
		return "", 0, within("EC key (RFC 5480 section 2.1.1)", err)
	}
	c, ok := curves[id.String()]
	if !ok {
		return "", 0, refusedKey(id)
	}
	if len(point) > 0 && (point[0] == 2 || point[0] == 3) {
		return "", 0, refuse("the EC point is compressed: only uncompressed points are accepted (RFC 5480 section 2.2)")
	}
	if _, err := ecdsa.ParseUncompressedPublicKey(c.curve, point); err != nil {
		return "", 0, &refusal{
			public: "the EC point is not on curve " + c.curve.Params().Name + " (RFC 5480 section 2.2)",
			cause:  err,
		}
	}
	return c.keyType, c.curve.Params().BitSize, nil
}
