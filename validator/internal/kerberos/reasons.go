package kerberos

// The reasons for which a token is refused, for the audit alone. None holds anything of what
// the client sent.
const (
	reasonLong        = "token is longer than 49152 octets"
	reasonNoGSS       = "token is not one of GSS-API (RFC 2743 section 3.1)"
	reasonNegToken    = "SPNEGO token cannot be read (RFC 4178 section 4.2)" //nolint:gosec // no credential
	reasonNoMechanism = "SPNEGO token lists no mechanism"
	reasonNoTicket    = "SPNEGO response carries no Kerberos token"
	reasonAPRep       = "token is an AP-REP"
	reasonKRBError    = "token is a KRB-ERROR"
	reasonTokenID     = "token has an identifier that is not known (RFC 4121 section 4.1)" //nolint:gosec // no credential
	reasonAPReq       = "AP-REQ cannot be read (RFC 4120 section 5.5.1)"
	reasonVersion     = "AP-REQ or ticket has a protocol version other than 5"
	reasonUserToUser  = "ticket is for user-to-user authentication"

	reasonService   = "ticket is for another service"
	reasonEType     = "ticket is encrypted by an algorithm that is not accepted"
	reasonNoKey     = "keytab has no key of the ticket's version"
	reasonTicket    = "ticket cannot be decrypted or read (RFC 4120 section 5.3)"
	reasonSession   = "session key is of an algorithm that is not accepted"
	reasonInvalid   = "ticket has the flag invalid"
	reasonEarly     = "ticket is not valid yet"
	reasonExpired   = "ticket has expired"
	reasonAuthTime  = "ticket tells no time of login, or one to come"
	reasonAnonymous = "client is anonymous"
	reasonName      = "client's name cannot stand for an account"
	reasonRealm     = "client's realm is not accepted"
	reasonTransited = "ticket came through realms that its KDC did not check"
	reasonAddress   = "ticket is for other addresses"

	reasonAuthenticator = "authenticator cannot be decrypted or read (RFC 4120 section 5.5.1)"
	reasonOther         = "authenticator names another client than the ticket"
	reasonSubkey        = "authenticator's subkey is of an algorithm that is not accepted"
	reasonChecksum      = "authenticator carries no checksum of GSS-API (RFC 4121 section 4.1.1)"
	reasonDCE           = "client asks for DCE style"
	reasonMIC           = "checksum over the mechanism list is wrong (RFC 4178 section 5)"

	reasonBinding   = "channel binding is that of another connection"
	reasonUnbound   = "channel binding is missing"
	reasonNoChannel = "channel binding cannot be compared: the gateway named no certificate"

	reasonAuthData  = "authorization data cannot be read (RFC 4120 section 5.2.6)"
	reasonCritical  = "authorization data holds an element that is not known and not AD-IF-RELEVANT"
	reasonBare      = "authentication indicator is not signed by the KDC"
	reasonCAMMAC    = "AD-CAMMAC cannot be read (RFC 7751 section 3)"
	reasonForged    = "AD-CAMMAC is not signed under the service's key (RFC 7751 section 3)"
	reasonIndicator = "authentication indicator is empty, too long or not plain text"
	reasonLibrary   = "Kerberos library gave up" // it panicked: the log says where
)

// ReasonSkew is the reason for a token that was made at another time than now.
const ReasonSkew = "authenticator was made at another time: the clocks of client and validator differ, or it was sent late"
