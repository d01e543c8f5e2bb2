package issue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// Prepared is a certificate that may be issued: believed, allowed, built and linted. Only
// Prepare makes one; Issue refuses the zero value.
type Prepared struct {
	intent ledger.Intent
}

// Prepare checks everything that can be checked before something is recorded, in this
// order: the peer; the assertion, which must be for this peer and this request; the request
// itself; what the profile says; the certificate, by lint. Nothing is used up by a refusal,
// and every refusal is audited.
//
// Errors: Malformed (the request), Forbidden (the profile), Unauthenticated (the certificate that
// was presented), Unavailable (the refusal could
// not be recorded), Internal (the assertion is not believed, or the certificate would be
// defective).
func (i *Issuer) Prepare(ctx context.Context, peer string, r *signerv1.IssueRequest) (Prepared, error) {
	record := audit.Record{
		Actor: peer, RequestID: mesh.RequestID(ctx), CSRSHA256: fingerprint(sha256.Sum256(r.GetCsrDer())),
	}
	intent, err := i.prepare(ctx, peer, r, &record)
	if err != nil {
		return Prepared{}, i.refuse(ctx, record, err)
	}
	intent.Record = record
	return Prepared{intent: intent}, nil
}

// prepare is Prepare without the audit; it fills record as it learns more.
func (i *Issuer) prepare(ctx context.Context, peer string, r *signerv1.IssueRequest, record *audit.Record) (ledger.Intent, error) {
	if peer == "" {
		return ledger.Intent{}, fault.New(fault.Forbidden, "issue.Prepare", "", errors.New("the peer has no name"))
	}
	verified, err := i.believe(peer, r)
	if err != nil {
		return ledger.Intent{}, err
	}
	a := verified.Message()
	describe(a, record)
	serial, digits, err := ca.NewSerial()
	if err != nil {
		return ledger.Intent{}, fault.New(fault.Internal, "issue.Prepare", "", err)
	}
	now := i.now()
	from, err := i.origin(ctx, a, now)
	if err != nil {
		return ledger.Intent{}, err
	}
	request, draft, err := i.build(verified, r.GetCsrDer(), moment{at: now, serial: serial, predecessor: from.predecessor})
	if err != nil {
		return ledger.Intent{}, err
	}
	return ledger.Intent{
		Serial: digits, Verified: verified, Request: request, TBS: draft.RawTBSCertificate, At: now,
		Authority: i.authority.Certificate.SubjectKeyId, Contents: contents(draft), Subject: draft.Subject.String(), NotBefore: draft.NotBefore, NotAfter: draft.NotAfter,
		Line: from.line, Successors: from.successors, Budgets: i.budgets(verified),
	}, nil
}

// moment is what a certificate depends on beside assertion, request and profile.
type moment struct {
	at          time.Time
	serial      *big.Int
	predecessor *profile.Predecessor // nil for the first of a line
}

// build computes the certificate for what was asserted and asked. Equal arguments give equal
// to-be-signed bytes, as long as the profile stays as it is.
func (i *Issuer) build(v assertion.Verified, der []byte, m moment) (*csr.Request, *x509.Certificate, error) {
	a := v.Message()
	request, err := csr.Parse(der)
	if err != nil {
		return nil, nil, err
	}
	// Two ways led to the key: what was asserted must be what is certified.
	if spki := request.SPKISHA256(); !bytes.Equal(a.GetSpkiSha256(), spki[:]) {
		return nil, nil, fault.New(fault.Malformed, "issue.build", "", errors.New("two readings of the request found two public keys"))
	}
	var template *x509.Certificate
	if m.predecessor != nil {
		template, err = i.profiles.Renew(a, request, m.at, m.serial, *m.predecessor)
	} else {
		template, err = i.profiles.Build(a, request, m.at, m.serial)
	}
	if err != nil {
		return nil, nil, err
	}
	draft, err := i.draft(template, request)
	if err != nil {
		return nil, nil, fmt.Errorf("drafting under label %s: %w", a.GetLabel(), err)
	}
	return request, draft, nil
}

// budgets returns those that a certificate is taken from.
func (i *Issuer) budgets(v assertion.Verified) []ledger.Budget {
	var all []ledger.Budget
	label := v.Message().GetLabel()
	for _, b := range []ledger.Budget{
		ledger.KeyBudget(v.KeyID(), v.MaxPerHour()),
		ledger.LabelBudget(label, i.profiles.MaxPerHour(label)),
	} {
		if b.PerHour > 0 {
			all = append(all, b)
		}
	}
	return all
}

// contents returns what c says beside public key, serial number and time: the issuer's key,
// the subject, alternative names, key usage and extended key usage (RFC 5280 sections
// 4.2.1.6, 4.2.1.3 and 4.2.1.12), of which one that is not there is empty.
func contents(c *x509.Certificate) [][]byte {
	parts := [][]byte{c.AuthorityKeyId, c.RawSubject, nil, nil, nil}
	for _, e := range c.Extensions {
		switch e.Id.String() {
		case "2.5.29.17":
			parts[2] = e.Value
		case "2.5.29.15":
			parts[3] = e.Value
		case "2.5.29.37":
			parts[4] = e.Value
		}
	}
	return parts
}

// believe opens the assertion before the request is parsed for good: what nobody vouches
// for is not worth an RSA operation.
func (i *Issuer) believe(peer string, r *signerv1.IssueRequest) (assertion.Verified, error) {
	want, err := expect(peer, r.GetCsrDer())
	if err != nil {
		return assertion.Verified{}, err
	}
	return i.opener.Open(r.GetAssertion(), want)
}

// expect says what an assertion has to be about that comes from peer with a request.
func expect(peer string, der []byte) (assertion.Expect, error) {
	spki, ok := subjectPublicKeyInfo(der)
	if !ok {
		return assertion.Expect{}, fault.New(fault.Malformed, "issue.expect", "the request is not a PKCS#10 request (RFC 2986)", nil)
	}
	return assertion.Expect{Gateway: peer, CSRSHA256: sha256.Sum256(der), SPKISHA256: sha256.Sum256(spki)}, nil
}

// subjectPublicKeyInfo cuts the third field out of a CertificationRequestInfo (RFC 2986
// section 4.1) without looking into it.
func subjectPublicKeyInfo(der []byte) (spki []byte, ok bool) {
	if len(der) > csr.MaxDER {
		return nil, false
	}
	var request, info, key cryptobyte.String
	input := cryptobyte.String(der)
	ok = input.ReadASN1(&request, asn1.SEQUENCE) && request.ReadASN1(&info, asn1.SEQUENCE) &&
		info.SkipASN1(asn1.INTEGER) && info.SkipASN1(asn1.SEQUENCE) && info.ReadASN1Element(&key, asn1.SEQUENCE)
	return key, ok
}

// describe tells the audit what the assertion says.
func describe(a *assertionv1.Assertion, r *audit.Record) {
	id, proof := a.GetIdentity(), a.GetAuthentication()
	r.Label, r.Address = a.GetLabel(), proof.GetClientAddress()
	r.Identity = id.GetPrincipal() + "@" + id.GetRealm()
	r.Method = proof.GetMethod().String()
	r.Detail = map[string]string{"validator": a.GetIssuer(), "operation": a.GetOperation().String()}
	if t := a.GetToken(); t != nil {
		r.Detail["token"] = t.GetId()
	} else {
		r.Detail["indicators"] = strings.Join(proof.GetIndicators(), ",")
	}
	if c := a.GetPresentedCertificate(); c != nil {
		r.Detail["presented_serial"] = fmt.Sprintf("%x", c.GetSerial())
	}
}
