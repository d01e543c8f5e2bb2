// Package problem turns errors into HTTP replies: it holds the one table from fault kind
// to status, and the delay of refused credentials.
//
// est calls it for every reply that is not a success. A body is plain text for people
// (RFC 7030 section 4.2.3) and holds nothing but what fault calls public.
package problem

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
)

// The values of WWW-Authenticate. Each stands in a field of its own, Basic first: libest looks
// at the first field alone, and gives up when that is not Basic, Digest or Bearer. curl and
// browsers take the strongest that they can, wherever it stands.
const (
	// Basic has a realm and nothing else: libest and strongSwan read it with a few lines of
	// code of their own, and RFC 7617 section 2.1 leaves charset to the server.
	Basic = `Basic realm="estuary"`
	// Negotiate (RFC 4559 section 4.1) has nothing behind it, or a token.
	Negotiate = "Negotiate"
	// Certificate is what a client is asked for that can only come with a certificate in TLS. A
	// 401 has to hold a challenge (RFC 9110 section 15.5.2), and no registered scheme says that.
	Certificate = `ClientCertificate realm="estuary"`
)

// Authenticate names the field of the challenges. It is to be assigned, not Set: libest
// compares it with regard to case, and finds none in the Www-Authenticate that Set would write.
const Authenticate = "WWW-Authenticate"

// RequestIDHeader names the header that carries the request id. Ids are of one length, so
// that refusals stay alike.
const RequestIDHeader = "X-Request-Id"

// refused is the body of every 401 but those of refusedCertificate: it must not tell a missing credential from a wrong,
// expired or used one, nor one request from another. So everybody is told what helps those
// whose one-time code went to a server that did not answer.
const refused = "Credentials are required and were not offered, or were not accepted. A one-time code is good once: use the next one.\n"

// refusedCertificate is the body of every 401 of what takes a certificate alone.
const refusedCertificate = "A client certificate is required in TLS, and none was presented, or it was not accepted.\n"

// defaultRetry is told to clients where the error does not say when to come again.
const defaultRetry = 10 * time.Second

var statuses = map[fault.Kind]int{
	fault.Malformed:       http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Conflict:        http.StatusConflict,
	fault.Busy:            http.StatusTooManyRequests,
	fault.Unavailable:     http.StatusServiceUnavailable,
	fault.Internal:        http.StatusInternalServerError,
}

// Problem is a reply that is not a success. It is an error too, so that a check of HTTP
// itself can return one where the others return a *fault.Error.
type Problem struct {
	// Status is the HTTP status code, 400 to 599.
	Status int
	// Text is a sentence for the client; ignored with 401.
	Text string
	// Allow lists the methods of the resource, for 405 (RFC 9110 section 10.2.1).
	Allow string
	// RetryAfter goes with 429 and 503, rounded up to whole seconds.
	RetryAfter time.Duration
	// Challenges are the values of WWW-Authenticate, for 401; Basic where there is none.
	Challenges []string
	// Close ends the connection behind the reply, because the request was not read.
	Close bool
}

// Error returns status and text.
func (p *Problem) Error() string { return strconv.Itoa(p.Status) + ": " + p.Text }

// Of returns the reply for err: err's own when it is a *Problem, otherwise that of its
// fault kind. An error without a kind becomes 500 with a fixed text.
func Of(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	status, ok := statuses[fault.KindOf(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	return &Problem{Status: status, Text: fault.Public(err), RetryAfter: fault.RetryAfter(err)}
}

// Reply returns the header fields and the body of p. The request id ends every body but
// that of a 401.
func (p *Problem) Reply(requestID string) (http.Header, []byte) {
	h := http.Header{
		"Content-Type":           {"text/plain; charset=utf-8"},
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if p.Close {
		h.Set("Connection", "close")
	}
	switch p.Status {
	case http.StatusUnauthorized:
		h[Authenticate] = p.Challenges
		if len(p.Challenges) == 0 {
			h[Authenticate] = []string{Basic}
		}
		if slices.Equal(p.Challenges, []string{Certificate}) {
			return h, []byte(refusedCertificate)
		}
		return h, []byte(refused)
	case http.StatusMethodNotAllowed:
		h.Set("Allow", p.Allow)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		// Seconds, never a date: strongSwan reads integers only.
		h.Set("Retry-After", strconv.FormatInt(seconds(p.RetryAfter), 10))
	}
	return h, fmt.Appendf(nil, "%s\nRequest %s\n", p.Text, requestID)
}

// seconds rounds up to at least one; zero means that nobody said.
func seconds(d time.Duration) int64 {
	if d <= 0 {
		d = defaultRetry
	}
	return int64((d + time.Second - 1) / time.Second)
}
