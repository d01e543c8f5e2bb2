package est_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/est"
	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

// recorder takes a reply without a connection, for tests whose time is not real.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetReadDeadline(time.Time) error { return nil }

// enrol passes a good request with this Authorization header to the handler.
func enrol(ctx context.Context, h *est.Handler, der []byte, authorization string) (*http.Response, string) {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, enrolPath, strings.NewReader(b64(der)))
	r.Header.Set("Content-Type", "application/pkcs10")
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := recorder{httptest.NewRecorder()}
	h.ServeHTTP(w, r)
	response := w.Result()
	body, _ := io.ReadAll(response.Body) // from memory
	return response, string(body)
}

// However the credential is refused, and by whom, the client sees the same at the same time.
func TestRefusalsAreAlike(t *testing.T) {
	der := request(t, ecKey(t), "")
	refuse := func(public string, after time.Duration) error {
		time.Sleep(after)
		return fault.New(fault.Unauthenticated, "test", public, errors.New("cause"))
	}
	cases := map[string]func(b *backend){
		"unknown": func(b *backend) {
			b.authenticate = func(*validatorv1.AuthenticateRequest) error { return refuse("unknown", 0) }
		},
		"expired, a little later": func(b *backend) {
			b.authenticate = func(*validatorv1.AuthenticateRequest) error { return refuse("expired", 40*time.Millisecond) }
		},
		"slow back end": func(b *backend) {
			b.authenticate = func(*validatorv1.AuthenticateRequest) error { return refuse("", 1200*time.Millisecond) }
		},
		"used up, says the signer": func(b *backend) {
			b.issue = func(*signerv1.IssueRequest) error { return refuse("used", 700*time.Millisecond) }
		},
	}
	var first string
	try := func(name, authorization string, change func(b *backend)) {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend(t)
			b.profiles[0].Methods = []assertionv1.Method{assertionv1.Method_METHOD_TOKEN, assertionv1.Method_METHOD_NEGOTIATE}
			b.ticket = []byte{0xa1, 0x00, 0xff}
			change(b)
			h := newHandler(t, b, 1500*time.Millisecond, io.Discard)
			time.Sleep(130 * time.Millisecond)
			start := time.Now()
			response, body := enrol(t.Context(), h, der, authorization)
			if took := time.Since(start); took != 1870*time.Millisecond {
				t.Errorf("%s: after %s, not on the tick behind 1.5 s", name, took)
			}
			id := response.Header.Get("X-Request-Id")
			response.Header.Set("X-Request-Id", fmt.Sprint(len(id)))
			all := fmt.Sprint(response.StatusCode, response.Header, body)
			if first == "" {
				first = all
			}
			if diff := cmp.Diff(first, all); diff != "" || response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", name, response.StatusCode, diff)
			}
		})
	}
	for name, change := range cases {
		try(name, "Basic "+goodBasic, change)
		try(name+", a ticket", "Negotiate "+goodTicket, change)
	}
}

// What is no refusal of a credential is answered at once.
func TestNoFloor(t *testing.T) {
	der := request(t, ecKey(t), "")
	fail := func(kind fault.Kind) func(*validatorv1.AuthenticateRequest) error {
		return func(*validatorv1.AuthenticateRequest) error { return fault.New(kind, "test", "", nil) }
	}
	cases := []struct {
		name, authorization string
		authenticate        func(*validatorv1.AuthenticateRequest) error
		status              int
	}{
		{"no credential", "", nil, 401},
		{"scheme that is not served", "Bearer x", nil, 401},
		{"good", "Basic " + goodBasic, nil, 200},
		{"forbidden", "Basic " + goodBasic, fail(fault.Forbidden), 403},
		{"busy", "Basic " + goodBasic, fail(fault.Busy), 429},
		{"unavailable", "Basic " + goodBasic, fail(fault.Unavailable), 503},
		{"malformed", "Basic " + goodBasic, fail(fault.Malformed), 400},
		{"internal", "Basic " + goodBasic, fail(fault.Internal), 500},
		{"panic", "Basic " + goodBasic, func(*validatorv1.AuthenticateRequest) error { panic("ouch") }, 500},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend(t)
			b.authenticate = c.authenticate
			h := newHandler(t, b, 1500*time.Millisecond, io.Discard)
			start := time.Now()
			response, body := enrol(t.Context(), h, der, c.authorization)
			if response.StatusCode != c.status || time.Since(start) != 0 {
				t.Errorf("%s: %d after %s: %s", c.name, response.StatusCode, time.Since(start), body)
			}
			if after := response.Header.Get("Retry-After"); (after != "") != (c.status == 429 || c.status == 503) {
				t.Errorf("%s: Retry-After %q", c.name, after)
			}
			if strings.Contains(body, "ouch") {
				t.Errorf("%s: %s", c.name, body)
			}
		})
	}
}

// A client that leaves is not held for.
func TestHoldEndsWithTheRequest(t *testing.T) {
	der := request(t, ecKey(t), "")
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, newBackend(t), 1500*time.Millisecond, io.Discard)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		start := time.Now()
		enrol(ctx, h, der, "Basic wrong")
		if took := time.Since(start); took != 400*time.Millisecond {
			t.Errorf("held for %s", took)
		}
	})
}

// A taken signer cannot make a client keep a certificate for another key.
func TestForeignCertificate(t *testing.T) {
	b := newBackend(t)
	other := request(t, ecKey(t), "")
	b.issue = func(r *signerv1.IssueRequest) error { r.CsrDer = other; return nil }
	h := newHandler(t, b, 0, io.Discard)
	if response, body := enrol(t.Context(), h, request(t, ecKey(t), ""), "Basic "+goodBasic); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestLogLine(t *testing.T) {
	var log bytes.Buffer
	h := newHandler(t, newBackend(t), 0, &log)
	response, _ := enrol(t.Context(), h, request(t, ecKey(t), ""), "Basic "+goodBasic)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil || len(lines) != 1 {
		t.Fatalf("%d lines, %v: %s", len(lines), err, log.String())
	}
	for name, want := range map[string]any{
		"status": 200.0, "op": "simpleenroll", "label": "device", "address": "192.0.2.1",
		"request_id": response.Header.Get("X-Request-Id"), "method": "POST",
	} {
		if line[name] != want {
			t.Errorf("%s is %v, not %v", name, line[name], want)
		}
	}
	if took, ok := line["took"].(float64); !ok || took <= 0 || line["bytes"].(float64) < 100 {
		t.Errorf("took %v, bytes %v", line["took"], line["bytes"])
	}
}

// The client goes while the real server waits: the hold ends with the connection.
func TestDisconnectEndsTheHold(t *testing.T) {
	var held atomic.Bool
	b := newBackend(t)
	b.authenticate = func(*validatorv1.AuthenticateRequest) error {
		held.Store(true)
		return fault.New(fault.Unauthenticated, "test", "", nil)
	}
	g := start(t, b, 9*time.Second)
	conn := g.dial(t, nil)
	if _, err := io.WriteString(conn, post(enrolPath, b64(request(t, ecKey(t), "")), pkcs10, basic)); err != nil {
		t.Fatal(err)
	}
	for !held.Load() {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	_ = conn.Close()
	for !strings.Contains(g.log.String(), `"status":401`) {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("still held five seconds after the client has gone")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// The time that a request has to arrive in (a second here) does not end its handler.
func TestSlowValidator(t *testing.T) {
	b := newBackend(t)
	b.authenticate = func(*validatorv1.AuthenticateRequest) error { time.Sleep(1500 * time.Millisecond); return nil }
	g := startReading(t, b, 0, time.Second)
	response, body := exchange(t, g.dial(t, nil), post(enrolPath, b64(request(t, ecKey(t), "")), pkcs10, basic))
	if response.StatusCode != http.StatusOK {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

// While every place for the verifying of signatures is taken, an enrolment waits and is told
// to come again, without having cost its credential; everything else is answered.
func TestVerifyingIsBounded(t *testing.T) {
	der := request(t, ecKey(t), "")
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		h := newHandler(t, b, 1500*time.Millisecond, io.Discard)
		h.OccupyVerifying()
		response, body := enrol(t.Context(), h, der, "Basic "+goodBasic)
		if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") == "" || b.received() != nil {
			t.Errorf("%d %s, validator asked: %t", response.StatusCode, body, b.received() != nil)
		}
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/.well-known/est/cacerts", nil))
		if recorder.Code != http.StatusOK {
			t.Errorf("/cacerts: %d", recorder.Code)
		}
	})
}
