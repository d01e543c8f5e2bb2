package ipatest

import "time"

// User is a user entry at uid=UID,cn=users,cn=accounts,S.
type User struct {
	// UID is the login name; the principal is UID@IPA.TEST.
	UID string
	// Password is what a bind takes; empty: the entry has none.
	Password string
	// CN is the full name; empty: the UID.
	CN string
	// Mail are the addresses.
	Mail []string
	// Groups are names of groups, direct or nested alike; those that are missing are made.
	Groups []string
	// Aliases are further values of krbPrincipalName, without realm.
	Aliases []string
	// AuthTypes is ipaUserAuthType.
	AuthTypes []string
	// RADIUS is the name of a Proxy (ipatokenRadiusConfigLink), RADIUSUser the name there
	// (ipatokenRadiusUserName); both optional.
	RADIUS, RADIUSUser string
	// Locked is nsAccountLock.
	Locked bool
	// PrincipalExpires and PasswordExpires are krbPrincipalExpiration and
	// krbPasswordExpiration; zero: absent.
	PrincipalExpires, PasswordExpires time.Time
	// MustChange makes a successful bind carry the control "password expired"
	// (2.16.840.1.113730.3.4.4, draft-vchu-ldap-pwd-policy-00).
	MustChange bool
	// Policy is the cn of the user's own password policy (krbPwdPolicyReference); empty: the
	// realm's.
	Policy string
}

// Host is a host entry at fqdn=FQDN,cn=computers,cn=accounts,S.
type Host struct {
	// FQDN is the name; the principal is host/FQDN@IPA.TEST.
	FQDN string
	// Password is what a bind takes; empty: the entry has none.
	Password string
	// ManagedBy are names of hosts that manage it, besides itself.
	ManagedBy []string
	// Locked is nsAccountLock.
	Locked bool
}

// Service is a service entry at krbprincipalname=Principal@REALM,cn=services,cn=accounts,S.
type Service struct {
	// Principal is the name without realm, such as HTTP/www.ipa.test.
	Principal string
	// ManagedBy are names of hosts that manage it; none: the host in the principal.
	ManagedBy []string
	// Locked is nsAccountLock.
	Locked bool
}

// Proxy is a RADIUS configuration at cn=Name,cn=radiusproxy,S.
type Proxy struct {
	// Name is what User.RADIUS refers to.
	Name string
	// Servers are host, host:port or [v6]:port.
	Servers []string
	// Secret is ipatokenRadiusSecret.
	Secret string
	// Timeout in seconds and Retries; zero: absent. A negative number stands for zero.
	Timeout, Retries int
	// UserMapAttribute is ipatokenUserMapAttribute; empty: absent.
	UserMapAttribute string
}

// Token is a one-time password token at ipatokenuniqueid=ID,cn=otp,S.
type Token struct {
	// ID is the token's name.
	ID string
	// Owner is the UID of the user.
	Owner string
	// HOTP makes it a counter token (RFC 4226); else it is a clock token (RFC 6238).
	HOTP bool
	// Key is the shared key; empty: the key of the test vectors in RFC 4226 appendix D.
	Key []byte
	// Algorithm is sha1, sha256, sha384 or sha512; empty: sha1.
	Algorithm string
	// Digits is 6 or 8; zero: 6.
	Digits int
	// Step is the length of a time step in seconds; zero: 30.
	Step int
	// Counter is the counter of the next code of an HOTP token.
	Counter int64
	// Disabled is ipatokenDisabled.
	Disabled bool
	// NotBefore and NotAfter are when the token is good; zero: no limit.
	NotBefore, NotAfter time.Time
}

// Policy is a password policy, as far as lockout goes.
type Policy struct {
	// MaxFailures is krbPwdMaxFailure; zero: nothing is counted and nobody is locked out.
	MaxFailures int
	// Interval is krbPwdFailureCountInterval, Duration krbPwdLockoutDuration (zero: for ever);
	// both in whole seconds.
	Interval, Duration time.Duration
}
