package login

import (
	"bytes"
)

// The reasons to refuse: for the audit, never for the client.
const (
	reasonUser            = "no user name"
	reasonEmpty           = "password is empty"
	reasonNUL             = "password has a NUL"
	reasonUnknown         = "unknown account"
	reasonAmbiguous       = "several accounts have this name"
	reasonLocked          = "account is locked (nsAccountLock)"
	reasonExpired         = "account has expired (krbPrincipalExpiration)"
	reasonPasswordExpired = "password has expired (krbPasswordExpiration)"
	reasonPassword        = "a password alone is not accepted under this label"
	reasonUnproven        = "no second factor can be proved: otp_required_control is off and otp_evidence is empty"
	reasonNoToken         = "password was accepted without a second factor: the account has no active token"
	reasonThrottled       = "too many failed logins of this account: no back end was asked"
	reasonTaken           = "credential_replay: the code was used with another key"
	reasonOld             = "credential_replay: the code was used more than five minutes ago"
	reasonLost            = "the code went to a back end that did not answer: the next one is needed"
	reasonForged          = "row of a one-time code does not carry its MAC"
	reasonMeanwhile       = "the same attempt was refused at the same moment"
	reasonOneFailure      = "the directory locks an account at its first failure (krbPwdMaxFailure): one try could do it"
	reasonUnasked         = "RADIUS server asked no second question, and there is an answer to one behind the separator"
	reasonRejected        = "RADIUS server refused the password or code"
	reasonChallenged      = "RADIUS server asks a second question (Access-Challenge), which EST cannot answer"
)

// unfit says why an attempt is refused before anybody is asked, or nothing. An empty
// password would be an anonymous bind (RFC 4513 section 5.1.2), a NUL end it early.
func unfit(a Attempt) string {
	switch {
	case a.User == "":
		return reasonUser
	case a.Password.Len() == 0:
		return reasonEmpty
	case bytes.IndexByte(a.Password.Reveal(), 0) >= 0:
		return reasonNUL
	}
	return ""
}
