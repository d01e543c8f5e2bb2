package admin_test

import (
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
	"github.com/estuary-pki/estuary/gateway/internal/config"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

// TestFaults gives what the validator says the status of HTTP and the outcome of the audit.
func TestFaults(t *testing.T) {
	const public = "Said in public."
	cause := errors.New("cause-7f3a")
	for _, test := range []struct {
		name    string
		err     error
		status  int
		detail  string
		outcome string
		retry   string
	}{
		{"malformed", fault.New(fault.Malformed, "x", public, cause), 400, public, audit.Refused, ""},
		{"not found", fault.New(fault.NotFound, "x", public, cause), 404, public, audit.Refused, ""},
		{"conflict", fault.New(fault.Conflict, "x", public, cause), 409, public, audit.Refused, ""},
		{"busy", &fault.Error{Kind: fault.Busy, Public: public, RetryAfter: 1500 * time.Millisecond, Err: cause}, 429, public, audit.Refused, "2"},
		{"unavailable", fault.New(fault.Unavailable, "x", public, cause), 503, public, audit.Failed, "1"},
		{"refused by the mesh", fault.New(fault.Forbidden, "x", public, cause), 500, "Internal error.", audit.Failed, ""},
		{"unauthenticated", fault.New(fault.Unauthenticated, "x", public, cause), 500, "Internal error.", audit.Failed, ""},
		{"internal", cause, 500, "Internal error.", audit.Failed, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, nil)
			r.create = func(*validatorv1.CreateTokenRequest) (*validatorv1.CreateTokenResponse, error) { return nil, test.err }
			a := r.ask(t, "POST", "/admin/otp", r.full, `{"client_id":"x"}`)
			if a.status != test.status || a.object(t)["detail"] != test.detail || a.header.Get("Retry-After") != test.retry {
				t.Errorf("%d %v %s", a.status, a.header, a.body)
			}
			if strings.Contains(a.body, "cause-7f3a") {
				t.Error("the cause is shown")
			}
			records := r.audit.take()
			if len(records) != 2 || records[0].Outcome != audit.Intent || records[1].Outcome != test.outcome || records[1].Reason == "" {
				t.Errorf("audit: %+v", records)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	r := start(t, nil)
	for _, bearer := range []string{r.full, r.reader} {
		a := r.ask(t, "GET", "/admin/health", bearer, "")
		want := map[string]any{"status": "ok", "parts": map[string]any{"validator": "ok", "signer": "ok"}}
		if diff := cmp.Diff(want, a.object(t)); diff != "" || a.status != 200 {
			t.Errorf("%d (-want +got):\n%s", a.status, diff)
		}
	}
	if records := r.audit.take(); len(records) != 0 {
		t.Errorf("audit: %+v", records)
	}
	if a := r.ask(t, "HEAD", "/admin/health", r.full, ""); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
	r.signer.Stop()
	a := r.ask(t, "GET", "/admin/health", r.full, "")
	want := map[string]any{"status": "unavailable", "parts": map[string]any{"validator": "ok", "signer": "no answer"}}
	if diff := cmp.Diff(want, a.object(t)); diff != "" || a.status != 503 {
		t.Errorf("signer stopped: %d (-want +got):\n%s", a.status, diff)
	}
	if a := r.ask(t, "GET", "/admin/certs", r.full, ""); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("ledger without its signer: %d %v", a.status, a.header)
	}
}

// TestNoActWithoutAudit has an audit that cannot be written: nothing happens.
func TestNoActWithoutAudit(t *testing.T) {
	r := start(t, nil)
	r.audit.setFull(true)
	for _, test := range []struct{ method, path, body string }{
		{"POST", "/admin/otp", `{"client_id":"x"}`},
		{"DELETE", "/admin/otp/" + tokenID, ""},
	} {
		if a := r.ask(t, test.method, test.path, r.full, test.body); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", test.method, a.status, a.body)
		}
	}
	if calls := r.calls(); len(calls) > 0 {
		t.Errorf("%d calls went through", len(calls))
	}
	r.certs = func(*signerv1.ListCertificatesRequest) (*signerv1.ListCertificatesResponse, error) {
		return &signerv1.ListCertificatesResponse{}, nil
	}
	if a := r.ask(t, "GET", "/admin/certs", r.full, ""); a.status != 503 {
		t.Errorf("reading: %d %s", a.status, a.body)
	}
	if a := r.ask(t, "GET", "/admin/certs", "wrong", ""); a.status != 401 {
		t.Errorf("a refusal: %d %s", a.status, a.body)
	}
}

// TestAuditLostAfterAct answers with the token all the same: it exists, its intent is on
// record, and nobody could see the token again.
func TestAuditLostAfterAct(t *testing.T) {
	r := start(t, nil)
	r.create = func(*validatorv1.CreateTokenRequest) (*validatorv1.CreateTokenResponse, error) {
		r.audit.setFull(true)
		return &validatorv1.CreateTokenResponse{Token: stored(1), Secret: []byte("s")}, nil
	}
	if a := r.ask(t, "POST", "/admin/otp", r.full, `{"client_id":"x"}`); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestReload exchanges the API's certificate and the administrators' authority under a
// running server, first with files that do not belong together.
func TestReload(t *testing.T) {
	r := start(t, nil)
	files := mesh.Config{Certificate: r.api.TLS.Certificate, Key: r.api.TLS.Key, CA: r.api.TLS.ClientCA}
	leaf := func() string {
		conn, err := tls.Dial("tcp", r.addr(), r.clientTLS(t))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := leaf()
	good, err := os.ReadFile(string(files.Key))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(string(files.Key), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := leaf(); got != before {
			t.Error("a bad key changed the certificate")
		}
	}
	if got := r.config.Metrics.GetOrCreateCounter("estuary_admin_reload_errors_total").Get(); got != 1 {
		t.Errorf("%d errors counted for one change", got)
	}
	if err := os.WriteFile(string(files.Key), good, 0o600); err != nil {
		t.Fatal(err)
	}
	r.ca.Write(t, files, meshtest.Leaf{DNS: []string{"localhost"}})
	if got := leaf(); got == before {
		t.Error("the new certificate is not served")
	}
	alice := r.ca.Cert(t, "alice.test")
	if !answers(r.client(t, &alice), r.url) {
		t.Fatal("an administrator gets no answer")
	}
	if err := os.WriteFile(string(files.CA), meshtest.New(t).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if answers(r.client(t, &alice), r.url) {
		t.Error("a certificate of the old authority is taken")
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := admin.New(admin.Config{}); err == nil {
		t.Error("made without dependencies")
	}
	r := start(t, nil)
	for name, change := range map[string]func(*config.AdminAPI){
		"certificate": func(a *config.AdminAPI) { a.TLS.Certificate = "/nonexistent" },
		"key":         func(a *config.AdminAPI) { a.TLS.Key = a.TLS.Certificate },
		"client_ca":   func(a *config.AdminAPI) { a.TLS.ClientCA = "/nonexistent" },
		"empty CA":    func(a *config.AdminAPI) { a.TLS.ClientCA = a.TLS.Key },
	} {
		api := r.api
		change(&api)
		c := r.config
		c.API = api
		if _, err := admin.New(c); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	c := r.config
	c.Audit = nil
	if _, err := admin.New(c); err == nil {
		t.Error("made without an audit")
	}
}
