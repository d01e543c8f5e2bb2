package est_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
	"github.com/estuary-pki/estuary/services/fault"
)

// renewing is a backend whose label "device" takes tokens and certificates.
func renewing(t *testing.T, mode accept.Mode) *backend {
	t.Helper()
	b := newBackend(t)
	b.mode = mode
	b.profiles[0].Methods = []assertionv1.Method{assertionv1.Method_METHOD_TOKEN, assertionv1.Method_METHOD_CERTIFICATE}
	return b
}

// post sends a request for a certificate, with and without an own certificate and a header.
func (g *gateway) post(t *testing.T, path string, own *certpathtest.Holder, authorization string) (*http.Response, string) {
	t.Helper()
	conn := g.dial(t, func(c *tls.Config) {
		if own != nil {
			c.Certificates = []tls.Certificate{own.TLS()}
		}
	})
	body, header := b64(request(t, ecKey(t), "")), ""
	if authorization != "" {
		header = "Authorization: " + authorization + "\r\n"
	}
	return exchange(t, conn, fmt.Sprintf("POST /.well-known/est/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n%sContent-Length: %d\r\n\r\n%s",
		path, header, len(body), body))
}

// ours makes a certificate of the backend's authority.
func (b *backend) ours(t *testing.T) *certpathtest.Holder {
	t.Helper()
	return certpathtest.Issue(t, &certpathtest.Holder{Certificate: b.ca, Key: b.key}, nil, nil)
}

// TestWhatCounts: by operation, mode and label what goes to the validator, and what is answered.
func TestWhatCounts(t *testing.T) {
	const basic = "Basic " + goodBasic
	type row struct {
		mode          accept.Mode
		path          string
		certificate   bool
		authorization string

		status     int
		challenge  string
		cert, cred bool // what the validator got
	}
	const cc, bc = `ClientCertificate realm="estuary"`, `Basic realm="estuary"`
	for _, c := range []row{
		{accept.ModeOptional, "simplereenroll", true, "", 200, "", true, false},
		{accept.ModeOptional, "simplereenroll", true, basic, 200, "", true, false},
		{accept.ModeOptional, "simplereenroll", false, "", 401, cc, false, false},
		{accept.ModeOptional, "simplereenroll", false, basic, 401, cc, false, false},
		{accept.ModeOptional, "simpleenroll", true, "", 200, "", true, false},
		{accept.ModeOptional, "simpleenroll", true, basic, 200, "", true, true},
		{accept.ModeOptional, "simpleenroll", false, basic, 200, "", false, true},
		{accept.ModeOptional, "simpleenroll", false, "", 401, bc, false, false},
		{accept.ModeOptional, "loose/simpleenroll", true, basic, 200, "", false, true},
		{accept.ModeOptional, "loose/simpleenroll", true, "", 401, bc, false, false},
		{accept.ModeRequiredForReenroll, "simplereenroll", true, "", 200, "", true, false},
		{accept.ModeRequiredForReenroll, "simplereenroll", false, basic, 401, cc, false, false},
		{accept.ModeRequiredForReenroll, "simpleenroll", true, "", 401, bc, false, false},
		{accept.ModeRequiredForReenroll, "simpleenroll", true, basic, 200, "", false, true},
		{accept.ModeRequired, "simplereenroll", true, "", 200, "", true, false},
		{accept.ModeRequired, "simpleenroll", true, basic, 200, "", true, true},
		{accept.ModeNone, "simplereenroll", true, "", 501, "", false, false},
		{accept.ModeNone, "simpleenroll", true, basic, 200, "", false, true},
	} {
		t.Run(fmt.Sprintf("%s %s %v %v", c.mode, c.path, c.certificate, c.authorization != ""), func(t *testing.T) {
			b := renewing(t, c.mode)
			g := start(t, b, 0)
			var own *certpathtest.Holder
			if c.certificate {
				own = b.ours(t)
			}
			response, body := g.post(t, c.path, own, c.authorization)
			var challenges []string
			if c.challenge != "" {
				challenges = []string{c.challenge}
			}
			if response.StatusCode != c.status || !slices.Equal(response.Header.Values("Www-Authenticate"), challenges) {
				t.Errorf("%d %q, not %d %q: %s", response.StatusCode, response.Header.Values("Www-Authenticate"), c.status, challenges, body)
			}
			if c.challenge == cc && !strings.Contains(body, "client certificate is required") {
				t.Errorf("told %q", body)
			}
			got := b.received()
			if (len(got.GetChannel().GetClientCertificates()) > 0) != c.cert || (got.GetCredential() != nil) != c.cred {
				t.Errorf("the validator got %d certificates and %v", len(got.GetChannel().GetClientCertificates()), got.GetCredential())
			}
			if c.cert && !bytes.Equal(got.GetChannel().GetClientCertificates()[0], own.Raw) {
				t.Error("the validator got another certificate")
			}
			want := assertionv1.Operation_OPERATION_ENROLL
			if c.path == "simplereenroll" {
				want = assertionv1.Operation_OPERATION_REENROLL
			}
			if got != nil && got.GetOperation() != want {
				t.Errorf("for the operation %s", got.GetOperation())
			}
		})
	}
}

// TestRevokedIsTold: the validator hears what the revocation list says; refusals are alike, for
// a certificate too, and come late.
func TestRevokedIsTold(t *testing.T) {
	const floor = 300 * time.Millisecond
	b := renewing(t, accept.ModeOptional)
	g := start(t, b, floor)
	for reason, want := range map[int]validatorv1.RevocationStatus{
		1: validatorv1.RevocationStatus_REVOCATION_STATUS_REVOKED, 6: validatorv1.RevocationStatus_REVOCATION_STATUS_HELD,
	} {
		own := b.ours(t)
		b.revoked = map[string]int{own.SerialNumber.String(): reason}
		begun := time.Now()
		response, body := g.post(t, "simplereenroll", own, "")
		if response.StatusCode != http.StatusUnauthorized || time.Since(begun) < floor {
			t.Errorf("%d after %v: %s", response.StatusCode, time.Since(begun), body)
		}
		if got := b.received().GetChannel().GetRevocation(); got != want {
			t.Errorf("reason %d is told as %s", reason, got)
		}
	}
}

// TestSubjectIsRefused: the signer's word on a renewal reaches the client.
func TestSubjectIsRefused(t *testing.T) {
	b := renewing(t, accept.ModeOptional)
	b.issue = func(*signerv1.IssueRequest) error {
		return fault.New(fault.Forbidden, "test", "the subject of the request is not that of the certificate", nil)
	}
	g := start(t, b, 0)
	if response, body := g.post(t, "simplereenroll", b.ours(t), ""); response.StatusCode != http.StatusForbidden || !bytes.Contains([]byte(body), []byte("not that of the certificate")) {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

// TestCertificateIsNoObstacle: who presents one that the signer will not renew, and a token beside
// it, gets a certificate on the token; without one, or where the token is refused too, the refusal.
func TestCertificateIsNoObstacle(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Forbidden, fault.Unauthenticated, fault.Busy} {
		b := renewing(t, accept.ModeOptional)
		issues := 0
		b.issue = func(*signerv1.IssueRequest) error {
			if issues++; issues == 1 {
				return fault.New(kind, "test", "the first login is too long ago", nil)
			}
			return nil
		}
		g := start(t, b, 0)
		response, body := g.post(t, "simpleenroll", b.ours(t), "Basic "+goodBasic)
		want := http.StatusOK
		if kind == fault.Busy {
			want = http.StatusTooManyRequests
		}
		if response.StatusCode != want {
			t.Errorf("%s: %d %s", kind, response.StatusCode, body)
		}
		if got := b.received(); want == http.StatusOK && (len(got.GetChannel().GetClientCertificates()) != 0 || got.GetCredential().GetBasic() == nil) {
			t.Errorf("%s: the validator was asked %v", kind, got)
		}
	}
	b := renewing(t, accept.ModeOptional)
	b.issue = func(*signerv1.IssueRequest) error { return fault.New(fault.Forbidden, "test", "no", nil) }
	g := start(t, b, 0)
	for authorization, asked := range map[string]int32{"": 1, "Basic " + goodBasic: 2} {
		b.authentications.Store(0)
		if response, _ := g.post(t, "simpleenroll", b.ours(t), authorization); response.StatusCode != http.StatusForbidden || b.authentications.Load() != asked {
			t.Errorf("%q: %d after %d questions", authorization, response.StatusCode, b.authentications.Load())
		}
	}
}

// TestEverybodyMayRead: what is public stays so, but where no connection may be without a
// certificate.
func TestEverybodyMayRead(t *testing.T) {
	for _, mode := range accept.Modes {
		b := renewing(t, mode)
		g := start(t, b, 0)
		for _, op := range []string{"cacerts", "csrattrs"} {
			conn := g.dial(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS13 })
			_, err := fmt.Fprintf(conn, "GET /.well-known/est/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", op)
			one := make([]byte, 1)
			if err == nil {
				_, err = conn.Read(one)
			}
			if (err == nil) != (mode != accept.ModeRequired) {
				t.Errorf("%s, %s: %v", mode, op, err)
			}
		}
	}
}
