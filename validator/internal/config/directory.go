package config

import (
	"errors"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// Directory is the [directory] table.
type Directory struct {
	Servers []string `toml:"servers" doc:"URLs of the directory servers: ldaps://HOST, ldap://HOST (with StartTLS, never in clear) or ldapi://%2FPATH. An account keeps to one of them while that is up; another is asked only when a server is down."`
	Realm   string   `toml:"realm" doc:"Kerberos realm of the accounts; the signer's [[validator]] realms have to name it."`
	BaseDN  string   `toml:"base_dn" doc:"Where the directory begins; empty for the server's own defaultNamingContext."`

	CA           config.Path `toml:"ca" doc:"PEM file with the CAs of the servers' certificates, for FreeIPA its /etc/ipa/ca.crt; empty for those of the system."`
	Certificate  config.Path `toml:"certificate" doc:"Client certificate, PEM, with which the validator names itself to the servers: for SASL EXTERNAL."`
	Key          config.Path `toml:"key" doc:"Private key of that certificate, PEM."`
	BindDN       string      `toml:"bind_dn" doc:"DN of the validator's own account, for a simple bind; empty for SASL EXTERNAL, by the certificate or over ldapi."`
	PasswordFile config.Path `toml:"password_file" doc:"File with the password of bind_dn. Must not be accessible to other users."`

	PrincipalAttribute string `toml:"principal_attribute" doc:"Attribute that a user name is looked up by: krbPrincipalName, with the realm behind the name, or another such as uid, without."`
	OTPRequiredControl bool   `toml:"otp_required_control" doc:"Whether binds that have to prove a second factor carry FreeIPA's critical control for that (2.16.840.1.113730.3.8.10.7). Only FreeIPA knows it: with another directory it has to be false, and otp_evidence say how a second factor shows."`
	OTPEvidence        string `toml:"otp_evidence" doc:"With otp_required_control = false: LDAP filter for the entries whose bind proves a second factor, such as (objectClass=oathTOTPUser). Empty: no bind is taken for a proof of one."`

	CheckPasswordExpiration bool            `toml:"check_password_expiration" doc:"Whether an account whose krbPasswordExpiration has passed is refused. nsAccountLock and krbPrincipalExpiration always count."`
	Groups                  []string        `toml:"groups" doc:"Names of the groups whose membership the signer is told."`
	Timeout                 config.Duration `toml:"timeout" doc:"How long one operation with a server may take, its connection included, 100ms to 20s."`
	Pool                    int             `toml:"pool" doc:"Idle connections kept to each server for searches, 1 to 64."`
}

const (
	minLDAPTime = 100 * time.Millisecond
	maxLDAPTime = 20 * time.Second
	maxPool     = 64
)

func defaultDirectory() Directory {
	return Directory{
		PrincipalAttribute: "krbPrincipalName", OTPRequiredControl: true,
		Timeout: config.Duration(5 * time.Second), Pool: 8,
	}
}

// Used tells whether there is a directory.
func (d *Directory) Used() bool { return len(d.Servers) > 0 }

// Check reports what does not go together.
func (d *Directory) Check(r *config.Report) {
	if !d.Used() {
		return
	}
	needText(r, "realm", d.Realm)
	needText(r, "principal_attribute", d.PrincipalAttribute)
	if (d.BindDN == "") != (d.PasswordFile == "") {
		r.Add("password_file", "goes with bind_dn: both, or neither for SASL EXTERNAL")
	}
	if (d.Certificate == "") != (d.Key == "") {
		r.Add("key", "goes with certificate: both or neither")
	}
	if d.BindDN == "" && d.Certificate == "" {
		for _, s := range d.Servers {
			if !strings.HasPrefix(s, "ldapi:") {
				r.Add("bind_dn", "is missing, and so is a certificate: nothing names the validator to %s", s)
				break
			}
		}
	}
	if d.OTPRequiredControl && d.OTPEvidence != "" {
		r.Add("otp_evidence", "means nothing while otp_required_control is true")
	}
	if t := time.Duration(d.Timeout); t < minLDAPTime || t > maxLDAPTime {
		r.Add("timeout", "has to be between %s and %s, not %s", config.Duration(minLDAPTime), config.Duration(maxLDAPTime), d.Timeout)
	}
	if d.Pool < 1 || d.Pool > maxPool {
		r.Add("pool", "has to be between 1 and %d, not %d", maxPool, d.Pool)
	}
	var wrong *directory.SettingError
	if err := d.client(secret.New([]byte("unread"))).Check(); errors.As(err, &wrong) {
		r.Add(wrong.Key, "%s", wrong.Err)
	}
}

// Open returns what the client of the directory needs, apart from log, metrics and clock.
func (d *Directory) Open() (directory.Config, error) {
	password := secret.Bytes{}
	if d.PasswordFile != "" {
		var err error
		if password, err = secret.ReadFile(string(d.PasswordFile)); err != nil {
			return directory.Config{}, err
		}
	}
	return d.client(password), nil
}

func (d *Directory) client(password secret.Bytes) directory.Config {
	return directory.Config{
		Servers: d.Servers, CA: string(d.CA), Certificate: string(d.Certificate), Key: string(d.Key),
		BindDN: d.BindDN, Password: password, BaseDN: d.BaseDN, Realm: d.Realm,
		PrincipalAttribute: d.PrincipalAttribute, OTPRequiredControl: d.OTPRequiredControl, Evidence: d.OTPEvidence,
		Groups: d.Groups, Timeout: time.Duration(d.Timeout), Pool: d.Pool,
	}
}

// OneTime is the [one_time] table.
type OneTime struct {
	SpendKeys []config.Path `toml:"spend_keys" doc:"Files with 32 octets in hexadecimal, the keys under which validators and signer know one-time codes again. All validators need one in common: to change it, add the new one to all, and take the old one away 30 days later."`
}

// OTPD is the [otpd] table.
type OTPD struct {
	Listen  string          `toml:"listen" doc:"unix:PATH of the socket that the KDC's [otp] section names; empty for none. Whoever can connect to it can try passwords: only root may, by its mode."`
	Timeout config.Duration `toml:"timeout" doc:"How long a login may take before the KDC is told no, 1s to 5m. kinit gives up after 18 s, and the KDC after the timeout of its own [otp] section."`
}

// Check reports an address that is no socket.
func (o *OTPD) Check(r *config.Report) {
	if path, ok := strings.CutPrefix(o.Listen, "unix:"); o.Listen != "" && (!ok || !strings.HasPrefix(path, "/")) {
		r.Add("listen", "has to be unix: and an absolute path, not %q", o.Listen)
	}
	if t := time.Duration(o.Timeout); t < time.Second || t > 5*time.Minute {
		r.Add("timeout", "has to be between 1s and 5m, not %s", o.Timeout)
	}
}
