package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/audit"
)

// hostile is a request that must not reach the validator or the signer.
type hostile struct {
	name   string
	method string // POST where empty
	path   string // /admin/otp where empty
	body   string
	header map[string]string // "" takes a header away
	twice  string            // header sent a second time
	status int
	detail string // part of the detail; anything where empty
}

var hostiles = []hostile{
	{name: "no credential", header: map[string]string{"Authorization": ""}, status: 401},
	{name: "unknown bearer", header: map[string]string{"Authorization": "Bearer estadm_x"}, status: 401},
	{name: "empty bearer", header: map[string]string{"Authorization": "Bearer "}, status: 401},
	{name: "bearer without token", header: map[string]string{"Authorization": "Bearer"}, status: 401},
	{name: "token without scheme", header: map[string]string{"Authorization": "FULL"}, status: 401},
	{name: "basic", header: map[string]string{"Authorization": "Basic eDp5"}, status: 401},
	{name: "basic with the token", header: map[string]string{"Authorization": "Basic FULL"}, status: 401},
	{name: "two blanks", header: map[string]string{"Authorization": "Bearer  FULL"}, status: 401},
	{name: "token and more", header: map[string]string{"Authorization": "Bearer FULLx"}, status: 401},
	{name: "token in upper case", header: map[string]string{"Authorization": "Bearer UPPER"}, status: 401},
	{name: "hash instead of token", header: map[string]string{"Authorization": "Bearer HASH"}, status: 401},
	{name: "two credentials", twice: "Authorization", status: 401},
	{name: "token in the query", path: "/admin/otp?access_token=FULL", header: map[string]string{"Authorization": ""}, status: 401},
	{name: "unknown path without credential", path: "/x", header: map[string]string{"Authorization": ""}, status: 401},
	{name: "scope missing for create", header: map[string]string{"Authorization": "Bearer READER"}, status: 403, detail: "otp:write"},
	{name: "scope missing for revoke", method: "DELETE", path: "/admin/otp/" + tokenID, header: map[string]string{"Authorization": "Bearer READER"}, status: 403, detail: "otp:write"},
	{name: "scope missing for certificates", method: "GET", path: "/admin/certs", header: map[string]string{"Authorization": "Bearer READER"}, status: 403, detail: "certs:read"},
	{name: "another site", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403},
	{name: "another origin", header: map[string]string{"Origin": "https://evil.test"}, status: 403},

	{name: "root", method: "GET", path: "/", status: 404},
	{name: "est", method: "GET", path: "/.well-known/est/cacerts", status: 404},
	{name: "slash behind", method: "GET", path: "/admin/otp/", status: 404},
	{name: "two slashes", method: "GET", path: "/admin//otp", status: 404},
	{name: "dots", method: "GET", path: "/admin/x/../otp", status: 404},
	{name: "encoded path", method: "GET", path: "/admin/%6ftp", status: 404},
	{name: "encoded slash in id", method: "DELETE", path: "/admin/otp/a%2fb", status: 404},
	{name: "below an id", method: "DELETE", path: "/admin/otp/" + tokenID + "/x", status: 404},
	{name: "id too short", method: "DELETE", path: "/admin/otp/abc", status: 404},
	{name: "id in upper case", method: "DELETE", path: "/admin/otp/" + strings.ToUpper(tokenID), status: 404},
	{name: "serial not hexadecimal", method: "GET", path: "/admin/certs/xyz", status: 404},
	{name: "serial too long", method: "GET", path: "/admin/certs/" + strings.Repeat("0", 41), status: 404},

	{name: "put", method: "PUT", status: 405},
	{name: "delete all", method: "DELETE", status: 405},
	{name: "get of one token", method: "GET", path: "/admin/otp/" + tokenID, status: 405},
	{name: "revocation by GET", method: "GET", path: "/admin/certs/1/revoke", status: 405},
	{name: "revocation of nothing", method: "POST", path: "/admin/certs//revoke", status: 404},
	{name: "revocation behind a slash", method: "POST", path: "/admin/certs/1/2/revoke", status: 404},
	{name: "status unknown", method: "GET", path: "/admin/certs?status=good", status: 400},
	{name: "time that is none", method: "GET", path: "/admin/certs?expires_before=tomorrow", status: 400},
	{name: "delete of a certificate", method: "DELETE", path: "/admin/certs/1", status: 405},
	{name: "post to health", path: "/admin/health", status: 405},
	{name: "options", method: "OPTIONS", status: 405},
	{name: "trace", method: "TRACE", status: 405},
	{name: "made up method", method: "GETS", status: 405},
	{name: "method in lower case", method: "post", status: 405},

	{name: "no type", header: map[string]string{"Content-Type": ""}, body: `{"client_id":"x"}`, status: 415},
	{name: "form", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, body: "client_id=x", status: 415},
	{name: "text", header: map[string]string{"Content-Type": "text/plain"}, body: `{"client_id":"x"}`, status: 415},
	{name: "suffix", header: map[string]string{"Content-Type": "application/vnd.x+json"}, body: `{"client_id":"x"}`, status: 415},
	{name: "charset", header: map[string]string{"Content-Type": "application/json; charset=latin1"}, body: `{"client_id":"x"}`, status: 415},
	{name: "parameter", header: map[string]string{"Content-Type": "application/json; x=y"}, body: `{"client_id":"x"}`, status: 415},
	{name: "broken type", header: map[string]string{"Content-Type": "application/json;;;="}, body: `{"client_id":"x"}`, status: 415},
	{name: "two types", twice: "Content-Type", body: `{"client_id":"x"}`, status: 415},
	{name: "compressed", header: map[string]string{"Content-Encoding": "gzip"}, body: `{"client_id":"x"}`, status: 415},
	{name: "too large", body: `{"client_id":"` + strings.Repeat("x", 16<<10) + `"}`, status: 413},
	{name: "blanks too large", body: strings.Repeat(" ", 16<<10) + `{}`, status: 413},

	{name: "empty", status: 400},
	{name: "null", body: "null", status: 400},
	{name: "list", body: `[{"client_id":"x"}]`, status: 400},
	{name: "string", body: `"x"`, status: 400},
	{name: "cut off", body: `{"client_id":"x"`, status: 400},
	{name: "cut off in a value", body: `{"client_id":`, status: 400},
	{name: "comma behind", body: `{"client_id":"x",}`, status: 400},
	{name: "two objects", body: `{"client_id":"x"}{"client_id":"y"}`, status: 400},
	{name: "junk behind", body: `{"client_id":"x"}]`, status: 400},
	{name: "not UTF-8", body: "{\"client_id\":\"\xff\"}", status: 400, detail: "UTF-8"},
	{name: "unknown field", body: `{"client_id":"x","created_by":"me"}`, status: 400, detail: `no field "created_by"`},
	{name: "field in another case", body: `{"Client_ID":"x"}`, status: 400, detail: `no field "Client_ID"`},
	{name: "field twice", body: `{"client_id":"x","client_id":"y"}`, status: 400, detail: "twice"},
	{name: "field twice, escaped", body: `{"client_id":"x","client\u005fid":"y"}`, status: 400, detail: "twice"},
	{name: "client missing", body: `{}`, status: 400, detail: "client_id"},
	{name: "client empty", body: `{"client_id":""}`, status: 400, detail: "client_id"},
	{name: "client null", body: `{"client_id":null}`, status: 400, detail: "wrong type"},
	{name: "client a number", body: `{"client_id":7}`, status: 400, detail: "wrong type"},
	{name: "uses zero", body: `{"client_id":"x","max_uses":0}`, status: 400, detail: "max_uses"},
	{name: "uses null", body: `{"client_id":"x","max_uses":null}`, status: 400, detail: "max_uses"},
	{name: "uses negative", body: `{"client_id":"x","max_uses":-1}`, status: 400, detail: "max_uses"},
	{name: "uses a fraction", body: `{"client_id":"x","max_uses":1.5}`, status: 400, detail: "max_uses"},
	{name: "uses a string", body: `{"client_id":"x","max_uses":"1"}`, status: 400, detail: "max_uses"},
	{name: "uses too many", body: `{"client_id":"x","max_uses":4294967296}`, status: 400, detail: "max_uses"},
	{name: "expired", body: `{"client_id":"x","expires_at":"2030-01-31T12:00:00Z"}`, status: 400, detail: "in the past"},
	{name: "date alone", body: `{"client_id":"x","expires_at":"2031-01-31"}`, status: 400, detail: "RFC 3339"},
	{name: "no zone", body: `{"client_id":"x","expires_at":"2031-01-31T12:00:00"}`, status: 400, detail: "RFC 3339"},
	{name: "seconds", body: `{"client_id":"x","expires_at":1927540800}`, status: 400, detail: "wrong type"},
	{name: "key too short", body: `{"client_id":"x","required_spki_sha256":"00"}`, status: 400, detail: "64 hexadecimal"},
	{name: "key empty", body: `{"client_id":"x","required_spki_sha256":""}`, status: 400, detail: "64 hexadecimal"},
	{name: "key in base64", body: `{"client_id":"x","required_spki_sha256":"` + strings.Repeat("z", 64) + `"}`, status: 400, detail: "64 hexadecimal"},
	{name: "names a string", body: `{"client_id":"x","names":"dns:a.test"}`, status: 400, detail: "names"},
	{name: "name null", body: `{"client_id":"x","names":[null]}`, status: 400, detail: "names"},
	{name: "name without type", body: `{"client_id":"x","names":["a.test"]}`, status: 400, detail: "element 0"},
	{name: "name of another type", body: `{"client_id":"x","names":["dns:a.test","dirname:3000"]}`, status: 400, detail: "element 1"},
	{name: "name with control character", body: `{"client_id":"x","names":["dns:a\u0000.test"]}`, status: 400, detail: "element 0"},
	{name: "too many names", body: `{"client_id":"x","names":["dns:a.test"` + strings.Repeat(`,"dns:a.test"`, 32) + `]}`, status: 400, detail: "32"},
	{name: "parameter on post", path: "/admin/otp?x=1", body: `{"client_id":"x"}`, status: 400},

	{name: "body on get", method: "GET", body: "{}", status: 400},
	{name: "body on delete", method: "DELETE", path: "/admin/otp/" + tokenID, body: "{}", status: 400},
	{name: "limit zero", method: "GET", path: "/admin/otp?limit=0", status: 400},
	{name: "limit negative", method: "GET", path: "/admin/otp?limit=-1", status: 400},
	{name: "limit too large", method: "GET", path: "/admin/otp?limit=201", status: 400},
	{name: "limit a word", method: "GET", path: "/admin/certs?limit=all", status: 400},
	{name: "limit twice", method: "GET", path: "/admin/otp?limit=1&limit=2", status: 400},
	{name: "limit empty", method: "GET", path: "/admin/otp?limit=", status: 400},
	{name: "page too long", method: "GET", path: "/admin/otp?page=" + strings.Repeat("x", 513), status: 400},
	{name: "unknown parameter", method: "GET", path: "/admin/otp?clientid=x", status: 400},
	{name: "filter of another list", method: "GET", path: "/admin/otp?status=valid", status: 400},
	{name: "broken query", method: "GET", path: "/admin/otp?page=%zz", status: 400},
	{name: "semicolon in query", method: "GET", path: "/admin/otp?page=1;limit=2", status: 400},
	{name: "parameter on revoke", method: "DELETE", path: "/admin/otp/" + tokenID + "?all=1", status: 400},
	{name: "parameter on a certificate", method: "GET", path: "/admin/certs/1?pem=1", status: 400},
	{name: "parameter on health", method: "GET", path: "/admin/health?deep=1", status: 400},
}

func TestHostileRequests(t *testing.T) {
	r := start(t, nil)
	client := r.client(t, nil)
	secrets := strings.NewReplacer("FULL", r.full, "READER", r.reader, "UPPER", strings.ToUpper(r.full),
		"HASH", r.api.BearerToken.Tokens[0].TokenHash.String())
	for _, h := range hostiles {
		t.Run(h.name, func(t *testing.T) {
			a := send(t, client, h.request(t, r, secrets))
			if a.status != h.status {
				t.Fatalf("%d %s, want %d", a.status, a.body, h.status)
			}
			h.checkAnswer(t, r, a)
			records := r.audit.take()
			if len(records) != 1 || records[0].Outcome != audit.Refused || records[0].Reason == "" ||
				records[0].RequestID != a.header.Get("X-Request-Id") || records[0].Address != "127.0.0.1" {
				t.Fatalf("audit: %+v", records)
			}
			if known := records[0].Actor != ""; known != (h.status != 401 && h.header["Sec-Fetch-Site"]+h.header["Origin"] == "") {
				t.Errorf("actor %q", records[0].Actor)
			}
		})
	}
	if calls := r.calls(); len(calls) > 0 {
		t.Errorf("%d calls went through to the services", len(calls))
	}
}

func (h hostile) request(t *testing.T, r *rig, secrets *strings.Replacer) *http.Request {
	t.Helper()
	method, path := "POST", "/admin/otp"
	if h.method != "" {
		method = h.method
	}
	if h.path != "" {
		path = secrets.Replace(h.path)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(h.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.full)
	if method == "POST" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range h.header {
		request.Header.Del(name)
		if value != "" {
			request.Header.Set(name, secrets.Replace(value))
		}
	}
	if h.twice != "" {
		request.Header.Add(h.twice, request.Header.Get(h.twice))
	}
	return request
}

func (h hostile) checkAnswer(t *testing.T, r *rig, a answer) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type":            "application/problem+json",
		"Cache-Control":           "no-store",
		"X-Content-Type-Options":  "nosniff",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := a.header.Get("WWW-Authenticate"); (got == `Bearer realm="estuary admin"`) != (h.status == 401) {
		t.Errorf("WWW-Authenticate: %q", got)
	}
	if got := a.header.Get("Allow"); (got != "") != (h.status == 405) {
		t.Errorf("Allow: %q", got)
	}
	p := a.object(t)
	detail, _ := p["detail"].(string)
	if p["type"] != "about:blank" || p["status"] != float64(h.status) || p["title"] != http.StatusText(h.status) ||
		p["request_id"] != a.header.Get("X-Request-Id") || p["request_id"] == "" || detail == "" || !strings.Contains(detail, h.detail) {
		t.Errorf("problem %s, want a detail with %q", a.body, h.detail)
	}
	if strings.Contains(a.body, r.full) {
		t.Error("the answer shows the bearer token")
	}
}

// TestAllow names the methods of every path.
func TestAllow(t *testing.T) {
	r := start(t, nil)
	for path, want := range map[string]string{
		"/admin/otp":            "GET, HEAD, POST",
		"/admin/otp/" + tokenID: "DELETE",
		"/admin/certs":          "GET, HEAD",
		"/admin/certs/1":        "GET, HEAD",
		"/admin/certs/1/revoke": "POST",
		"/admin/openapi.json":   "GET, HEAD",
		"/admin/health":         "GET, HEAD",
	} {
		if got := r.ask(t, "PATCH", path, r.full, "").header.Get("Allow"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
