package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// resultError is an answer of the server that is not success (RFC 4511 section 4.1.9). The
// connection is as good as before.
type resultError struct {
	code uint16
	text string // what the server said, for the log alone
}

// Error returns code, its name, and the beginning of what the server said.
func (e *resultError) Error() string {
	name, ok := ldap.LDAPResultCodeMap[e.code]
	if !ok {
		name = "unknown"
	}
	return fmt.Sprintf("result %d (%s) %.200q", e.code, name, e.text)
}

// hasCode tells whether err is one of these answers of a server.
func hasCode(err error, codes ...uint16) bool {
	var lost *lostError
	var result *resultError
	if errors.As(err, &lost) || !errors.As(err, &result) {
		return false
	}
	for _, code := range codes {
		if result.code == code {
			return true
		}
	}
	return false
}

// lostError tells that a server could not be reached, broke off, or says that it cannot work
// now: the next one may be asked.
type lostError struct {
	err    error
	late   bool // the time was over
	queued bool // while waiting for our own connections
}

// Error returns the cause.
func (e *lostError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *lostError) Unwrap() error { return e.err }

// lose makes a lostError of what an exchange ended with.
func lose(ctx context.Context, err error) error {
	var already *lostError
	if errors.As(err, &already) {
		return err
	}
	late := over(ctx)
	if late {
		cause := ctx.Err()
		if cause == nil {
			cause = context.DeadlineExceeded // the connection's own clock was ahead
		}
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return &lostError{err: err, late: late}
}

// over tells whether the time of ctx is.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// outcome makes one of our two errors of what the library returned.
func outcome(ctx context.Context, err error) error {
	var answer *ldap.Error
	if !errors.As(err, &answer) {
		return lose(ctx, err)
	}
	text := ""
	if answer.Err != nil {
		text = answer.Err.Error()
	}
	result := &resultError{code: answer.ResultCode, text: text}
	switch code := answer.ResultCode; {
	case code == ldap.LDAPResultBusy, code == ldap.LDAPResultUnavailable:
		return &lostError{err: result}
	case code >= ldap.ErrorNetwork && code <= ldap.ErrorMalformedPacket, answer.Packet == nil:
		return lose(ctx, errors.New(text)) // the library's own codes: no answer came
	}
	return result
}
