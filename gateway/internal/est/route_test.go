package est_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/est"
)

func TestCheckLabel(t *testing.T) {
	for label, good := range map[string]bool{
		"device": true, "a": true, "A-1_b.c~d": true, strings.Repeat("a", 64): true,
		"": false, "a/b": false, "a b": false, "ä": false, "%41": false, strings.Repeat("a", 65): false,
		".": false, "..": false, "cacerts": false, "CACerts": false, "simpleenroll": false, "fullcmc": false,
		"serverkeygen": false, "csrattrs": false, "simplereenroll": false, "pal": false, "crls": false,
		"eecerts": false, "symmetrickeys": false, "firmware": false, "tamp": false, "renewal-info": false,
	} {
		if err := est.CheckLabel(label); (err == nil) != good {
			t.Errorf("%q: %v", label, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := est.New(est.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

// Whatever the path, the handler answers, and only with a chain at the paths it names.
func FuzzRoute(f *testing.F) {
	for _, path := range []string{
		"/.well-known/est/cacerts", "/.well-known/est/device/cacerts", "/.well-known/est/%63acerts",
		"/.well-known/est/device%2fcacerts", "//", "/.well-known/est/../est/cacerts", "/%", "*", "/.well-known/est/cacerts/",
	} {
		f.Add(path)
	}
	h := newHandler(f, newBackend(f), time.Second, io.Discard)
	f.Fuzz(func(t *testing.T, path string) {
		label, name, ok := est.ParsePath(path)
		if ok != (name != "") || strings.ContainsAny(label+name, "/%\x00 \r\n") {
			t.Fatalf("%q became %q, %q, %v", path, label, name, ok)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		u, err := r.URL.Parse(path)
		if err != nil || u.EscapedPath() != path {
			return // net/http would not have passed it on as it is
		}
		r.URL = u
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if good := ok && name == "cacerts" && (label == "" || label == "device" || label == "bound" || label == "loose" || label == "one"); good != (w.Code == 200 && w.Body.Len() > 100) {
			t.Fatalf("%q, %q and %q: %d %s", path, label, name, w.Code, w.Body)
		}
	})
}
