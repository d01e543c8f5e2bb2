// Package clientcert turns what a client presented in TLS into whose certificate it is, or into
// the reason why it counts as absent.
//
// authn asks it. Certificates of our own authority say themselves whose they are (subjectid);
// those of another one, a manufacturer's, prove a device by a name of their subject. Whether a
// certificate of ours is still good for anything the signer knows, by its ledger.
package clientcert

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/certpath"
	"github.com/estuary-pki/estuary/services/reload"
	"github.com/estuary-pki/estuary/services/subjectid"
)

// Own is the name of our own authority among those that a label accepts.
const Own = "authority"

// Attribute names an attribute of a subject.
type Attribute string

// The attributes by which a device can be known (RFC 5280 appendix A.1).
const (
	SerialNumber Attribute = "serialNumber"
	CommonName   Attribute = "commonName"
)

// Attributes is every Attribute.
var Attributes = []Attribute{SerialNumber, CommonName}

var oids = map[Attribute]asn1.ObjectIdentifier{SerialNumber: {2, 5, 4, 5}, CommonName: {2, 5, 4, 3}}

// Manufacturer is another authority whose certificates prove devices.
type Manufacturer struct {
	// Name is how labels call it.
	Name string
	// Anchors is the PEM file with its certificates. Read again when it changes.
	Anchors string
	// Realm is that of its devices.
	Realm string
	// Principal is the attribute that has a device's name.
	Principal Attribute
}

// Config is what a Verifier needs.
type Config struct {
	// Authority is the PEM file with the certificates of our own authority: the one in use, the
	// one before, the one to come. Empty where its certificates prove nothing. Read again when
	// it changes.
	Authority string
	// Manufacturers are the others.
	Manufacturers []Manufacturer
	// Log gets a line for each change of a file.
	Log *slog.Logger
	// Metrics counts files that could not be read.
	Metrics *metrics.Set
}

// Verifier judges certificates. It is safe for concurrent use.
type Verifier struct {
	sources map[string]source
	files   []*reload.Files[*certpath.Anchors]
}

type source struct {
	Manufacturer
	files *reload.Files[*certpath.Anchors]
}

// New reads the files.
func New(c Config) (*Verifier, error) {
	if c.Log == nil || c.Metrics == nil {
		return nil, errors.New("a verifier of certificates needs a log and metrics")
	}
	v := &Verifier{sources: map[string]source{}}
	failed := c.Metrics.GetOrCreateCounter("estuary_validator_trust_anchor_reload_errors_total")
	add := func(m Manufacturer) error {
		files, err := certpath.Watch(m.Anchors, c.Log, failed)
		if err != nil {
			return err
		}
		v.sources[m.Name], v.files = source{Manufacturer: m, files: files}, append(v.files, files)
		return nil
	}
	if c.Authority != "" {
		if err := add(Manufacturer{Name: Own, Anchors: c.Authority}); err != nil {
			return nil, err
		}
	}
	for _, m := range c.Manufacturers {
		if m.Name == Own || m.Realm == "" || oids[m.Principal] == nil {
			return nil, fmt.Errorf("manufacturer %q needs a name of its own, a realm and an attribute", m.Name)
		}
		if err := add(m); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Has tells whether there are anchors of that name.
func (v *Verifier) Has(name string) bool {
	_, ok := v.sources[name]
	return ok
}

// Check tells, for readiness, that a file cannot be used.
func (v *Verifier) Check() error {
	for _, f := range v.files {
		f.Current()
		if err := f.Bad(); err != nil {
			return fmt.Errorf("the old trust anchors are in use: %w", err)
		}
	}
	return nil
}

// Rule is what a label accepts.
type Rule struct {
	// Authorities are the names of those whose certificates count, Own among them.
	Authorities []string
	// Grace is for how long after its end a certificate of our own counts still.
	Grace time.Duration
}

// Holder is who holds a certificate.
type Holder struct {
	// Identity is who it is.
	Identity *assertionv1.Identity
	// Presented names the certificate.
	Presented *assertionv1.PresentedCertificate
	// NotAfter is its end.
	NotAfter time.Time
	// Authority is the name of the one that issued it.
	Authority string
}

// ErrNobody is why a certificate of a manufacturer proves nobody.
var ErrNobody = errors.New("the presented certificate has no name of a device where its manufacturer has it")

// Judge says whose the presented certificates are, DER, leaf first, at a time. Errors are those
// of certpath, subjectid.ErrNone and others of subjectid, and ErrNobody: why they count as
// absent, fit for an audit.
func (v *Verifier) Judge(ders [][]byte, rule Rule, at time.Time) (Holder, error) {
	presented, err := certpath.Parse(ders)
	if err != nil {
		return Holder{}, err
	}
	worst := certpath.ErrUntrusted
	for _, name := range rule.Authorities {
		source, ok := v.sources[name]
		if !ok {
			continue
		}
		grace := time.Duration(0)
		if name == Own {
			grace = rule.Grace
		}
		path, err := certpath.Verify(presented, source.files.Current(), at, grace)
		if err == nil {
			return source.holder(path)
		}
		if !errors.Is(err, certpath.ErrUntrusted) {
			worst = err // of all reasons the one of the authority that it comes from
		}
	}
	return Holder{}, worst
}

// Stranger tells whether an error of Judge is about what anybody could have made.
func Stranger(err error) bool {
	for _, ours := range []error{certpath.ErrExpired, certpath.ErrEarly, certpath.ErrUsage, subjectid.ErrNone, ErrNobody} {
		if errors.Is(err, ours) {
			return false
		}
	}
	return true
}

func (s source) holder(p certpath.Path) (Holder, error) {
	sum, anchor := sha256.Sum256(p.Leaf.Raw), p.AnchorSHA256()
	h := Holder{
		NotAfter: p.Leaf.NotAfter, Authority: s.Name,
		Presented: &assertionv1.PresentedCertificate{
			Sha256: sum[:], Issuer: p.Leaf.RawIssuer, Serial: serialOctets(p.Leaf), AnchorSha256: anchor[:],
		},
	}
	if s.Name == Own {
		id, err := subjectid.Read(p.Leaf)
		if err != nil {
			return Holder{}, err
		}
		h.Identity = &assertionv1.Identity{Kind: id.Kind, Principal: id.Principal, Realm: id.Realm}
		return h, nil
	}
	name, err := s.device(p.Leaf)
	if err != nil {
		return Holder{}, err
	}
	h.Identity = &assertionv1.Identity{Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Principal: name, Realm: s.Realm}
	return h, nil
}

// serialOctets returns the content octets of a serial number, at least one.
func serialOctets(c *x509.Certificate) []byte {
	if octets := c.SerialNumber.Bytes(); len(octets) > 0 {
		return octets
	}
	return []byte{0}
}

// maxName bounds the name of a device, in octets.
const maxName = 255

// device returns the name of a device: the attribute, which has to be there once.
func (s source) device(leaf *x509.Certificate) (string, error) {
	var found []string
	for _, e := range leaf.Subject.Names {
		if e.Type.Equal(oids[s.Principal]) {
			text, _ := e.Value.(string)
			found = append(found, text)
		}
	}
	if len(found) != 1 || !fit(found[0]) {
		return "", ErrNobody
	}
	return found[0], nil
}

// fit tells whether a text can be somebody's name.
func fit(text string) bool {
	return text != "" && len(text) <= maxName && utf8.ValidString(text) && strings.TrimSpace(text) == text &&
		!slices.ContainsFunc([]rune(text), func(r rune) bool { return r < ' ' || r == 0x7f })
}
