// Package secret holds octets that must not be printed: passwords, tokens and keys.
//
// Whoever takes a secret out of a message or a file wraps it here at once, because
// protobuf's debug_redact is not honoured when a message is printed.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const placeholder = "[secret]"

// Bytes is a secret. Under every verb, in slog, JSON and text it prints as "[secret]".
// The zero value is an empty secret.
type Bytes struct {
	b []byte
}

// New wraps b without copying it: the caller gives b away.
func New(b []byte) Bytes { return Bytes{b: b} }

// Take moves a secret out of a message: *field is nil afterwards.
func Take(field *[]byte) Bytes {
	b := *field
	*field = nil
	return Bytes{b: b}
}

// Reveal returns the octets themselves. They must not be kept, printed or changed.
func (s Bytes) Reveal() []byte { return s.b }

// Len returns the number of octets.
func (s Bytes) Len() int { return len(s.b) }

// Equal compares in a time that depends on the lengths alone.
func (s Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(s.b, o.b) == 1 }

// Wipe overwrites the octets. Best effort: the runtime may have made copies.
func (s Bytes) Wipe() { clear(s.b) }

// String returns "[secret]".
func (Bytes) String() string { return placeholder }

// GoString returns "[secret]".
func (Bytes) GoString() string { return placeholder }

// Format writes "[secret]" for every verb: %x and %s would print the octets otherwise.
func (Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, placeholder) }

// LogValue returns "[secret]".
func (Bytes) LogValue() slog.Value { return slog.StringValue(placeholder) }

// MarshalText returns "[secret]".
func (Bytes) MarshalText() ([]byte, error) { return []byte(placeholder), nil }
