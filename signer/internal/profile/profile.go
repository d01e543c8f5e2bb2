// Package profile turns an assertion and a certificate request into the certificate to issue,
// or into the reason why there is none.
//
// issue calls Set.Build for every request; serve hands Set.Facts to gateways. Policy comes
// first, then names: whatever stands in the certificate was computed from the asserted
// identity and the profile, and nothing but the key is taken from the request.
package profile

import (
	"time"

	"github.com/estuary-pki/estuary/services/config"
)

// Profile is one [[profile]] table: what may be issued under an EST label, to whom.
type Profile struct {
	Label string `toml:"label" doc:"EST label (RFC 7030 section 3.2.2) that the profile is for."`

	IdentityKinds     []string `toml:"identity_kinds" doc:"Sorts of principal that may enrol: device, host, service, user."`
	Methods           []string `toml:"methods" doc:"Kinds of proof that are accepted: token, ldap-otp (a directory account's password and one-time code), ldap-password (its password alone), radius, negotiate (a Kerberos ticket), certificate (one that this label issued, to be renewed; or of renews and certificate_anchors)."`
	Realms            []string `toml:"realms" doc:"Realms whose identities may enrol; empty for all that a validator may speak for."`
	RequireGroups     []string `toml:"require_groups" doc:"Groups of the directory of which the identity has to be in at least one; empty demands none. The validator's [directory] groups has to name them."`
	RequireIndicators []string `toml:"require_indicators" doc:"Authentication indicators of which the proof has to carry at least one; empty demands none. A renewal has those of the first login and x509."`

	MaxLoginAge config.Duration `toml:"max_login_age" doc:"How long ago a user may have logged in who comes with a Kerberos ticket, renewed or not; 0s for any time. Other proofs are logins themselves."`

	Renews             []string        `toml:"renews" doc:"Other labels whose certificates are renewed under this one too, where methods holds certificate. What their logins lacked is not made good."`
	Rekey              string          `toml:"rekey" doc:"For which key a certificate is renewed: in-window (its own at any time, another in the last third of its time), same-key, or any: whoever can use the old key for a moment can then have one of their own certified."`
	MaxSuccessors      int64           `toml:"max_successors" doc:"How many certificates are issued on the strength of one certificate, 1 to 1000; a repeat of the same request is none."`
	MaxEnrolments      int64           `toml:"max_enrolments" doc:"How many certificates are issued on the strength of one certificate of certificate_anchors, 1 to 1000."`
	RenewExpired       config.Duration `toml:"renew_expired" doc:"How long after its end a certificate is still renewed, at most 90d. The validator's label has to say so too."`
	MaxChainAge        string          `toml:"max_chain_age" doc:"For how long certificates are renewed, and valid, after the first login (token, password, ticket) of their line; or unlimited. Holds for those issued here wherever they are renewed. Has to be there where methods holds certificate; empty says nothing."`
	CertificateAnchors []string        `toml:"certificate_anchors" doc:"SHA-256 of the certificates of other authorities, in hexadecimal, such as a manufacturer's, whose certificates enrol devices where methods holds certificate. The validator has to trust them too."`

	KeyTypes   []string `toml:"key_types" doc:"Types of key that are certified: rsa, p256, p384, p521, ed25519."`
	RSAMinBits int      `toml:"rsa_min_bits" doc:"Smallest RSA modulus, in bits, 2048 or more."`
	RSAMaxBits int      `toml:"rsa_max_bits" doc:"Largest RSA modulus, in bits, 8192 or less."`

	Subject string `toml:"subject" doc:"Subject (RFC 4514) of those who have none in principal_mapping. For what was asserted stand {principal}, {realm}, {user} (a user's principal, up to a slash), {host} (the host of a host or service), {uid}, {cn} and {mail} (the first address) as the directory has them, and {label}. Who has no such value gets no certificate. Empty for a certificate that has only alternative names."`

	PrincipalMapping  map[string]string `toml:"principal_mapping" doc:"Subject (RFC 4514, without placeholders) by principal, which is written with its realm and compared to the letter: \"alice@EXAMPLE.COM\"."`
	Unmapped          string            `toml:"unmapped" doc:"What becomes of a principal that is not in principal_mapping: template (it gets subject) or refuse."`
	KerberosNames     []string          `toml:"kerberos_names" doc:"Forms of a user's Kerberos principal that are among its alternative names: krb5 (id-pkinit-san, RFC 4556), upn (of Windows). Who has a principal that is not plain ASCII, or with an @ or a backslash, gets no certificate then. Whoever logs in by certificates trusts this authority with such names."`
	SAN               string            `toml:"san" doc:"Which of the names that the identity is entitled to become alternative names: identity (all), requested (those in the request), none. A device is entitled to the names of its token, a host to its own name and those it manages, a service to its host's and those it manages, a user to the mail addresses and kerberos_names."`
	CSRNames          string            `toml:"csr_names" doc:"What to do about alternative names in a request that may not be in the certificate: refuse the request, or drop the names."`
	CSRSubject        string            `toml:"csr_subject" doc:"What to do about the subject of a request: match (has to be empty or the one of the certificate) or ignore."`
	CSRExtensions     string            `toml:"csr_extensions" doc:"What to do about extensions in a request other than alternative names: refuse or ignore. None is ever copied."`
	ChallengePassword string            `toml:"challenge_password" doc:"Meaning of a challengePassword: verify (as channel binding, where present), require, ignore (RFC 7030 section 3.5)."`
	CSRAttributes     []string          `toml:"csr_attributes" doc:"Object identifiers that /csrattrs lists beside those that follow from other keys (RFC 7030 section 4.5.2)."`

	Validity           config.Duration            `toml:"validity" doc:"Length of validity. No certificate outlives the authority's own."`
	Backdate           config.Duration            `toml:"backdate" doc:"How long before the issue validity begins, for clients whose clocks are slow; at most 24h."`
	MaxValidity        map[string]config.Duration `toml:"max_validity" doc:"Longest validity by authentication indicator, or none for a proof without any; the smallest that applies counts."`
	IndicatorExtension string                     `toml:"indicator_extension" doc:"Object identifier, below one of your own, of an extension with the authentication indicators (SEQUENCE OF UTF8String, RFC 8129); empty for no such extension."`

	MaxPerHour int64 `toml:"max_per_hour" doc:"Certificates that may be issued under the label in an hour, by all signers of the ledger together; 0 for any number. Repeats do not count."`

	KeyUsage              []string `toml:"key_usage" doc:"Key usages (RFC 5280 section 4.2.1.3): digitalSignature, contentCommitment, keyEncipherment, dataEncipherment, keyAgreement. One that does not suit the type of key is left out."`
	ExtKeyUsage           []string `toml:"ext_key_usage" doc:"Extended key usages (RFC 5280 section 4.2.1.12): clientAuth, serverAuth, emailProtection, codeSigning, pkinitClient (RFC 4556), smartcardLogon (of Windows), or object identifiers."`
	CRLDistributionPoints []string `toml:"crl_distribution_points" doc:"URLs of the revocation list (RFC 5280 section 4.2.1.13)."`
	AIACAIssuers          []string `toml:"aia_ca_issuers" doc:"URLs of the authority's certificate (RFC 5280 section 4.2.2.1)."`
	AIAOCSP               []string `toml:"aia_ocsp" doc:"URLs of OCSP responders (RFC 5280 section 4.2.2.1)."`
}

// SetDefaults sets what holds where the file says nothing.
func (p *Profile) SetDefaults() {
	*p = Profile{
		IdentityKinds: []string{"device"}, Methods: []string{"token"},
		Rekey: rekeyInWindow, MaxSuccessors: 1, MaxEnrolments: 100,
		KeyTypes:   []string{"p256", "p384", "p521", "ed25519", "rsa"},
		RSAMinBits: 2048, RSAMaxBits: 8192,
		Subject: "CN={principal}", Unmapped: template, SAN: sanIdentity, CSRNames: refuse, CSRSubject: ignore, CSRExtensions: ignore,
		ChallengePassword: "verify",
		Validity:          config.Duration(90 * 24 * time.Hour), Backdate: config.Duration(time.Minute),
		KeyUsage: []string{"digitalSignature"}, ExtKeyUsage: []string{"clientAuth"},
	}
}

// Check reports every rule that the profile breaks.
func (p Profile) Check(r *config.Report) { compile(p, r.Add) }
