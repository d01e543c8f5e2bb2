package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
)

// problem is an answer that is an error (RFC 9457).
type problem struct {
	status int
	detail string // for the client
	reason string // for the audit and the log alone; the detail where empty
	header http.Header
}

// Error returns the reason.
func (p *problem) Error() string {
	if p.reason != "" {
		return p.reason
	}
	return p.detail
}

func badRequest(format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, detail: fmt.Sprintf(format, args...)}
}

// problemOf returns what an error of a handler becomes. A kind that says that this process
// itself was refused is our own mistake, not the client's.
func problemOf(err error) *problem {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p
	}
	p := &problem{status: http.StatusInternalServerError, detail: "Internal error.", reason: err.Error()}
	switch fault.KindOf(err) {
	case fault.Malformed:
		p.status, p.detail = http.StatusBadRequest, fault.Public(err)
	case fault.NotFound:
		p.status, p.detail = http.StatusNotFound, fault.Public(err)
	case fault.Conflict:
		p.status, p.detail = http.StatusConflict, fault.Public(err)
	case fault.Busy:
		p.status, p.detail = http.StatusTooManyRequests, fault.Public(err)
		p.header = http.Header{"Retry-After": {retryAfter(fault.RetryAfter(err))}}
	case fault.Unavailable:
		p.status, p.detail = http.StatusServiceUnavailable, fault.Public(err)
		p.header = http.Header{"Retry-After": {retryAfter(fault.RetryAfter(err))}}
	}
	return p
}

// retryAfter returns the value of a Retry-After header (RFC 9110 section 10.2.3): whole
// seconds, at least one.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// write sends the problem document.
func (p *problem) write(w http.ResponseWriter, requestID string) {
	for name, values := range p.header {
		w.Header()[name] = values
	}
	writeJSON(w, p.status, "application/problem+json", struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id"`
	}{"about:blank", http.StatusText(p.status), p.status, p.detail, requestID})
}

// writeJSON sends body; nil sends a status alone.
func writeJSON(w http.ResponseWriter, status int, contentType string, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	encoded, err := json.Marshal(body)
	if err != nil { // not of the types in this package
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(encoded, '\n')) // a client that has gone away is no error of ours
}
