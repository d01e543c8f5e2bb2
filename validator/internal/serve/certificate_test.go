package serve_test

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/certpath"
	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
)

// holder is a device of the world's authority.
func (w *world) holder(t *testing.T, change func(*x509.Certificate)) *certpathtest.Holder {
	t.Helper()
	return certpathtest.Issue(t, w.ca, nil, func(c *x509.Certificate) {
		certpathtest.Of(t, assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, "pump-7", realm)(c)
		if change != nil {
			change(c)
		}
	})
}

// renewal is an attempt by a certificate under the label "renewals".
func renewal(t *testing.T, h *certpathtest.Holder) *validatorv1.AuthenticateRequest {
	t.Helper()
	r := request(t, "", newCSR(t))
	r.Credential, r.Label, r.Operation = nil, "renewals", assertionv1.Operation_OPERATION_REENROLL
	if h != nil {
		r.Channel.ClientCertificates = [][]byte{h.Raw}
	}
	return r
}

// TestCertificate: what is asserted of who presents one, and what is on record.
func TestCertificate(t *testing.T) {
	w := newWorld(t, options{})
	h := w.holder(t, nil)
	resp, err := w.authn.Authenticate(t.Context(), renewal(t, h))
	if err != nil {
		t.Fatal(err)
	}
	a := w.open(t, resp)
	sum, anchor := sha256.Sum256(h.Raw), sha256.Sum256(w.ca.Raw)
	p := a.GetPresentedCertificate()
	if a.GetIdentity().GetPrincipal() != "pump-7" || a.GetIdentity().GetRealm() != realm || a.GetAuthentication().GetMethod() != assertionv1.Method_METHOD_CERTIFICATE ||
		strings.Join(a.GetAuthentication().GetIndicators(), " ") != "x509" || a.GetToken() != nil {
		t.Errorf("asserted %v", a)
	}
	if string(p.GetSha256()) != string(sum[:]) || string(p.GetAnchorSha256()) != string(anchor[:]) || string(p.GetSerial()) != string(h.SerialNumber.Bytes()) ||
		string(p.GetIssuer()) != string(h.RawIssuer) {
		t.Errorf("presented %v", p)
	}
	if s := a.GetSpend(); len(s.GetIds()) != 1 || string(s.GetIds()[0]) != "certificate:"+string(sum[:]) || !s.GetKeepUntil().AsTime().After(h.NotAfter) {
		t.Errorf("spends %v", s)
	}
	got := w.records(t, "credential.accepted")
	if len(got) != 1 || got[0].Method != "certificate" || got[0].Identity != "pump-7@"+realm || got[0].Detail["presented_serial"] != fmt.Sprintf("%x", h.SerialNumber.Bytes()) ||
		got[0].Detail["backend"] != "authority" || got[0].Detail["indicators"] != "x509" {
		t.Errorf("records %+v", got)
	}
}

// TestAbsentCertificates: one that does not verify is on record with its reason, and then the
// other credential decides; for a renewal there is none.
func TestAbsentCertificates(t *testing.T) {
	w := newWorld(t, options{})
	expired := w.holder(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	stranger := certpathtest.Issue(t, nil, nil, nil)
	bomb := make([][]byte, 6)
	for i := range bomb {
		bomb[i] = w.ca.Raw
	}
	for name, c := range map[string]struct {
		chain      [][]byte
		revocation validatorv1.RevocationStatus
		reason     string
	}{
		"expired":  {[][]byte{expired.Raw}, 0, certpath.ErrExpired.Error()},
		"stranger": {[][]byte{stranger.Raw}, 0, certpath.ErrUntrusted.Error()},
		"garbage":  {[][]byte{[]byte("garbage")}, 0, certpath.ErrUnreadable.Error()},
		"a bomb":   {bomb, 0, certpath.ErrTooMany.Error()},
		"revoked":  {[][]byte{w.holder(t, nil).Raw}, validatorv1.RevocationStatus_REVOCATION_STATUS_REVOKED, "the presented certificate is revoked"},
		"held":     {[][]byte{w.holder(t, nil).Raw}, validatorv1.RevocationStatus_REVOCATION_STATUS_HELD, "the presented certificate is on hold"},
	} {
		t.Run(name, func(t *testing.T) {
			alone := renewal(t, nil)
			alone.Channel.ClientCertificates, alone.Channel.Revocation = c.chain, c.revocation
			before := len(w.records(t, "credential.refused"))
			for _, operation := range []assertionv1.Operation{assertionv1.Operation_OPERATION_ENROLL, assertionv1.Operation_OPERATION_REENROLL} {
				alone.Operation = operation
				if _, err := w.authn.Authenticate(t.Context(), alone); !errors.Is(err, fault.Unauthenticated) || strings.Contains(fault.Public(err), "certificate") {
					t.Errorf("%s: %v", operation, err)
				}
			}
			refused := w.records(t, "credential.refused")[before:]
			if len(refused) != 2 || refused[0].Reason != c.reason || refused[1].Reason != c.reason || refused[0].Method != "certificate" {
				t.Errorf("records %+v", refused)
			}
			made := w.create(t, &validatorv1.CreateTokenRequest{MaxUses: 9})
			both := request(t, ":"+string(made.GetSecret()), newCSR(t))
			both.Label, both.Channel.ClientCertificates, both.Channel.Revocation = "renewals", c.chain, c.revocation
			resp, err := w.authn.Authenticate(t.Context(), both)
			if err != nil {
				t.Fatal(err)
			}
			if a := w.open(t, resp); a.GetAuthentication().GetMethod() != assertionv1.Method_METHOD_TOKEN || a.GetPresentedCertificate() != nil {
				t.Errorf("asserted %v", a)
			}
			if got := w.records(t, "certificate.ignored"); len(got) == 0 || got[len(got)-1].Reason != c.reason {
				t.Errorf("records %+v", got)
			}
			both.Operation = assertionv1.Operation_OPERATION_REENROLL
			if _, err := w.authn.Authenticate(t.Context(), both); !errors.Is(err, fault.Unauthenticated) {
				t.Errorf("a token renews: %v", err)
			}
		})
	}
}

// TestAbsentIsNoFailure: who has a good token is not counted for the certificate of a stranger that
// comes with it; who has that alone is.
func TestAbsentIsNoFailure(t *testing.T) {
	w := newWorld(t, options{limits: func(c *throttle.Config) { c.Network.Max = 3 }})
	stranger := certpathtest.Issue(t, nil, nil, nil)
	made := w.create(t, &validatorv1.CreateTokenRequest{MaxUses: 20})
	for range 10 {
		both := request(t, ":"+string(made.GetSecret()), newCSR(t))
		both.Label, both.Channel.ClientCertificates = "renewals", [][]byte{stranger.Raw}
		if _, err := w.authn.Authenticate(t.Context(), both); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		want := fault.Unauthenticated
		if n >= 3 {
			want = fault.Busy
		}
		if _, err := w.authn.Authenticate(t.Context(), renewal(t, stranger)); !errors.Is(err, want) {
			t.Errorf("refusal %d: %v, not %v", n, err, want)
		}
	}
	many := renewal(t, nil)
	many.Channel.TooManyCertificates = true
	w.advance(time.Hour)
	if _, err := w.authn.Authenticate(t.Context(), many); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("too many: %v", err)
	}
	if got := w.records(t, "credential.refused"); got[len(got)-1].Reason != certpath.ErrTooMany.Error() {
		t.Errorf("too many: %+v", got[len(got)-1])
	}
}

// TestCertificateComesFirst: before a token, which stays unused; under a label without
// certificates it means nothing, and alone it is not enough there.
func TestCertificateComesFirst(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{MaxUses: 1})
	both := request(t, ":"+string(made.GetSecret()), newCSR(t))
	both.Label, both.Channel.ClientCertificates = "renewals", [][]byte{w.holder(t, nil).Raw}
	resp, err := w.authn.Authenticate(t.Context(), both)
	if err != nil || w.open(t, resp).GetAuthentication().GetMethod() != assertionv1.Method_METHOD_CERTIFICATE {
		t.Errorf("both: %v", err)
	}
	both = request(t, ":"+string(made.GetSecret()), newCSR(t))
	both.Channel.ClientCertificates = [][]byte{w.holder(t, nil).Raw}
	if resp, err = w.authn.Authenticate(t.Context(), both); err != nil || w.open(t, resp).GetAuthentication().GetMethod() != assertionv1.Method_METHOD_TOKEN {
		t.Errorf("under a label without certificates: %v", err)
	}
	both.Credential = nil
	if _, err = w.authn.Authenticate(t.Context(), both); !errors.Is(err, fault.Forbidden) {
		t.Errorf("alone there: %v", err)
	}
	if _, err = w.authn.Authenticate(t.Context(), renewal(t, nil)); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a renewal without a certificate: %v", err)
	}
	bad := renewal(t, w.holder(t, nil))
	bad.CsrDer = []byte("no request")
	if _, err = w.authn.Authenticate(t.Context(), bad); !errors.Is(err, fault.Malformed) {
		t.Errorf("for no request: %v", err)
	}
}

// open returns what the validator asserted.
func (w *world) open(t *testing.T, resp *validatorv1.AuthenticateResponse) *assertionv1.Assertion {
	t.Helper()
	a := &assertionv1.Assertion{}
	if err := proto.Unmarshal(resp.GetAssertion().GetPayload(), a); err != nil {
		t.Fatal(err)
	}
	return a
}
