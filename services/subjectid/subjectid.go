// Package subjectid turns an identity into an extension of its certificates, and back.
//
// The signer writes it, and the validator reads whose certificate it is from there instead of
// guessing from a subject. It is subjectDirectoryAttributes (RFC 5280 section 4.2.1.8) with two
// attributes of one value each: krbCanonicalName (of MIT's and FreeIPA's Kerberos schema), the
// principal with its realm, and userClass (RFC 4524 section 2.25), the kind.
package subjectid

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
)

// OID is the identifier of the extension, id-ce-subjectDirectoryAttributes.
var OID = asn1.ObjectIdentifier{2, 5, 29, 9}

var (
	krbCanonicalName = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 4, 1, 6, 1}
	userClass        = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 8}
)

// maxName bounds principal and realm together, in octets.
const maxName = 1024

var kinds = map[assertionv1.IdentityKind]string{
	assertionv1.IdentityKind_IDENTITY_KIND_USER:    "user",
	assertionv1.IdentityKind_IDENTITY_KIND_HOST:    "host",
	assertionv1.IdentityKind_IDENTITY_KIND_SERVICE: "service",
	assertionv1.IdentityKind_IDENTITY_KIND_DEVICE:  "device",
}

// ID is the part of an identity that stands in a certificate.
type ID struct {
	// Kind is the sort of principal.
	Kind assertionv1.IdentityKind
	// Principal is the canonical name within the realm.
	Principal string
	// Realm is without an @.
	Realm string
}

// Of returns that part of an identity.
func Of(id *assertionv1.Identity) ID {
	return ID{Kind: id.GetKind(), Principal: id.GetPrincipal(), Realm: id.GetRealm()}
}

// String returns the principal with its realm.
func (id ID) String() string { return id.Principal + "@" + id.Realm }

// check returns what is wrong with an ID.
func (id ID) check() error {
	switch name := id.String(); {
	case kinds[id.Kind] == "":
		return fmt.Errorf("identity kind %d is unknown", id.Kind)
	case id.Principal == "", id.Realm == "":
		return errors.New("principal or realm is empty")
	case strings.Contains(id.Realm, "@"):
		return errors.New("the realm has an @")
	case len(name) > maxName:
		return fmt.Errorf("principal and realm are longer than %d octets", maxName)
	case !utf8.ValidString(name):
		return errors.New("principal or realm is not UTF-8")
	}
	return nil
}

// Extension returns the extension for an ID. It is not critical (RFC 5280 section 4.2.1.8).
func Extension(id ID) (pkix.Extension, error) {
	if err := id.check(); err != nil {
		return pkix.Extension{}, fmt.Errorf("an identity that cannot stand in a certificate: %w", err)
	}
	der, err := encode(id)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encoding an identity: %w", err)
	}
	return pkix.Extension{Id: OID, Value: der}, nil
}

func encode(id ID) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addAttribute(b, krbCanonicalName, id.String())
		addAttribute(b, userClass, kinds[id.Kind])
	})
	return b.Bytes()
}

// addAttribute adds an Attribute (RFC 5280 appendix A.1) with one UTF8String.
func addAttribute(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value string) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
		})
	})
}

// ErrNone says that a certificate has no such extension.
var ErrNone = errors.New("the certificate does not say whose it is (no subjectDirectoryAttributes)")

// Read returns the ID that stands in a certificate. An extension of another form than that of
// Extension is an error: who else writes attributes there means something else.
func Read(c *x509.Certificate) (ID, error) {
	i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(OID) })
	if i < 0 {
		return ID{}, ErrNone
	}
	id, err := decode(c.Extensions[i].Value)
	if err != nil {
		return ID{}, fmt.Errorf("reading subjectDirectoryAttributes: %w", err)
	}
	return id, nil
}

func decode(der []byte) (ID, error) {
	var in cryptobyte.String
	rest := cryptobyte.String(der)
	if !rest.ReadASN1(&in, casn1.SEQUENCE) || !rest.Empty() {
		return ID{}, errors.New("it is no sequence")
	}
	name, ok1 := readAttribute(&in, krbCanonicalName)
	word, ok2 := readAttribute(&in, userClass)
	if !ok1 || !ok2 || !in.Empty() {
		return ID{}, errors.New("it does not hold krbCanonicalName and userClass alone")
	}
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		return ID{}, errors.New("the name has no realm")
	}
	id := ID{Principal: name[:at], Realm: name[at+1:]}
	for kind, known := range kinds {
		if known == word {
			id.Kind = kind
		}
	}
	return id, id.check()
}

func readAttribute(in *cryptobyte.String, want asn1.ObjectIdentifier) (string, bool) {
	var attribute, set, value cryptobyte.String
	var oid asn1.ObjectIdentifier
	ok := in.ReadASN1(&attribute, casn1.SEQUENCE) && attribute.ReadASN1ObjectIdentifier(&oid) && oid.Equal(want) &&
		attribute.ReadASN1(&set, casn1.SET) && attribute.Empty() && set.ReadASN1(&value, casn1.UTF8String) && set.Empty()
	return string(value), ok
}
