package problem_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/problem"
	"github.com/estuary-pki/estuary/services/fault"
)

const id = "0123456789abcdef"

func TestTable(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Malformed: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404,
		fault.Conflict: 409, fault.Busy: 429, fault.Unavailable: 503, fault.Internal: 500,
	}
	for kind := fault.Malformed; kind <= fault.NotFound; kind++ {
		err := fmt.Errorf("enrolling: %w", fault.New(kind, "x.Y", "said in public", errors.New("secret cause")))
		p := problem.Of(err)
		if p.Status != want[kind] {
			t.Errorf("%s is %d, not %d", kind, p.Status, want[kind])
		}
		h, body := p.Reply(id)
		text := string(body)
		if kind != fault.Unauthenticated && text != "said in public\nRequest "+id+"\n" {
			t.Errorf("%s: body %q", kind, text)
		}
		if strings.Contains(text, "secret") || h.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %q %v", kind, text, h)
		}
		if _, ok := h["Retry-After"]; ok != (p.Status == 429 || p.Status == 503) {
			t.Errorf("%s: Retry-After there: %v", kind, ok)
		}
	}
}

func TestErrorWithoutKind(t *testing.T) {
	p := problem.Of(errors.New("dialling 10.0.0.1"))
	if _, body := p.Reply(id); p.Status != 500 || strings.Contains(string(body), "10.0.0.1") {
		t.Errorf("%d %q", p.Status, body)
	}
	own := &problem.Problem{Status: http.StatusUnsupportedMediaType, Text: "x"}
	if got := problem.Of(fmt.Errorf("checking: %w", own)); got != own {
		t.Errorf("got %v", got)
	}
}

// Every 401 is the same, whatever its cause.
func TestRefusalsAreAlike(t *testing.T) {
	h1, b1 := problem.Of(fault.New(fault.Unauthenticated, "a", "expired", nil)).Reply(id)
	h2, b2 := problem.Of(fault.New(fault.Unauthenticated, "b", "", errors.New("c"))).Reply("another id")
	if diff := cmp.Diff(h1, h2); diff != "" || string(b1) != string(b2) {
		t.Errorf("headers %s, bodies %q %q", diff, b1, b2)
	}
	// The exact case, which a canonical lookup would not see.
	got := h1["WWW-Authenticate"] //nolint:staticcheck // its case is the matter
	if len(got) != 1 || got[0] != `Basic realm="estuary"` {
		t.Errorf("WWW-Authenticate %q in %v", got, h1)
	}
}

func TestRetryAfterIsWholeSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "10", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", time.Hour: "3600",
	} {
		h, _ := problem.Of(&fault.Error{Kind: fault.Busy, RetryAfter: d}).Reply(id)
		if got := h.Get("Retry-After"); got != want {
			t.Errorf("%s: %q, not %q", d, got, want)
		}
	}
}

func TestMethodAndClose(t *testing.T) {
	h, _ := (&problem.Problem{Status: 405, Allow: "GET, HEAD", Close: true}).Reply(id)
	if h.Get("Allow") != "GET, HEAD" || h.Get("Connection") != "close" {
		t.Errorf("%v", h)
	}
	if h, _ := (&problem.Problem{Status: 400, Allow: "GET"}).Reply(id); h.Get("Allow") != "" || h.Get("Connection") != "" {
		t.Errorf("%v", h)
	}
}
