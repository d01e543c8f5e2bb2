package est_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
)

// authenticate returns the challenges, in their order, by the exact case of the field's name,
// which libest wants.
func authenticate(r *http.Response) []string {
	return r.Header["WWW-Authenticate"] //nolint:staticcheck // its case is the matter
}

// TestChallenges: a label offers what can give the proofs that its profile accepts, Basic
// first, whatever was refused.
func TestChallenges(t *testing.T) {
	const basic, negotiate = `Basic realm="estuary"`, "Negotiate"
	der := request(t, ecKey(t), "")
	for _, c := range []struct {
		methods []assertionv1.Method
		want    []string
	}{
		{nil, []string{basic}},
		{[]assertionv1.Method{assertionv1.Method_METHOD_TOKEN}, []string{basic}},
		{[]assertionv1.Method{assertionv1.Method_METHOD_NEGOTIATE}, []string{negotiate}},
		{[]assertionv1.Method{assertionv1.Method_METHOD_NEGOTIATE, assertionv1.Method_METHOD_LDAP_OTP}, []string{basic, negotiate}},
		{[]assertionv1.Method{assertionv1.Method_METHOD_RADIUS}, []string{basic}},
		{[]assertionv1.Method{assertionv1.Method_METHOD_LDAP_PASSWORD}, []string{basic}},
		{[]assertionv1.Method{assertionv1.Method_METHOD_CERTIFICATE}, []string{basic}},
	} {
		b := newBackend(t)
		b.profiles = []*signerv1.ProfileFacts{{Label: "device", KeyTypes: []string{"p256"}, Methods: c.methods}}
		h := newHandler(t, b, 0, io.Discard)
		for _, authorization := range []string{"", "Bearer x", "Basic wrong", "Negotiate wrong"} {
			response, _ := enrol(t.Context(), h, der, authorization)
			if got := authenticate(response); response.StatusCode != http.StatusUnauthorized || !slices.Equal(got, c.want) {
				t.Errorf("%v, %q: %d %q, not %q", c.methods, authorization, response.StatusCode, got, c.want)
			}
		}
	}
}

// TestNegotiate: a ticket gets a certificate, and the token by which the client knows us.
func TestNegotiate(t *testing.T) {
	b := newBackend(t)
	b.ticket = []byte{0xa1, 0x00, 0xff}
	b.profiles[0].Methods = []assertionv1.Method{assertionv1.Method_METHOD_NEGOTIATE}
	var log bytes.Buffer
	h := newHandler(t, b, 0, &log)
	der := request(t, ecKey(t), "")
	response, body := enrol(t.Context(), h, der, "Negotiate "+goodTicket)
	if got := authenticate(response); response.StatusCode != http.StatusOK || !slices.Equal(got, []string{"Negotiate oQD/"}) {
		t.Errorf("%d %q %s", response.StatusCode, got, body)
	}
	if got := string(b.received().GetCredential().GetNegotiate().GetToken68()); got != goodTicket {
		t.Errorf("the validator got %q", got)
	}
	b.ticket = nil
	if response, _ := enrol(t.Context(), h, der, "Negotiate "+goodTicket); response.StatusCode != http.StatusOK || len(authenticate(response)) > 0 {
		t.Errorf("%d %q", response.StatusCode, authenticate(response))
	}
	if strings.Contains(log.String(), goodTicket) {
		t.Errorf("the ticket stands in the log: %s", log.String())
	}
}

// TestNegotiationGoesOn: a client that is asked for another token is asked at once, for nothing
// of it was judged.
func TestNegotiationGoesOn(t *testing.T) {
	der := request(t, ecKey(t), "")
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		b.challenge = []byte{0xa1, 0x03}
		b.profiles[0].Methods = []assertionv1.Method{assertionv1.Method_METHOD_NEGOTIATE, assertionv1.Method_METHOD_TOKEN}
		h := newHandler(t, b, 1500*time.Millisecond, io.Discard)
		start := time.Now()
		response, body := enrol(t.Context(), h, der, "Negotiate TlRMTVNTUAA=")
		want := []string{`Basic realm="estuary"`, "Negotiate oQM="}
		if got := authenticate(response); response.StatusCode != http.StatusUnauthorized || !slices.Equal(got, want) || time.Since(start) != 0 {
			t.Errorf("%d %q after %v: %s", response.StatusCode, got, time.Since(start), body)
		}
		if b.issues.Load() != 0 {
			t.Error("the signer was asked")
		}
	})
}
