package est

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/estuary-pki/estuary/gateway/internal/cms"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/csr"
)

// caCerts answers GET /cacerts (RFC 7030 section 4.1.3): the whole chain, issuing first. The
// client checks it by other means, so it needs no credential and may be kept by caches.
func (h *Handler) caCerts(ctx context.Context, c *call) (reply, error) {
	chain, err := h.facts.Chain(ctx)
	if err != nil {
		return reply{}, err
	}
	ders := make([][]byte, 0, len(chain))
	for _, certificate := range chain {
		ders = append(ders, certificate.Raw)
	}
	message, err := cms.CertsOnly(ders)
	if err != nil {
		return reply{}, err
	}
	return c.certsOnly("max-age=300", message), nil
}

// revocationLists answers GET /crls (RFC 8295 section 4) with the newest revocation list of the
// authority, and those of its former keys, under every label the same.
func (h *Handler) revocationLists(ctx context.Context, c *call) (reply, error) {
	lists, err := h.crls(ctx)
	if err != nil {
		return reply{}, err
	}
	message, err := cms.CRLsOnly(lists...)
	if err != nil {
		return reply{}, err
	}
	return c.certsOnly("max-age=30", message), nil
}

// certsOnly returns a CMS message that caches may keep.
func (c *call) certsOnly(keep string, message []byte) reply {
	a := c.encoded("application/pkcs7-mime; smime-type=certs-only", keep, message)
	if c.layout == LayoutAuto {
		a.header.Set("Vary", "User-Agent")
	}
	return a
}

// csrAttrs answers GET /csrattrs (RFC 7030 section 4.5.2): 204 when the label's profile has
// nothing to say.
func (h *Handler) csrAttrs(ctx context.Context, c *call) (reply, error) {
	profile, err := h.facts.Profile(ctx, c.label)
	if err != nil {
		return reply{}, err
	}
	der, err := csrAttributes(profile)
	if err != nil {
		return reply{}, err
	}
	if der == nil {
		return reply{status: http.StatusNoContent, header: http.Header{"Cache-Control": {"no-store"}}}, nil
	}
	return c.encoded("application/csrattrs", "no-store", der), nil
}

// Object identifiers of attributes.
const (
	oidChallengePassword = "1.2.840.113549.1.9.7" // RFC 2985 section 5.4.1
	oidRSAEncryption     = "1.2.840.113549.1.1.1" // RFC 8017 appendix C
	oidECPublicKey       = "1.2.840.10045.2.1"    // RFC 5480 section 2.1.1
	oidEd25519           = "1.3.101.112"          // RFC 8410 section 3
)

// curves are the named curves (RFC 5480 section 2.1.1.1).
var curves = map[csr.KeyType]string{
	csr.P256: "1.2.840.10045.3.1.7", csr.P384: "1.3.132.0.34", csr.P521: "1.3.132.0.35",
}

// csrAttributes returns the DER of CsrAttrs, a SEQUENCE OF AttrOrOID, or nil when it would be
// empty. A key type is named when there is no choice: there may be one only (RFC 9908).
func csrAttributes(p *signerv1.ProfileFacts) ([]byte, error) {
	listed := map[string]bool{}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(list *cryptobyte.Builder) {
		add := func(oid string) {
			if !listed[oid] {
				listed[oid] = true
				addOID(list, oid)
			}
		}
		if p.GetChallengePassword() == signerv1.ChallengePassword_CHALLENGE_PASSWORD_REQUIRE {
			add(oidChallengePassword)
		}
		if types := p.GetKeyTypes(); len(types) == 1 {
			switch kind := csr.KeyType(types[0]); {
			case kind == csr.RSA:
				listed[oidRSAEncryption] = true
				addAttribute(list, oidRSAEncryption, func(value *cryptobyte.Builder) {
					value.AddASN1Uint64(uint64(p.GetRsaMinBits()))
				})
			case curves[kind] != "":
				listed[oidECPublicKey] = true
				addAttribute(list, oidECPublicKey, func(value *cryptobyte.Builder) { addOID(value, curves[kind]) })
			case kind == csr.Ed25519:
				add(oidEd25519) // has no parameters that a value could hold
			}
		}
		for _, oid := range p.GetCsrAttributes() {
			add(oid)
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("building CSR attributes: %w", err)
	}
	if len(listed) == 0 {
		return nil, nil
	}
	return der, nil
}

// addAttribute adds an Attribute with one value (RFC 5652 section 5.3).
func addAttribute(b *cryptobyte.Builder, oid string, value cryptobyte.BuilderContinuation) {
	b.AddASN1(asn1.SEQUENCE, func(attribute *cryptobyte.Builder) {
		addOID(attribute, oid)
		attribute.AddASN1(asn1.SET, value)
	})
}

func addOID(b *cryptobyte.Builder, dotted string) {
	oid, err := x509.ParseOID(dotted)
	if err != nil {
		b.SetError(fmt.Errorf("%q is not an object identifier", dotted))
		return
	}
	octets, err := oid.MarshalBinary()
	if err != nil {
		b.SetError(err)
		return
	}
	b.AddASN1(asn1.OBJECT_IDENTIFIER, func(content *cryptobyte.Builder) { content.AddBytes(octets) })
}
