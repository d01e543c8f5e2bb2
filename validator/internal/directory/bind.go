package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/services/secret"
)

// BindOptions say what a bind is to prove.
type BindOptions struct {
	// Control sends the control which demands a second factor, where Config has it. FreeIPA
	// lets users without an active token pass it: see Tokens.
	Control bool
	// Tokens looks, after a successful bind with the control, for an active token of the user,
	// or for Config.Evidence after any.
	Tokens bool
}

// Bind is what the directory says about a password.
type Bind struct {
	// Accepted tells that it is right, and that the directory lets this user in.
	Accepted bool
	// Code is the LDAP result code of the bind.
	Code uint16
	// Reason is why it is not accepted, one of the Reason constants; for the audit.
	Reason string
	// Counts tells that the directory has counted a failed login.
	Counts bool
	// Token tells that a second factor was proved: an active token of a user who is bound with
	// the control, or the evidence. Who may log in by password alone can have a token as well,
	// so without the control it proves nothing, and is not looked for.
	Token bool
	// Server is the host that answered; empty when nobody was asked.
	Server string
}

// The reasons not to accept a bind: fixed words, never the server's own.
const (
	ReasonForm         = "password is empty or of no permitted form"
	ReasonWrong        = "wrong password or code"
	ReasonLocked       = "account is locked"
	ReasonExpired      = "account has expired"
	ReasonTooMany      = "too many failures"
	ReasonPassword     = "password has expired"
	ReasonPolicy       = "password policy refuses the login"
	ReasonControl      = "control is not supported"
	ReasonNoPassword   = "account has no password"
	ReasonGone         = "account is no longer there"
	ReasonUnwilling    = "directory refuses the login"
	ReasonSomebodyElse = "bound as somebody else"
)

// Bind tries a password, or password and code, on a connection of its own. Its error is an
// *Unknown. Once the password may be on its way no other server is tried: two replicas may
// accept one code, and both count a failure.
func (c *Client) Bind(ctx context.Context, e Entry, p secret.Bytes, o BindOptions) (Bind, error) {
	if password(p) != nil {
		return Bind{Reason: ReasonForm}, nil
	}
	if _, err := parseDN(e.DN); err != nil {
		return Bind{}, &Unknown{Err: err}
	}
	key := fold(e.Principal)
	if key == "" {
		key = fold(e.DN)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	servers, err := c.ranked(key)
	if err != nil {
		return Bind{}, &Unknown{Err: err}
	}
	var unknown *Unknown
	for i, s := range servers {
		started := time.Now()
		var b Bind
		if b, unknown = c.bindAt(ctx, s, len(servers)-i, attempt{e, p, o}); unknown == nil {
			_ = s.count(b.failure())
			return b, nil
		}
		_ = s.count(unknown.Err)
		s.blame(ctx, started, unknown.Err)
		if unknown.Sent || !next(ctx, unknown.Err) {
			break
		}
	}
	return Bind{}, unknown
}

// failure is what counts a refusal as one.
func (b Bind) failure() error {
	if b.Accepted {
		return nil
	}
	return &resultError{code: b.Code}
}

// attempt is what Bind was called with.
type attempt struct {
	entry    Entry
	password secret.Bytes
	options  BindOptions
}

// bindAt tries at one of n servers. Only connecting is bound to its share of the time: from
// then on there is no other server to leave any for.
func (c *Client) bindAt(ctx context.Context, s *server, n int, a attempt) (Bind, *Unknown) {
	dialling, cancel := share(ctx, n)
	u, err := s.connect(dialling)
	cancel()
	if err != nil {
		return Bind{}, &Unknown{Server: s.host, Err: err}
	}
	defer u.close()
	u.wire.wrote.Store(false) // the handshake carried nothing of the password
	b, err := c.bindOn(ctx, u, a)
	if err != nil {
		return Bind{}, &Unknown{Server: s.host, Sent: u.wire.wrote.Load(), Err: err}
	}
	b.Server = s.host
	if !b.Accepted || !a.options.Tokens || c.c.Evidence == "" && !c.controlled(a.options) {
		return b, nil
	}
	if b.Token, err = c.proved(ctx, s, u, a.entry); err != nil {
		return Bind{}, &Unknown{Server: s.host, Sent: true, Err: err}
	}
	return b, nil
}

// controlled tells whether a bind carries the control that demands a second factor.
func (c *Client) controlled(o BindOptions) bool { return o.Control && c.c.OTPRequiredControl }

// bindOn sends the bind and, when it succeeds, asks the server who it has bound.
func (c *Client) bindOn(ctx context.Context, u *session, a attempt) (Bind, error) {
	request := ldap.NewSimpleBindRequest(a.entry.DN, string(a.password.Reveal()), nil)
	if c.controlled(a.options) {
		request.Controls = []ldap.Control{ldap.NewControlString(ControlOTPRequired, true, "")}
	}
	answered, err := u.bind(ctx, request)
	if err != nil {
		var refused *resultError
		if lost := (*lostError)(nil); errors.As(err, &lost) || !errors.As(err, &refused) {
			return Bind{}, err
		}
		return judge(refused)
	}
	if mustChange(answered) {
		return Bind{Reason: ReasonPassword}, nil
	}
	who, err := u.whoAmI(ctx)
	switch {
	case hasCode(err, ldap.LDAPResultProtocolError):
		// The server does not know the operation (RFC 4511 section 4.12). It has said that it
		// bound the DN that we named; asking again was for strength in depth.
		return Bind{Accepted: true}, nil
	case hasCode(err, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultUnwillingToPerform):
		// A login that may do nothing, as slapo-ppolicy(5) has it for a password that was reset.
		return Bind{Reason: ReasonPolicy}, nil
	case err != nil:
		return Bind{}, fmt.Errorf("asking whom the server has bound: %w", err)
	case !sameDN(who, a.entry.DN):
		return Bind{Reason: ReasonSomebodyElse}, nil
	}
	return Bind{Accepted: true}, nil
}

// mustChange tells whether a successful bind says that the password is only good for being
// changed: by draft-vchu-ldap-pwd-policy-00, or draft-behera-ldap-password-policy-10.
func mustChange(controls []ldap.Control) bool {
	if ldap.FindControl(controls, passwordExpired) != nil {
		return true
	}
	policy, ok := ldap.FindControl(controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy)
	return ok && policy.Error >= 0
}

// judge makes a refusal of a bind's result code. Codes which say that the server could not do
// its work are an error: nothing is known then.
func judge(r *resultError) (Bind, error) {
	b := Bind{Code: r.code}
	switch r.code {
	case ldap.LDAPResultInvalidCredentials:
		b.Reason, b.Counts = ReasonWrong, true
	case ldap.LDAPResultUnwillingToPerform:
		b.Reason = unwilling(r.text)
	case ldap.LDAPResultConstraintViolation:
		b.Reason = ReasonPolicy
		if strings.Contains(strings.ToLower(r.text), "retry limit") { // 389-ds's own lockout
			b.Reason = ReasonTooMany
		}
	case ldap.LDAPResultUnavailableCriticalExtension:
		b.Reason = ReasonControl
	case ldap.LDAPResultInappropriateAuthentication:
		b.Reason = ReasonNoPassword
	case ldap.LDAPResultNoSuchObject:
		b.Reason = ReasonGone
	case ldap.LDAPResultInsufficientAccessRights:
		b.Reason = ReasonUnwilling
	default:
		return Bind{}, r
	}
	return b, nil
}

// unwilling reads the text of result 53: FreeIPA's ipa-lockout and ipa-pwd-extop, and 389-ds.
func unwilling(text string) string {
	text = strings.ToLower(text)
	switch {
	case strings.Contains(text, "inactivated"):
		return ReasonLocked
	case strings.Contains(text, "too many failed"), strings.Contains(text, "permanently locked"):
		return ReasonTooMany
	case strings.Contains(text, "expired"):
		return ReasonExpired
	}
	return ReasonUnwilling
}
