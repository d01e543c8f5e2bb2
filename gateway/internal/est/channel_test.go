package est_test

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
)

// The challengePassword is compared with the connection: TLS 1.2 and 1.3, first and resumed.
func TestChannelBinding(t *testing.T) {
	g := start(t, newBackend(t), 0)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(4)
		for _, resumed := range []bool{false, true} {
			name := tls.VersionName(version)
			conn := g.dial(t, func(c *tls.Config) { c.MaxVersion, c.ClientSessionCache = version, cache })
			// A request first: the tickets of TLS 1.3 come with its reply.
			if response, _ := exchange(t, conn, get("/.well-known/est/cacerts")); response.StatusCode != http.StatusOK {
				t.Fatalf("%s: cacerts %d", name, response.StatusCode)
			}
			state := conn.ConnectionState()
			if state.DidResume != resumed {
				t.Fatalf("%s: resumed %v, want %v", name, state.DidResume, resumed)
			}
			binding, err := accept.Binding(&state)
			if err != nil {
				t.Fatal(err)
			}
			if version == tls.VersionTLS12 && string(binding) != string(state.TLSUnique) {
				t.Errorf("%s: the binding is not tls-unique", name)
			}
			key := ecKey(t)
			for path, want := range map[string]int{"bound": 200, "device": 200} {
				response, body := exchange(t, conn, post("/.well-known/est/"+path+"/simpleenroll", b64(request(t, key, b64(binding))), pkcs10, basic))
				if response.StatusCode != want {
					t.Errorf("%s, resumed %v, %s: %d %s", name, resumed, path, response.StatusCode, body)
				}
			}
			// The same request on another connection is somebody's in the middle.
			other := g.dial(t, func(c *tls.Config) { c.MaxVersion = version })
			response, body := exchange(t, other, post("/.well-known/est/bound/simpleenroll", b64(request(t, key, b64(binding))), pkcs10, basic))
			if response.StatusCode != http.StatusBadRequest || !strings.Contains(body, "challengePassword") {
				t.Errorf("%s: binding of another connection: %d %s", name, response.StatusCode, body)
			}
			// Where it is ignored, it may be anything.
			if response, body = exchange(t, other, post("/.well-known/est/loose/simpleenroll", b64(request(t, key, "secret")), pkcs10, basic)); response.StatusCode != http.StatusOK {
				t.Errorf("%s: ignored: %d %s", name, response.StatusCode, body)
			}
			want := sha256.Sum256(g.server.Raw)
			if got := g.received().GetChannel(); string(got.GetServerEndPoint()) != string(want[:]) || got.GetTlsVersion() != uint32(version) {
				t.Errorf("%s: channel %v", name, got)
			}
			_ = conn.Close()
		}
	}
}

// libest's way: the 401 first, then the credential on the same connection.
func TestCredentialAfterChallenge(t *testing.T) {
	g := start(t, newBackend(t), 9*time.Second)
	conn := g.dial(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	body := b64(request(t, ecKey(t), ""))
	begin := time.Now()
	if _, err := io.WriteString(conn, post(enrolPath, body, pkcs10)); err != nil {
		t.Fatal(err)
	}
	// The octets, since libest looks at the case of the name.
	buf := make([]byte, 1<<14)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	reply := string(buf[:n])
	if !strings.HasPrefix(reply, "HTTP/1.1 401 Unauthorized\r\n") || !strings.Contains(reply, "\r\nWWW-Authenticate: Basic realm=\"estuary\"\r\n") {
		t.Errorf("%q", reply)
	}
	if time.Since(begin) > 8*time.Second {
		t.Error("a request without a credential was held")
	}
	if response, text := exchange(t, conn, post(enrolPath, body, pkcs10, basic)); response.StatusCode != http.StatusOK {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// A client that asks before it sends gets its answer before it has sent (RFC 9110 section 10.1.1).
func TestExpectContinue(t *testing.T) {
	g := start(t, newBackend(t), 0)
	body := b64(request(t, ecKey(t), ""))
	whole := post(enrolPath, body, pkcs10, basic, "Expect: 100-continue")
	conn := g.dial(t, nil)
	in := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, strings.TrimSuffix(whole, body)); err != nil {
		t.Fatal(err)
	}
	first, err := http.ReadResponse(in, nil)
	if err != nil || first.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v", first, err)
	}
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	if response, text := readResponse(t, in, false); response.StatusCode != http.StatusOK {
		t.Errorf("%d %s", response.StatusCode, text)
	}
	// Refused without the body having been asked for.
	response, text := exchange(t, g.dial(t, nil), "POST "+enrolPath+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
	if response.StatusCode != http.StatusUnsupportedMediaType || !response.Close {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// A body that does not come in time ends its request, whoever waits.
func TestSlowBody(t *testing.T) {
	g := startReading(t, newBackend(t), 0, time.Second)
	conn := g.dial(t, nil)
	begin := time.Now()
	head := strings.TrimSuffix(post(enrolPath, strings.Repeat("A", 1000), pkcs10, basic), strings.Repeat("A", 1000))
	response, text := exchange(t, conn, head+"A")
	if took := time.Since(begin); response.StatusCode != http.StatusRequestTimeout || !response.Close || took > 8*time.Second {
		t.Errorf("%d %s after %s", response.StatusCode, text, took)
	}
	if n := g.authentications.Load(); n != 0 {
		t.Errorf("the validator was asked %d times", n)
	}
}
