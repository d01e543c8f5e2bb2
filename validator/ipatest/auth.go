package ipatest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// generalized is GeneralizedTime in UTC without fractions, as FreeIPA writes it.
const generalized = "20060102150405Z"

// result is the outcome of an operation.
type result struct {
	code uint16
	text string
}

// refusal texts of 389-ds and of FreeIPA's plugins, to the letter.
const (
	textInactivated = "Account inactivated. Contact system administrator."
	textExpired     = "Account (Kerberos principal) is expired"
	textTooMany     = "Too many failed logins.\n"
	textPermanent   = "Entry permanently locked.\n"
)

// authenticate judges a simple bind with a password, and counts what it has found: the
// pre-bind plug-ins ipa-lockout and ipa-pwd-extop, 389-ds itself, and the post-bind plug-in of
// ipa-lockout, which counts every result but success as a failed login, 53 too.
func (s *Server) authenticate(key, password string, otpRequired bool) result {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	now := s.now()
	e := s.tree.entries[key]
	if e == nil {
		if key != suffix && !strings.HasSuffix(key, ","+suffix) {
			return result{code: ldap.LDAPResultNoSuchObject}
		}
		return result{code: ldap.LDAPResultInvalidCredentials}
	}
	if r := s.lockedOut(e, now); r.code != 0 {
		return r
	}
	r := s.judge(e, password, otpRequired, now)
	s.countLogin(e, r.code != 0, now)
	return r
}

// judge is ipapwd_pre_bind (prepost.c) and then the bind of 389-ds, which looks at
// nsAccountLock before it looks at the password.
func (s *Server) judge(e *entry, password string, otpRequired bool, now time.Time) result {
	if until := e.first("krbPrincipalExpiration"); until != "" {
		if t, err := time.Parse(generalized, until); err == nil && now.Unix() > t.Unix() {
			return result{ldap.LDAPResultUnwillingToPerform, textExpired}
		}
	}
	rest, ok := s.secondFactor(e, password, otpRequired, now)
	switch {
	case !ok || rest == "":
		return result{code: ldap.LDAPResultInvalidCredentials}
	case strings.EqualFold(e.first("nsAccountLock"), "TRUE"):
		return result{ldap.LDAPResultUnwillingToPerform, textInactivated}
	case e.first("userPassword") != rest:
		return result{code: ldap.LDAPResultInvalidCredentials}
	}
	return result{}
}

// secondFactor is ipapwd_pre_bind_otp (prepost.c). It returns the password without the code.
func (s *Server) secondFactor(e *entry, password string, required bool, now time.Time) (rest string, ok bool) {
	types := s.types(e)
	if slices.Contains(types, "otp") {
		var tokens []*entry
		for _, token := range s.tree.index["ipatokenowner"][e.key] {
			if active(token, now) {
				tokens = append(tokens, token)
			}
		}
		if len(tokens) == 0 {
			return password, true
		}
		if rest, ok := s.spend(tokens, password, now); ok {
			return rest, true
		}
	}
	return password, slices.Contains(types, "password") && !required
}

// types returns the effective authentication types (otp_config_auth_types in otp_config.c).
func (s *Server) types(e *entry) []string {
	known := func(values []string) (types []string, disabled bool) {
		for _, v := range values {
			switch v = strings.ToLower(v); v {
			case "disabled":
				disabled = true
			case "password", "otp", "radius", "pkinit", "hardened", "idp", "passkey":
				types = append(types, v)
			}
		}
		return types, disabled
	}
	var global []string
	var disabled bool
	if config := s.tree.entries[configDN]; config != nil {
		global, disabled = known(config.get("ipaUserAuthType"))
	}
	own, _ := known(e.get("ipaUserAuthType"))
	switch {
	case !disabled && len(own) != 0:
		return own
	case len(global) != 0:
		return global
	}
	return []string{"password"}
}

// lockout returns the policy of an entry: ok is false when ipa-lockout leaves it alone.
func (s *Server) lockout(e *entry) (p Policy, ok bool) {
	if !e.is("krbPrincipalAux") {
		return p, false
	}
	key := policyKey
	if own := e.first("krbPwdPolicyReference"); own != "" {
		key = normal("krbpwdpolicyreference", own)
	}
	policy := s.tree.entries[key]
	if policy == nil {
		return p, false
	}
	return Policy{
		MaxFailures: int(policy.number("krbPwdMaxFailure")),
		Interval:    time.Duration(policy.number("krbPwdFailureCountInterval")) * time.Second,
		Duration:    time.Duration(policy.number("krbPwdLockoutDuration")) * time.Second,
	}, true
}

// lastFailure returns when a login failed last, in Unix seconds; zero for never.
func lastFailure(e *entry) int64 {
	t, err := time.Parse(generalized, e.first("krbLastFailedAuth"))
	if err != nil {
		return 0
	}
	return t.Unix()
}

// lockedOut is ipalockout_preop (ipa_lockout.c).
func (s *Server) lockedOut(e *entry, now time.Time) result {
	p, ok := s.lockout(e)
	last := lastFailure(e)
	if unlocked, err := time.Parse(generalized, e.first("krbLastAdminUnlock")); err == nil && last != 0 && last <= unlocked.Unix() {
		return result{}
	}
	switch failed := int(e.number("krbLoginFailedCount")); {
	case !ok || p.MaxFailures <= 0 || failed < p.MaxFailures:
		return result{}
	case p.Duration == 0:
		return result{ldap.LDAPResultUnwillingToPerform, textPermanent}
	case now.Unix() < last+int64(p.Duration/time.Second):
		return result{ldap.LDAPResultUnwillingToPerform, textTooMany}
	}
	return result{}
}

// countLogin is ipalockout_postop (ipa_lockout.c).
func (s *Server) countLogin(e *entry, failed bool, now time.Time) {
	p, ok := s.lockout(e)
	if !ok {
		return
	}
	count := int(e.number("krbLoginFailedCount"))
	if !failed {
		if count != 0 {
			s.tree.set(e, "krbLoginFailedCount", "0")
		}
		return
	}
	if last := lastFailure(e); last != 0 && now.Unix() > last+int64(p.Interval/time.Second) {
		count = 0
	}
	if count < p.MaxFailures {
		s.tree.set(e, "krbLoginFailedCount", strconv.Itoa(count+1))
		s.tree.set(e, "krbLastFailedAuth", now.UTC().Format(generalized))
	}
}
