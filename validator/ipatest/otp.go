package ipatest

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 4226 is defined over SHA-1
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"
)

// How far a code may be off, as FreeIPA has it by default (cn=otp,cn=etc,S).
const (
	totpWindow = 300 // seconds, both ways, not reached: 9 steps of 30 s
	hotpWindow = 10  // counters: the next one and the nine after it
)

// hotp computes a code (RFC 4226 section 5.3).
func hotp(key []byte, algorithm string, digits int, counter int64) string {
	var h func() hash.Hash
	switch strings.ToLower(algorithm) {
	case "sha256":
		h = sha256.New
	case "sha384":
		h = sha512.New384
	case "sha512":
		h = sha512.New
	default:
		h = sha1.New
	}
	mac := hmac.New(h, key)
	_, _ = mac.Write(binary.BigEndian.AppendUint64(nil, uint64(counter)))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0x0f
	code := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	modulus := uint32(1)
	for range digits {
		modulus *= 10
	}
	return fmt.Sprintf("%0*d", digits, code%modulus)
}

// number reads an attribute that holds a number; zero when there is none.
func (e *entry) number(attribute string) int64 {
	n, _ := strconv.ParseInt(e.first(attribute), 10, 64)
	return n
}

// code returns the code of a token entry at a step or counter.
func code(token *entry, step int64) string {
	return hotp([]byte(token.first("ipatokenOTPkey")), token.first("ipatokenOTPalgorithm"),
		int(token.number("ipatokenOTPdigits")), step)
}

// isHOTP tells whether a token counts, instead of looking at the clock.
func isHOTP(token *entry) bool { return token.is("ipatokenHOTP") }

// timeStep returns the length of a step in seconds.
func timeStep(token *entry) int64 {
	if n := token.number("ipatokenTOTPtimeStep"); n >= 5 {
		return n
	}
	return 30
}

// currentStep returns the step of the clock, or the counter of the next code.
func currentStep(token *entry, now time.Time) int64 {
	if isHOTP(token) {
		return token.number("ipatokenHOTPcounter")
	}
	return (now.Unix() + token.number("ipatokenTOTPclockOffset")) / timeStep(token)
}

// active tells whether a token can be used (otp_token_find in otp_token.c).
func active(token *entry, now time.Time) bool {
	if strings.EqualFold(token.first("ipatokenDisabled"), "TRUE") {
		return false
	}
	at := now.UTC().Format(generalized)
	from, until := token.first("ipatokenNotBefore"), token.first("ipatokenNotAfter")
	return (from == "" || from <= at) && (until == "" || until >= at)
}

// spend looks for a token whose code stands at the end of the password, the nearest steps
// first, marks it as used and returns what stands before it (otp_token_validate_berval in
// otp_token.c). FreeIPA does so before it looks at the password: a wrong password with a
// right code costs the code.
func (s *Server) spend(tokens []*entry, password string, now time.Time) (rest string, ok bool) {
	for i, left := int64(0), true; left; i++ {
		left = false
		for _, token := range tokens {
			if isHOTP(token) && i >= hotpWindow || !isHOTP(token) && i*timeStep(token) >= totpWindow {
				continue
			}
			left = true
			digits := int(token.number("ipatokenOTPdigits"))
			if len(password) < digits {
				continue
			}
			rest, tail := password[:len(password)-digits], password[len(password)-digits:]
			if s.use(token, currentStep(token, now), i, tail) || s.use(token, currentStep(token, now), -i, tail) {
				return rest, true
			}
		}
	}
	return password, false
}

// use marks a step as used if the code is the step's (validate in otp_token.c).
func (s *Server) use(token *entry, current, offset int64, tail string) bool {
	step, mark := current+offset, "ipatokenTOTPwatermark"
	if isHOTP(token) {
		mark = "ipatokenHOTPcounter"
		if offset < 0 {
			return false
		}
	} else if w := token.number(mark); w > 0 && step < w && !s.replays {
		return false
	}
	if code(token, step) != tail {
		return false
	}
	if !s.replays {
		s.tree.set(token, mark, strconv.FormatInt(step+1, 10))
	}
	return true
}

// Code returns a token's right code: of an HOTP token the next one, of a TOTP token the one of
// the server's clock, or, when that is spent already, the first that is not. It is empty when
// there is no such token.
func (s *Server) Code(tokenID string) string { return s.CodeAt(tokenID, 0) }

// CodeAt returns the code that is some steps or counters after, or before, that of Code.
func (s *Server) CodeAt(tokenID string, offset int) string {
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	token, err := s.tree.find(s.TokenDN(tokenID))
	if err != nil {
		return ""
	}
	step := currentStep(token, s.now())
	if !isHOTP(token) {
		step = max(step, token.number("ipatokenTOTPwatermark"))
	}
	return code(token, step+int64(offset))
}
