package est_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/gateway/internal/cms/cmstest"
)

const (
	basic  = "Authorization: Basic " + goodBasic
	pkcs10 = "Content-Type: application/pkcs10"
)

// post returns an enrolment as octets; the header lines stand before Content-Length.
func post(path, body string, lines ...string) string {
	head := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n"
	for _, l := range lines {
		head += l + "\r\n"
	}
	return head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// chunked is post with the body in chunks of n octets.
func chunked(path, body string, n int, lines ...string) string {
	head := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
	for _, l := range lines {
		head += l + "\r\n"
	}
	head += "\r\n"
	for len(body) > 0 {
		size := min(n, len(body))
		head += fmt.Sprintf("%x\r\n%s\r\n", size, body[:size])
		body = body[size:]
	}
	return head + "0\r\n\r\n"
}

func get(path string, lines ...string) string {
	return verb("GET", path, lines...)
}

func verb(method, path string, lines ...string) string {
	return method + " " + path + " HTTP/1.1\r\n" + strings.Join(append([]string{"Host: localhost"}, lines...), "\r\n") + "\r\n\r\n"
}

func wrapped(text string, columns int, end string) string {
	var b strings.Builder
	for len(text) > 0 {
		n := min(columns, len(text))
		b.WriteString(text[:n] + end)
		text = text[n:]
	}
	return b.String()
}

type wireCase struct {
	name, request string
	status        int
	text          string // a part of the body
	asked         int32  // how often the validator is asked
}

const enrolPath = "/.well-known/est/simpleenroll"

// acceptedCases are the forms in which clients send a good request.
func acceptedCases(der []byte) []wireCase {
	body := b64(der)
	armour := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	ok := func(name, request string) wireCase { return wireCase{name, request, 200, "", 1} }
	return []wireCase{
		ok("one line", post(enrolPath, body, pkcs10, basic)),
		ok("64 columns", post(enrolPath, wrapped(body, 64, "\n"), pkcs10, basic)),
		ok("76 columns, CRLF", post(enrolPath, wrapped(body, 76, "\r\n"), pkcs10, basic)),
		ok("white space anywhere", post(enrolPath, " \t\r\n"+wrapped(body, 3, " \t\n"), pkcs10, basic)),
		ok("PEM", post(enrolPath, armour, pkcs10, basic)),
		ok("PEM as older tools write it", post(enrolPath, strings.ReplaceAll(armour, "CERTIFICATE REQ", "NEW CERTIFICATE REQ"), pkcs10, basic)),
		ok("DER", post(enrolPath, string(der), pkcs10, basic)),
		ok("chunked", chunked(enrolPath, body, 100, pkcs10, basic)),
		ok("chunked by octets", chunked(enrolPath, body, 1, pkcs10, basic)),
		ok("transfer encoding base64", post(enrolPath, body, pkcs10, basic, "Content-Transfer-Encoding: base64")),
		ok("transfer encoding binary over base64", post(enrolPath, body, pkcs10, basic, "Content-Transfer-Encoding: binary")),
		ok("transfer encoding base64 over DER", post(enrolPath, string(der), pkcs10, basic, "Content-Transfer-Encoding: base64")),
		ok("transfer encoding unknown", post(enrolPath, body, pkcs10, basic, "Content-Transfer-Encoding: x-junk")),
		ok("type in other case", post(enrolPath, body, "content-type: Application/PKCS10", basic)),
		ok("type with parameters", post(enrolPath, body, pkcs10+"; charset=utf-8; name=\"a;b.p10\"", basic)),
		ok("type with a broken parameter", post(enrolPath, body, pkcs10+";;=", basic)),
		ok("Accept any", post(enrolPath, body, pkcs10, basic, "Accept: */*")),
		ok("Accept something else", post(enrolPath, body, pkcs10, basic, "Accept: text/html")),
		ok("Accept-Encoding gzip", post(enrolPath, body, pkcs10, basic, "Accept-Encoding: gzip")),
		ok("Content-Encoding identity", post(enrolPath, body, pkcs10, basic, "Content-Encoding: identity")),
		ok("scheme in lower case", post(enrolPath, body, pkcs10, "authorization: basic "+goodBasic)),
		ok("with its label", post("/.well-known/est/device/simpleenroll", body, pkcs10, basic)),
		ok("with another label", post("/.well-known/est/loose/simpleenroll", body, pkcs10, basic)),
		ok("with a query", post(enrolPath+"?a=b", body, pkcs10, basic)),
		ok("percent-encoded letter", post("/.well-known/%65st/simpleenroll", body, pkcs10, basic)),
		ok("absolute form", post("https://localhost"+enrolPath, body, pkcs10, basic)),
		ok("HTTP/1.0", strings.Replace(post(enrolPath, body, pkcs10, basic), "HTTP/1.1", "HTTP/1.0", 1)),
		ok("Connection: close", post(enrolPath, body, pkcs10, basic, "Connection: close")),
		ok("white space up to the limit", post(enrolPath, body+strings.Repeat(" ", 65536-len(body)), pkcs10, basic)),
	}
}

// refusedCases are requests that must not reach the validator.
func refusedCases(t *testing.T, der []byte) []wireCase {
	body := b64(der)
	broken := append([]byte(nil), der...)
	broken[len(broken)-3] ^= 1
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaBody := b64(request(t, weak, ""))
	no := func(name string, status int, text, request string) wireCase {
		return wireCase{name, request, status, text, 0}
	}
	return []wireCase{
		// Paths and labels.
		no("root", 404, "nothing here", get("/")),
		no("unknown operation", 404, "no such EST operation", get("/.well-known/est/nothing")),
		no("unknown label", 404, "label", get("/.well-known/est/other/cacerts")),
		no("label in another case", 404, "label", get("/.well-known/est/Device/cacerts")),
		no("slash at the end", 404, "nothing here", get("/.well-known/est/cacerts/")),
		no("double slash", 404, "nothing here", get("/.well-known//est/cacerts")),
		no("dots", 404, "", get("/.well-known/est/device/../cacerts")),
		no("encoded slash", 404, "nothing here", get("/.well-known/est/device%2Fcacerts")),
		no("encoded NUL", 404, "nothing here", get("/.well-known/est/cacerts%00")),
		no("too deep", 404, "nothing here", get("/.well-known/est/a/b/cacerts")),
		no("extension of RFC 8295", 404, "no such EST operation", get("/.well-known/est/pal")),
		no("unknown label before all else", 404, "label", post("/.well-known/est/other/simpleenroll", "junk", "Content-Type: text/plain")),
		// Operations that we do not have.
		no("simplereenroll", 401, "client certificate is required", post("/.well-known/est/simplereenroll", body, pkcs10, basic)),
		no("fullcmc", 501, "fullcmc", post("/.well-known/est/device/fullcmc", body, pkcs10, basic)),
		no("serverkeygen", 501, "serverkeygen", post("/.well-known/est/serverkeygen", body, pkcs10, basic)),
		// Methods.
		no("GET simpleenroll", 405, "takes POST", get(enrolPath, basic)),
		no("PUT simpleenroll", 405, "takes POST", verb("PUT", enrolPath, "Content-Length: 0")),
		no("POST cacerts", 405, "takes GET, HEAD", post("/.well-known/est/cacerts", "x")),
		no("OPTIONS csrattrs", 405, "takes GET, HEAD", verb("OPTIONS", "/.well-known/est/csrattrs")),
		no("method of our own", 405, "takes POST", verb("ENROL", enrolPath)),
		// Type.
		no("no type", 415, "application/pkcs10", post(enrolPath, body, basic)),
		no("other type", 415, "application/pkcs10", post(enrolPath, body, "Content-Type: application/pkcs7-mime", basic)),
		no("curl's own type", 415, "application/pkcs10", post(enrolPath, body, "Content-Type: application/x-www-form-urlencoded", basic)),
		no("two types", 415, "application/pkcs10", post(enrolPath, body, pkcs10, pkcs10, basic)),
		no("type with a longer name", 415, "application/pkcs10", post(enrolPath, body, pkcs10+"0", basic)),
		no("gzip", 415, "Content-Encoding", post(enrolPath, body, pkcs10, basic, "Content-Encoding: gzip")),
		no("gzip behind identity", 415, "Content-Encoding", post(enrolPath, body, pkcs10, basic, "Content-Encoding: identity", "Content-Encoding: gzip")),
		// Size.
		no("declared too large, not sent", 413, "too large", "POST "+enrolPath+" HTTP/1.1\r\nHost: localhost\r\n"+pkcs10+"\r\nContent-Length: 10485760\r\n\r\n"),
		no("one octet too many", 413, "too large", post(enrolPath, strings.Repeat("A", 65537), pkcs10, basic)),
		no("chunks too large", 413, "too large", chunked(enrolPath, strings.Repeat("A", 70000), 7000, pkcs10, basic)),
		no("white space bomb", 413, "too large", chunked(enrolPath, body+strings.Repeat(" \r\n\t", 25000), 50000, pkcs10, basic)),
		no("DER too large", 413, "too large", post(enrolPath, "0"+strings.Repeat("x", 50000), pkcs10, basic)),
		// Content.
		no("empty", 400, "empty", post(enrolPath, "", pkcs10, basic)),
		no("only white space", 400, "empty", post(enrolPath, " \r\n", pkcs10, basic)),
		no("junk", 400, "base64", post(enrolPath, "@@@@", pkcs10, basic)),
		no("base64 of junk", 400, "", post(enrolPath, b64([]byte("junk")), pkcs10, basic)),
		no("cut", 400, "", post(enrolPath, b64(der[:len(der)-9]), pkcs10, basic)),
		no("octets behind the request", 400, "", post(enrolPath, b64(append(append([]byte(nil), der...), 0)), pkcs10, basic)),
		no("wrong signature", 400, "", post(enrolPath, b64(broken), pkcs10, basic)),
		no("certificate in PEM", 400, "CERTIFICATE REQUEST", post(enrolPath, "-----BEGIN CERTIFICATE-----\n"+body+"\n-----END CERTIFICATE-----\n", pkcs10, basic)),
		no("broken chunk", 400, "chunks", strings.Replace(chunked(enrolPath, body, 100, pkcs10, basic), "\r\n64\r\n", "\r\nzz\r\n", 1)),
		// The label's profile.
		no("key type of another label", 400, "a key of type rsa", post("/.well-known/est/bound/simpleenroll", rsaBody, pkcs10, basic)),
		no("RSA too small for the label", 400, "2048 bits", post("/.well-known/est/loose/simpleenroll", rsaBody, pkcs10, basic)),
		no("label without a profile", 404, "does not serve", post("/.well-known/est/one/simpleenroll", body, pkcs10, basic)),
		no("no binding where one is required", 400, "linking of identity and proof of possession is required", post("/.well-known/est/bound/simpleenroll", body, pkcs10, basic)),
		no("foreign binding", 400, "is not the base64 of this connection", post(enrolPath, b64(request(t, ecKey(t), "c2VjcmV0")), pkcs10, basic)),
		// Credential.
		no("no credential", 401, "Credentials are required", post(enrolPath, body, pkcs10)),
		no("Bearer", 401, "Credentials are required", post(enrolPath, body, pkcs10, "Authorization: Bearer abc")),
		no("Negotiate", 401, "Credentials are required", post(enrolPath, body, pkcs10, "Authorization: Negotiate YII=")),
		no("credential twice", 400, "more than one", post(enrolPath, body, pkcs10, basic, basic)),
		no("Basic without anything", 400, "base64", post(enrolPath, body, pkcs10, "Authorization: Basic")),
		no("bad request comes before the missing credential", 400, "", post(enrolPath, "junk", pkcs10)),
		// HTTP itself.
		no("no Host", 400, "Host", "GET /.well-known/est/cacerts HTTP/1.1\r\n\r\n"),
		no("header too large", 431, "", get("/.well-known/est/cacerts", "X: "+strings.Repeat("x", 90000))),
		no("length twice", 400, "", post(enrolPath, body, pkcs10, basic, "Content-Length: 1")),
		no("unknown transfer coding", 501, "", verb("POST", enrolPath, pkcs10, "Transfer-Encoding: gzip")),
		no("unknown expectation", 417, "", post(enrolPath, body, pkcs10, "Expect: miracle")),
		no("preface of HTTP/2", 404, "", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	}
}

func TestWire(t *testing.T) {
	der := request(t, ecKey(t), "")
	cases := append(acceptedCases(der), refusedCases(t, der)...)
	g := start(t, newBackend(t), 0)
	id := regexp.MustCompile(`\nRequest [A-Z2-7]{26}\n$`)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := g.authentications.Load()
			response, body := exchange(t, g.dial(t, nil), c.request)
			if response.StatusCode != c.status || !strings.Contains(body, c.text) {
				t.Fatalf("got %d %q, want %d with %q", response.StatusCode, body, c.status, c.text)
			}
			if asked := g.authentications.Load() - before; asked != c.asked {
				t.Errorf("the validator was asked %d times, not %d", asked, c.asked)
			}
			if c.status == 200 {
				checkLeaf(t, body, der)
				return
			}
			ours := response.Header.Get("X-Request-Id") != ""
			if kind := response.Header.Get("Content-Type"); ours && kind != "text/plain; charset=utf-8" {
				t.Errorf("Content-Type %q", kind)
			}
			if ours && c.status != 401 && !id.MatchString(body) {
				t.Errorf("the body does not end in the request id: %q", body)
			}
			if allow := response.Header.Get("Allow"); (allow != "") != (c.status == 405) {
				t.Errorf("Allow %q with %d", allow, c.status)
			}
		})
	}
	if len(cases) < 60 {
		t.Errorf("%d cases", len(cases))
	}
	if log := g.log.String(); strings.Contains(log, goodBasic) {
		t.Error("the log holds a credential")
	}
}

// checkLeaf wants a certs-only message with one certificate, for the key of the request.
func checkLeaf(t *testing.T, body string, csr []byte) {
	t.Helper()
	certificates, err := cmstest.Parse(unb64(t, body))
	if err != nil || len(certificates) != 1 {
		t.Fatalf("%d certificates, %v", len(certificates), err)
	}
	if !strings.Contains(string(csr), string(certificates[0].RawSubjectPublicKeyInfo)) {
		t.Error("the certificate is for another key")
	}
}
