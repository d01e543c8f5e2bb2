package profile

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/csr"
)

// Words of the configuration.
const (
	refuse       = "refuse"
	drop         = "drop"
	match        = "match"
	ignore       = "ignore"
	sanIdentity  = "identity"
	sanRequested = "requested"
	sanNone      = "none"
	template     = "template"
)

var kinds = map[string]assertionv1.IdentityKind{
	"user":    assertionv1.IdentityKind_IDENTITY_KIND_USER,
	"host":    assertionv1.IdentityKind_IDENTITY_KIND_HOST,
	"service": assertionv1.IdentityKind_IDENTITY_KIND_SERVICE,
	"device":  assertionv1.IdentityKind_IDENTITY_KIND_DEVICE,
}

// indicators are the authentication indicators of Kerberos as FreeIPA names them, and ours:
// token and x509.
var indicators = []string{"hardened", "idp", "otp", "passkey", pkinit, "radius", "token", x509Indicator}

// noIndicator stands in max_validity for a proof without any.
const noIndicator = "none"

var keyTypes = map[string]csr.KeyType{
	"rsa": csr.RSA, "p256": csr.P256, "p384": csr.P384, "p521": csr.P521, "ed25519": csr.Ed25519,
}

var challengePasswords = map[string]signerv1.ChallengePassword{
	"verify":  signerv1.ChallengePassword_CHALLENGE_PASSWORD_VERIFY,
	"require": signerv1.ChallengePassword_CHALLENGE_PASSWORD_REQUIRE,
	ignore:    signerv1.ChallengePassword_CHALLENGE_PASSWORD_IGNORE,
}

// keyUsages leaves out keyCertSign and cRLSign, which make an authority, and encipherOnly and
// decipherOnly, which nobody uses.
var keyUsages = map[string]x509.KeyUsage{
	"digitalSignature":  x509.KeyUsageDigitalSignature,
	"contentCommitment": x509.KeyUsageContentCommitment,
	"keyEncipherment":   x509.KeyUsageKeyEncipherment,
	"dataEncipherment":  x509.KeyUsageDataEncipherment,
	"keyAgreement":      x509.KeyUsageKeyAgreement,
}

// suits tells which key usages a type of key can have: RFC 3279 section 2.3.1 for RSA, RFC
// 5480 section 3 for ECDSA, RFC 8410 section 5 for Ed25519.
func suits(t csr.KeyType) x509.KeyUsage {
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	switch t {
	case csr.RSA:
		return signs | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	case csr.Ed25519:
		return signs
	}
	return signs | x509.KeyUsageKeyAgreement
}

// extKeyUsages leaves out OCSPSigning and anyExtendedKeyUsage: a holder of either could speak
// for the authority.
var extKeyUsages = map[string]asn1.ObjectIdentifier{
	"serverAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	"clientAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	"codeSigning":     {1, 3, 6, 1, 5, 5, 7, 3, 3},
	"emailProtection": {1, 3, 6, 1, 5, 5, 7, 3, 4},
	"pkinitClient":    {1, 3, 6, 1, 5, 2, 3, 4},          // id-pkinit-KPClientAuth, RFC 4556 section 3.2.2
	"smartcardLogon":  {1, 3, 6, 1, 4, 1, 311, 20, 2, 2}, // [MS-PKCA] section 3.1.5.2.1.1
}

// consistent tells which key usages go with an extended one (RFC 5280 section 4.2.1.12).
// With one that is not here, every key usage goes.
var consistent = map[string]x509.KeyUsage{
	"1.3.6.1.5.5.7.3.1": x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
	"1.3.6.1.5.5.7.3.2": x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
	"1.3.6.1.5.5.7.3.3": x509.KeyUsageDigitalSignature,
	"1.3.6.1.5.5.7.3.4": x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
}

// forbiddenExtKeyUsages cannot be had as an object identifier either.
var forbiddenExtKeyUsages = map[string]string{
	"2.5.29.37.0":        "anyExtendedKeyUsage",
	"1.3.6.1.5.5.7.3.9":  "OCSPSigning",
	"1.3.6.1.5.5.7.3.27": "cmcCA",
	// RFC 7030 section 3.7: whoever has it may ask for others' certificates.
	"1.3.6.1.5.5.7.3.28": "cmcRA",
}

// unfitAttribute says why an object identifier cannot stand alone in CsrAttrs (RFC 7030
// section 4.5.2, RFC 9908): it needs a value, or is listed because of another key. It
// returns "" for all others.
func unfitAttribute(oid string) string {
	switch oid {
	case "1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112":
		return "is a type of key: that follows from key_types"
	case "1.2.840.113549.1.9.14", "1.2.840.113549.1.9.16.2.61", "1.2.840.113549.1.9.16.2.62":
		return "needs a value, and none can be given here (RFC 9908)"
	}
	if strings.HasPrefix(oid, "2.5.29.") {
		return "is an extension: those need an extension request with a value (RFC 9908)"
	}
	return ""
}

// words returns the keys of a table for a message.
func words[V any](table map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}

// parseOID reads a dotted object identifier. Arcs end at 2^31-1: crypto/x509 of many clients
// cannot read a certificate with a larger one.
func parseOID(text string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for _, arc := range strings.Split(text, ".") {
		n, err := strconv.ParseUint(arc, 10, 64)
		if err != nil || n > math.MaxInt32 || arc != strconv.FormatUint(n, 10) {
			return nil, fmt.Errorf("%q is not an object identifier of arcs up to %d", text, math.MaxInt32)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, fmt.Errorf("%q is not an object identifier", text)
	}
	return oid, nil
}
