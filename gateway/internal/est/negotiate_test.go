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

	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
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
		{[]assertionv1.Method{assertionv1.Method_METHOD_CERTIFICATE}, []string{`ClientCertificate realm="estuary"`}},
		{[]assertionv1.Method{assertionv1.Method_METHOD_CERTIFICATE, assertionv1.Method_METHOD_TOKEN}, []string{basic}},
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
	if said := log.String(); strings.Contains(said, goodTicket) || strings.Contains(said, "oQD/") {
		t.Errorf("a token stands in the log: %s", said)
	}
}

// TestProofWithRefusals: once the ticket is accepted, whatever answer has the token by which the
// client knows us, but a 401, which must be like every other.
func TestProofWithRefusals(t *testing.T) {
	der := request(t, ecKey(t), "")
	for kind, status := range map[fault.Kind]int{
		fault.Forbidden: 403, fault.Conflict: 409, fault.Busy: 429, fault.Internal: 500, fault.Unavailable: 503, fault.Unauthenticated: 401,
	} {
		b := newBackend(t)
		b.ticket = []byte{0xa1, 0x00, 0xff}
		b.profiles[0].Methods = []assertionv1.Method{assertionv1.Method_METHOD_NEGOTIATE}
		b.issue = func(*signerv1.IssueRequest) error { return fault.New(kind, "test", "", nil) }
		h := newHandler(t, b, 0, io.Discard)
		want := []string{"Negotiate oQD/"}
		if status == http.StatusUnauthorized {
			want = []string{"Negotiate"}
		}
		response, _ := enrol(t.Context(), h, der, "Negotiate "+goodTicket)
		if got := authenticate(response); response.StatusCode != status || !slices.Equal(got, want) {
			t.Errorf("%s: %d %q, not %q", kind, response.StatusCode, got, want)
		}
		if response, _ := enrol(t.Context(), h, der, "Basic "+goodBasic); status != http.StatusUnauthorized && authenticate(response) != nil {
			t.Errorf("%s, Basic: %q", kind, authenticate(response))
		}
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

// TestChallengesOnTheWire: the octets, for libest compares the case of the field's name and takes
// the first one alone. A negotiation goes on over the same connection, to its end.
func TestChallengesOnTheWire(t *testing.T) {
	b := newBackend(t)
	b.challenge, b.ticket = []byte{0xa1, 0x03}, []byte{0xa1, 0x00, 0xff}
	b.profiles[0].Methods = []assertionv1.Method{assertionv1.Method_METHOD_NEGOTIATE, assertionv1.Method_METHOD_TOKEN}
	g := start(t, b, 0)
	conn := g.dial(t, nil)
	const basicLine = `WWW-Authenticate: Basic realm="estuary"`
	for _, c := range []struct {
		authorization []string
		status        string
		want          []string
	}{
		{nil, "401 Unauthorized", []string{basicLine, "WWW-Authenticate: Negotiate"}},
		{[]string{"Authorization: Basic d3Jvbmc6"}, "401 Unauthorized", []string{basicLine, "WWW-Authenticate: Negotiate"}},
		{[]string{"Authorization: Negotiate TlRMTVNTUAA="}, "401 Unauthorized", []string{basicLine, "WWW-Authenticate: Negotiate oQM="}},
		{[]string{"AUTHORIZATION: nEGOTIATE " + goodTicket}, "200 OK", []string{"WWW-Authenticate: Negotiate oQD/"}},
	} {
		request := post(enrolPath, b64(request(t, ecKey(t), "")), append([]string{pkcs10}, c.authorization...)...)
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<14) // one record, as replies are
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(buf[:n]), "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		var got []string
		for _, line := range lines {
			if name, _, _ := strings.Cut(line, ":"); strings.EqualFold(name, "WWW-Authenticate") {
				got = append(got, line)
			}
		}
		if lines[0] != "HTTP/1.1 "+c.status || !slices.Equal(got, c.want) || strings.Contains(head, "close") {
			t.Errorf("%q: %q", c.authorization, head)
		}
	}
}

// TestTicketSizes: a ticket of 64 KiB comes through the listener, whole and beside other fields.
func TestTicketSizes(t *testing.T) {
	b := newBackend(t)
	b.authenticate = func(*validatorv1.AuthenticateRequest) error { return nil }
	b.profiles[0].Methods = []assertionv1.Method{assertionv1.Method_METHOD_NEGOTIATE}
	g := start(t, b, 0)
	der := b64(request(t, ecKey(t), ""))
	for _, c := range []struct {
		size   int
		status int
		text   string
		asked  int32
	}{
		{enroll.MaxNegotiate, http.StatusOK, "", 1},
		{enroll.MaxNegotiate + 1, http.StatusBadRequest, "longer than 65536 octets", 1},
		{90_000, http.StatusRequestHeaderFieldsTooLarge, "", 1},
	} {
		token := strings.Repeat("YIIa", c.size/4) + "YIIa"[:c.size%4]
		response, body := exchange(t, g.dial(t, nil), post(enrolPath, der, pkcs10, "Cookie: "+strings.Repeat("x", 12<<10), "Authorization: Negotiate "+token))
		if response.StatusCode != c.status || !strings.Contains(body, c.text) || b.authentications.Load() != c.asked {
			t.Errorf("%d octets: %d %s, the validator was asked %d times", c.size, response.StatusCode, body, b.authentications.Load())
		}
		if got := string(b.received().GetCredential().GetNegotiate().GetToken68()); c.status == http.StatusOK && got != token {
			t.Errorf("of %d octets %d arrived", len(token), len(got))
		}
	}
	if strings.Contains(g.log.String(), "YIIaYIIa") {
		t.Error("the ticket stands in the log")
	}
}
