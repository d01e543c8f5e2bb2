package admin_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
	"github.com/estuary-pki/estuary/gateway/internal/config"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

func TestNewBearerToken(t *testing.T) {
	token, hash := admin.NewBearerToken()
	if !regexp.MustCompile(`^estadm_[A-Za-z0-9_-]{43}$`).MatchString(token) {
		t.Errorf("token %q", token)
	}
	sum := sha256.Sum256([]byte(token))
	if hash != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("hash %q", hash)
	}
	if again, _ := admin.NewBearerToken(); again == token {
		t.Error("the same token twice")
	}
}

// TestBearerAmongMany finds the right one of several tokens, and a scheme in any case.
func TestBearerAmongMany(t *testing.T) {
	r := start(t, nil)
	r.list = func(*validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		return &validatorv1.ListTokensResponse{}, nil
	}
	for token, want := range map[string]string{r.full: "full", r.reader: "reader"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/admin/otp", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "bEARER "+token)
		a := send(t, r.client(t, nil), request)
		records := r.audit.take()
		if a.status != 200 || len(records) != 1 || records[0].Actor != want {
			t.Errorf("%s: %d, audit %+v", want, a.status, records)
		}
	}
}

// TestClientCertificates presents one certificate after the other, with and without a
// bearer token beside it.
func TestClientCertificates(t *testing.T) {
	r := start(t, nil)
	r.list = func(*validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		return &validatorv1.ListTokensResponse{}, nil
	}
	alice, bob := r.ca.Cert(t, "alice.test"), r.ca.Cert(t, "bob.test")
	for _, test := range []struct {
		name          string
		own           mesh.Config
		authorization string
		status        int
		actor         string
	}{
		{"administrator", alice, "", 200, "alice.test"},
		{"another name", bob, "", 401, ""},
		{"another name with a bearer token", bob, "Bearer " + r.reader, 200, "reader"},
		{"administrator with a wrong bearer token", alice, "Bearer x", 401, ""},
		{"administrator with a bearer token", alice, "Bearer " + r.reader, 200, "reader"},
		{"name within a name", r.ca.Cert(t, "alice.test.evil.test"), "", 401, ""},
		{"two names", r.ca.Issue(t, meshtest.Leaf{DNS: []string{"x.test", "alice.test"}}), "", 200, "alice.test"},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/admin/otp", nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.authorization != "" {
				request.Header.Set("Authorization", test.authorization)
			}
			a := send(t, r.client(t, &test.own), request)
			records := r.audit.take()
			if a.status != test.status || len(records) != 1 || records[0].Actor != test.actor {
				t.Errorf("%d %s, audit %+v", a.status, a.body, records)
			}
			if test.status == 401 && test.authorization == "" && !strings.Contains(records[0].Reason, "client_names") {
				t.Errorf("reason %q", records[0].Reason)
			}
		})
	}
}

// TestBadClientCertificates holds that they end the handshake.
func TestBadClientCertificates(t *testing.T) {
	r := start(t, nil)
	expired := meshtest.Leaf{DNS: []string{"alice.test"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	for name, own := range map[string]mesh.Config{
		"another authority": meshtest.New(t).Cert(t, "alice.test"),
		"expired":           r.ca.Issue(t, expired),
	} {
		if answers(r.client(t, &own), r.url) {
			t.Errorf("%s: answered", name)
		}
	}
}

// TestCertificatesOnly has no bearer tokens: without a certificate there is no handshake,
// and with that of somebody else no challenge that could be met.
func TestCertificatesOnly(t *testing.T) {
	r := start(t, func(api *config.AdminAPI) { api.BearerToken.Tokens = nil })
	if answers(r.client(t, nil), r.url) {
		t.Error("answered without a certificate")
	}
	bob := r.ca.Cert(t, "bob.test")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/admin/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := send(t, r.client(t, &bob), request); a.status != 403 || a.header.Get("WWW-Authenticate") != "" {
		t.Errorf("another name: %d %v", a.status, a.header)
	}
	alice := r.ca.Cert(t, "alice.test")
	if a := send(t, r.client(t, &alice), request); a.status != 200 {
		t.Errorf("administrator: %d %s", a.status, a.body)
	}
}

// TestTokensOnly asks for no client certificate.
func TestTokensOnly(t *testing.T) {
	r := start(t, func(api *config.AdminAPI) { api.TLS.ClientCA, api.TLS.ClientNames = "", nil })
	asked := false
	client := r.client(t, nil)
	client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &tls.Certificate{}, nil
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/admin/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.full)
	if a := send(t, client, request); a.status != 200 || asked {
		t.Errorf("%d, certificate asked for: %v", a.status, asked)
	}
}

func TestTLSVersions(t *testing.T) {
	r := start(t, nil)
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c := r.client(t, nil).Transport.(*http.Transport).TLSClientConfig.Clone()
		c.MinVersion, c.MaxVersion = version, version
		conn, err := tls.Dial("tcp", strings.TrimPrefix(r.url, "https://"), c)
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}
