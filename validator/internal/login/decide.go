package login

import "slices"

// Way is how a password is checked.
type Way int

// The ways.
const (
	// Refuse: it is not checked at all.
	Refuse Way = iota
	// RADIUS: by the account's RADIUS server, and nobody else.
	RADIUS
	// OTP: by a bind that has to prove a second factor.
	OTP
	// Password: by a bind, as a password alone.
	Password
)

// String returns the name of the way.
func (w Way) String() string { return [...]string{"refuse", "radius", "otp", "password"}[w] }

// The authentication types of ipaUserAuthType that matter here.
const (
	typeDisabled = "disabled"
	typeOTP      = "otp"
	typeRADIUS   = "radius"
)

// Facts is what decides the way.
type Facts struct {
	// Types are the effective authentication types: Effective.
	Types []string
	// Linked tells that the account has a RADIUS server.
	Linked bool
	// AcceptPassword tells that the label accepts a password alone.
	AcceptPassword bool
	// Control tells that a bind carries FreeIPA's OTP-required control.
	Control bool
	// Evidence tells that the directory has evidence of its own for a second factor.
	Evidence bool
}

// Effective returns the types that hold for an account: its own, unless it has none or the
// global ones hold "disabled", which switches those of accounts off.
func Effective(own, global []string) []string {
	if len(own) > 0 && !slices.Contains(global, typeDisabled) {
		return own
	}
	return slices.DeleteFunc(slices.Clone(global), func(t string) bool { return t == typeDisabled })
}

// Decide returns the one way in which a password is checked, or why it is not. There is
// never a second one: a code that one back end has refused, or used up, goes to no other.
func Decide(f Facts) (Way, string) {
	otp := slices.Contains(f.Types, typeOTP)
	switch {
	case f.Linked && slices.Contains(f.Types, typeRADIUS):
		return RADIUS, ""
	case otp && f.Control, f.Evidence && !f.Control:
		return OTP, ""
	case f.AcceptPassword:
		// Where a bind proves no second factor none is asserted, whatever the types say.
		return Password, ""
	case otp:
		return Refuse, reasonUnproven
	}
	return Refuse, reasonPassword
}
