package csr

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/estuary-pki/estuary/services/fault"
)

// ErrTooLarge is in the chain of an error for a body or a request above its limit, so that
// the gateway can answer 413.
var ErrTooLarge = errors.New("too large")

// refusal is a broken rule. Its text is ours and may be shown to a client: what it repeats
// of the request went through quote.
type refusal struct {
	public string
	cause  error
}

func (r *refusal) Error() string { return r.public }

// refuse returns a refusal with its text; it ends with the section that sets the rule.
func refuse(format string, args ...any) error {
	return &refusal{public: fmt.Sprintf(format, args...)}
}

// malformed turns a refusal into the error that leaves the package.
func malformed(op string, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return fault.New(fault.Internal, op, "", err)
	}
	return fault.New(fault.Malformed, op, r.public, r.cause)
}

// within puts the name of a part of the request in front of a refusal; no error stays none.
func within(part string, err error) error {
	if err == nil {
		return nil
	}
	var r *refusal
	if !errors.As(err, &r) {
		return fmt.Errorf("%s: %w", part, err)
	}
	return &refusal{public: part + ": " + r.public, cause: r.cause}
}

// quote shows a piece of the request in ASCII, cut to 64 octets.
func quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.QuoteToASCII(s)
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "…"
}
