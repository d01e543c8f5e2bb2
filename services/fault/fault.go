// Package fault holds the errors that cross a process border: a kind, and the only text
// that a client may see.
//
// Every service makes them; mesh carries them over gRPC; gateway/problem turns the kind
// into an HTTP status.
package fault

import (
	"context"
	"errors"
	"time"
)

// Kind is what went wrong, as far as another process has to know. A Kind is an error of
// its own, so that errors.Is(err, fault.Forbidden) works on both sides of the wire.
type Kind uint8

// The kinds. Their numbers are never reordered.
const (
	// Malformed: the request breaks a rule of its format.
	Malformed Kind = 1
	// Unauthenticated: the credential was refused.
	Unauthenticated Kind = 2
	// Forbidden: known, and not allowed.
	Forbidden Kind = 3
	// Conflict: the state has changed meanwhile.
	Conflict Kind = 4
	// Busy: too much at once; the same request may succeed later.
	Busy Kind = 5
	// Unavailable: nothing was decided; the same request may succeed later.
	Unavailable Kind = 6
	// Internal: our own mistake.
	Internal Kind = 7
	// NotFound: what an administration call names does not exist.
	NotFound Kind = 8
)

var kinds = map[Kind]struct{ reason, public string }{
	Malformed:       {"MALFORMED", "the request is malformed"},
	Unauthenticated: {"UNAUTHENTICATED", "the credential was refused"},
	Forbidden:       {"FORBIDDEN", "not allowed"},
	Conflict:        {"CONFLICT", "the state has changed meanwhile"},
	Busy:            {"BUSY", "too many requests at once"},
	Unavailable:     {"UNAVAILABLE", "the service is not available at the moment"},
	Internal:        {"INTERNAL", "internal error"},
	NotFound:        {"NOT_FOUND", "not found"},
}

// String returns the kind's name as it travels, or "UNKNOWN".
func (k Kind) String() string {
	if v, ok := kinds[k]; ok {
		return v.reason
	}
	return "UNKNOWN"
}

// Error returns the same as String.
func (k Kind) Error() string { return k.String() }

// Error is a failure with its kind.
type Error struct {
	// Kind decides what the client is told.
	Kind Kind
	// Op is where it happened, "package.Function".
	Op string
	// Public is the only text that a client may see; empty for the kind's own.
	Public string
	// RetryAfter is when the client may come again; used with Busy and Unavailable, where
	// zero leaves the choice to the gateway.
	RetryAfter time.Duration
	// Err is the cause. It stays in this process: log and audit.
	Err error
}

// New returns an error of the kind. The cause may be nil.
func New(kind Kind, op, public string, cause error) *Error {
	return &Error{Kind: kind, Op: op, Public: public, Err: cause}
}

// Error returns operation, kind, public text and cause: for logs, never for clients.
func (e *Error) Error() string {
	s := e.Op + ": " + e.Kind.String()
	if e.Public != "" {
		s += ": " + e.Public
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is tells whether target is this error's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf returns the kind of err: Unavailable for an ended context, Internal for an error
// without one, and 0 for nil.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unavailable
	}
	return Internal
}

// Public returns the text for the client: the error's own, or a fixed one for its kind.
func Public(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Public != "" {
		return e.Public
	}
	return kinds[KindOf(err)].public
}

// RetryAfter returns when the client may come again, 0 when the error does not say.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
