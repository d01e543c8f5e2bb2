package profile

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// Words of kerberos_names, each for a form of a user's Kerberos principal as an alternative
// name (otherName, RFC 5280 section 4.2.1.6).
const (
	// krb5Name is id-pkinit-san (RFC 4556 section 3.2.2).
	krb5Name = "krb5"
	// upnName is the user principal name of Windows ([MS-WCCE] section 2.2.2.7.7.4).
	upnName = "upn"
)

var kerberosNames = map[string]string{krb5Name: "1.3.6.1.5.2.2", upnName: "1.3.6.1.4.1.311.20.2.3"}

// Tags that cryptobyte has no names for: a string, and two choices of GeneralName (RFC 5280
// section 4.2.1.6).
const (
	tagGeneralString = casn1.Tag(27)
	otherName        = 0
	rfc822Name       = 1
)

func explicit(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }

// compileKerberosNames: they are names of users, and a certificate without alternative names
// has no room for them.
func (r *rule) compileKerberosNames(add add) {
	checkWords("kerberos_names", r.KerberosNames, add)
	for _, word := range r.KerberosNames {
		if _, known := kerberosNames[word]; !known {
			add("kerberos_names", "%q is not known: %s", word, words(kerberosNames))
		}
	}
	if len(r.KerberosNames) == 0 {
		return
	}
	if !slices.Equal(r.IdentityKinds, []string{"user"}) {
		add("kerberos_names", "are for users: identity_kinds has to be [\"user\"]")
	}
	if r.SAN == sanNone {
		add("kerberos_names", "are alternative names: san is none")
	}
}

// kerberosNamesOf returns a user's principal in the forms that the profile asks for, as
// csr.ParseName reads them.
func (r *rule) kerberosNamesOf(id *assertionv1.Identity) ([]string, error) {
	if len(r.KerberosNames) == 0 || id.GetKind() != assertionv1.IdentityKind_IDENTITY_KIND_USER {
		return nil, nil
	}
	principal, realm := id.GetPrincipal(), id.GetRealm()
	components := strings.Split(principal, "/")
	// Text with an '@' of its own, or escaped, is read in different ways (RFC 1964 section
	// 2.1.1), and KDCs compare octets of ASCII.
	if strings.ContainsAny(principal+realm, `@\`) || slices.Contains(components, "") ||
		strings.ContainsFunc(principal+realm, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return nil, forbid("the principal cannot stand in a certificate as a Kerberos name: it is not plain ASCII, has an @ or a backslash, or an empty component")
	}
	var names []string
	for _, word := range r.KerberosNames {
		var b cryptobyte.Builder
		if word == upnName {
			b.AddASN1(casn1.UTF8String, text(principal+"@"+realm))
		} else {
			addKRB5PrincipalName(&b, components, realm)
		}
		der, err := b.Bytes()
		if err != nil {
			return nil, fault.New(fault.Internal, op, "", fmt.Errorf("encoding a Kerberos name: %w", err))
		}
		names = append(names, fmt.Sprintf("%s:%s:%s", csr.Other, kerberosNames[word], hex.EncodeToString(der)))
	}
	return names, nil
}

func text(s string) cryptobyte.BuilderContinuation {
	return func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) }
}

// addKRB5PrincipalName adds a KRB5PrincipalName (RFC 4556 section 3.2.2) of the name type
// NT-PRINCIPAL (RFC 4120 section 6.2).
func addKRB5PrincipalName(b *cryptobyte.Builder, components []string, realm string) {
	const ntPrincipal = 1
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1(tagGeneralString, text(realm)) })
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Int64(ntPrincipal) })
				b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
					b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
						for _, component := range components {
							b.AddASN1(tagGeneralString, text(component))
						}
					})
				})
			})
		})
	})
}

// setOtherNames writes the extension with all alternative names where crypto/x509 cannot,
// because there are other names among them. Only users have such, and mail addresses beside
// them; those come first, as crypto/x509 has them.
func setOtherNames(t *x509.Certificate, names []csr.Name) error {
	if !slices.ContainsFunc(names, func(n csr.Name) bool { return n.Type == csr.Other }) {
		return nil
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, address := range t.EmailAddresses {
			b.AddASN1(casn1.Tag(rfc822Name).ContextSpecific(), text(address))
		}
		for _, name := range names {
			switch name.Type {
			case csr.Email:
			case csr.Other:
				addOtherName(b, name.Value)
			default: // nothing may get lost
				b.SetError(fmt.Errorf("%s stands beside other names", name))
			}
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return fault.New(fault.Internal, op, "", fmt.Errorf("encoding alternative names: %w", err))
	}
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{
		Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: dn.IsEmpty(t.RawSubject), Value: der,
	})
	return nil
}

// addOtherName adds a name whose value is "OID:hexadecimal DER".
func addOtherName(b *cryptobyte.Builder, value string) {
	id, digits, _ := strings.Cut(value, ":")
	oid, err := parseOID(id)
	if err != nil {
		b.SetError(err)
		return
	}
	der, err := hex.DecodeString(digits)
	if err != nil {
		b.SetError(err)
		return
	}
	b.AddASN1(explicit(otherName), func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddBytes(der) })
	})
}

// foreignArcs are those that others give a meaning in certificates: X.500, the IETF's PKIX and
// Kerberos, RSA's PKCS, ANSI X9.62, Microsoft, Netscape, Certificate Transparency.
var foreignArcs = []string{
	"2.5", "1.3.6.1.5", "1.2.840.113549", "1.2.840.10045", "1.3.6.1.4.1.311", "2.16.840.1.113730", "1.3.6.1.4.1.11129.2.4",
}

// compileIndicatorExtension: an object identifier that nobody else gives a meaning.
func (r *rule) compileIndicatorExtension(add add) {
	if r.IndicatorExtension == "" {
		return
	}
	oid, err := parseOID(r.IndicatorExtension)
	if err != nil {
		add("indicator_extension", "%s", err)
		return
	}
	for _, arc := range foreignArcs {
		// Nor what such an arc is below of: 1.3 is not the operator's.
		if strings.HasPrefix(r.IndicatorExtension+".", arc+".") || strings.HasPrefix(arc+".", r.IndicatorExtension+".") {
			add("indicator_extension", "%s belongs to others: take one below your organisation's own number (1.3.6.1.4.1.…)", oid)
		}
	}
	r.indicatorExtension = oid
}

// setIndicators writes the authentication indicators, as RFC 8129 section 3 encodes them, into
// the extension that the profile names; nothing where there are none.
func (r *rule) setIndicators(t *x509.Certificate, indicators []string) error {
	found := slices.Compact(slices.Sorted(slices.Values(indicators)))
	if r.indicatorExtension == nil || len(found) == 0 {
		return nil
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, indicator := range found {
			b.AddASN1(casn1.UTF8String, text(indicator))
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return fault.New(fault.Internal, op, "", fmt.Errorf("encoding indicators: %w", err))
	}
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: r.indicatorExtension, Value: der})
	return nil
}
