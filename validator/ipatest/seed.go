package ipatest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The names of the realm.
const (
	suffix    = "dc=ipa,dc=test"
	realm     = "IPA.TEST"
	configDN  = "cn=ipaconfig,cn=etc," + suffix
	policyKey = "cn=global_policy,cn=ipa.test,cn=kerberos," + suffix
	serviceDN = "uid=estuary,cn=sysaccounts,cn=etc," + suffix
)

// seed puts the entries into the tree that every FreeIPA has, and the service account.
func (s *Server) seed() error {
	for _, rdn := range []string{
		"cn=accounts", "cn=users,cn=accounts", "cn=groups,cn=accounts", "cn=computers,cn=accounts",
		"cn=services,cn=accounts", "cn=etc", "cn=sysaccounts,cn=etc", "cn=otp", "cn=radiusproxy", "cn=kerberos",
	} {
		if err := s.Add(rdn+","+suffix, map[string][]string{"objectClass": {"top", "nsContainer"}}); err != nil {
			return err
		}
	}
	entries := map[string]map[string][]string{
		suffix:                                   {"objectClass": {"top", "domain"}, "dc": {"ipa"}},
		"cn=ipaConfig,cn=etc," + suffix:          {"objectClass": {"top", "nsContainer", "ipaGuiConfig", "ipaConfigObject", "ipaUserAuthTypeClass"}, "cn": {"ipaConfig"}},
		"cn=" + realm + ",cn=kerberos," + suffix: {"objectClass": {"top", "krbrealmcontainer"}, "cn": {realm}},
		// The type of its own lets the service account bind whatever the global types are: the
		// plug-in does not tell accounts of services from those of users.
		serviceDN: {
			"objectClass": {"top", "account", "simplesecurityobject", "ipaUserAuthTypeClass"},
			"uid":         {"estuary"}, "userPassword": {s.password}, "ipaUserAuthType": {"password"},
		},
	}
	for dn, attributes := range entries {
		if err := s.Add(dn, attributes); err != nil {
			return err
		}
	}
	s.SetPolicy(Policy{MaxFailures: 6, Interval: time.Minute, Duration: 10 * time.Minute})
	return nil
}

// UserDN returns the DN of a user.
func (s *Server) UserDN(uid string) string {
	return "uid=" + escape(uid) + ",cn=users,cn=accounts," + suffix
}

// HostDN returns the DN of a host.
func (s *Server) HostDN(fqdn string) string {
	return "fqdn=" + escape(fqdn) + ",cn=computers,cn=accounts," + suffix
}

// TokenDN returns the DN of a token.
func (s *Server) TokenDN(id string) string {
	return "ipatokenuniqueid=" + escape(id) + ",cn=otp," + suffix
}

// PolicyDN returns the DN of the password policy of a name, as User.Policy has it.
func (s *Server) PolicyDN(name string) string {
	return "cn=" + escape(name) + ",cn=" + realm + ",cn=kerberos," + suffix
}

func groupDN(name string) string { return "cn=" + escape(name) + ",cn=groups,cn=accounts," + suffix }
func proxyDN(name string) string { return "cn=" + escape(name) + ",cn=radiusproxy," + suffix }

func boolean(b bool) string {
	if b {
		return "TRUE"
	}
	return ""
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(generalized)
}

func each(names []string, f func(string) string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = f(n)
	}
	return out
}

// put adds an entry whose DN this package has made.
func (s *Server) put(dn string, attributes ...attribute) string {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	_, _ = s.tree.put(dn, attributes) // an escaped value cannot make a DN malformed
	return dn
}

func optional(name string, n int) attribute {
	if n == 0 {
		return attribute{name: name}
	}
	return attribute{name, []string{strconv.Itoa(max(n, 0))}}
}

func principal(name string) string { return name + "@" + realm }

// AddUser adds a user, or replaces the one of that UID, and returns the DN.
func (s *Server) AddUser(u User) string {
	classes := []string{
		"top", "person", "organizationalperson", "inetorgperson", "inetuser", "posixaccount",
		"krbprincipalaux", "krbticketpolicyaux", "ipaobject",
	}
	if len(u.AuthTypes) != 0 {
		classes = append(classes, "ipauserauthtypeclass")
	}
	if u.RADIUS != "" || u.RADIUSUser != "" {
		classes = append(classes, "ipatokenradiusproxyuser")
	}
	cn, policy, link := u.CN, "", ""
	if cn == "" {
		cn = u.UID
	}
	if u.Policy != "" {
		policy = s.PolicyDN(u.Policy)
	}
	if u.RADIUS != "" {
		link = proxyDN(u.RADIUS)
	}
	dn := s.put(s.UserDN(u.UID),
		attribute{"objectClass", classes}, attribute{"uid", []string{u.UID}}, attribute{"cn", []string{cn}},
		attribute{"sn", []string{cn}}, attribute{"mail", u.Mail},
		attribute{"krbPrincipalName", each(append([]string{u.UID}, u.Aliases...), principal)},
		attribute{"krbCanonicalName", []string{principal(u.UID)}},
		attribute{"memberOf", each(u.Groups, groupDN)}, attribute{"ipaUserAuthType", u.AuthTypes},
		attribute{"ipatokenRadiusConfigLink", []string{link}}, attribute{"ipatokenRadiusUserName", []string{u.RADIUSUser}},
		attribute{"nsAccountLock", []string{boolean(u.Locked)}}, attribute{"userPassword", []string{u.Password}},
		attribute{"krbPrincipalExpiration", []string{stamp(u.PrincipalExpires)}},
		attribute{"krbPasswordExpiration", []string{stamp(u.PasswordExpires)}},
		attribute{"krbPwdPolicyReference", []string{policy}},
	)
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	for _, name := range u.Groups {
		s.join(name, dn)
	}
	key, _, _ := normalDN(dn)
	if s.mustChange[key] = u.MustChange; !u.MustChange {
		delete(s.mustChange, key)
	}
	return dn
}

// join makes an entry a member of a group, which is made when it is missing.
func (s *Server) join(name, dn string) {
	g, err := s.tree.find(groupDN(name))
	if err != nil {
		g, _ = s.tree.put(groupDN(name), []attribute{
			{"objectClass", []string{"top", "groupofnames", "nestedgroup", "ipausergroup", "ipaobject"}},
			{"cn", []string{name}},
		})
	}
	s.tree.add(g, "member", dn)
}

// AddHost adds a host, or replaces the one of that name, and returns the DN.
func (s *Server) AddHost(h Host) string {
	dn := s.HostDN(h.FQDN)
	return s.put(dn,
		attribute{"objectClass", []string{
			"top", "ipaobject", "nshost", "ipahost", "ipaservice", "pkiuser", "krbprincipalaux", "krbprincipal", "krbticketpolicyaux",
		}},
		attribute{"fqdn", []string{h.FQDN}}, attribute{"cn", []string{h.FQDN}},
		attribute{"krbPrincipalName", []string{principal("host/" + h.FQDN)}},
		attribute{"krbCanonicalName", []string{principal("host/" + h.FQDN)}},
		attribute{"managedBy", append([]string{dn}, each(h.ManagedBy, s.HostDN)...)},
		attribute{"nsAccountLock", []string{boolean(h.Locked)}}, attribute{"userPassword", []string{h.Password}},
	)
}

// AddService adds a service, or replaces the one of that principal, and returns the DN.
func (s *Server) AddService(v Service) string {
	by := v.ManagedBy
	if _, host, found := strings.Cut(v.Principal, "/"); found && len(by) == 0 {
		by = []string{host}
	}
	return s.put("krbprincipalname="+escape(principal(v.Principal))+",cn=services,cn=accounts,"+suffix,
		attribute{"objectClass", []string{
			"top", "ipaobject", "ipaservice", "pkiuser", "krbprincipalaux", "krbprincipal", "krbticketpolicyaux",
		}},
		attribute{"krbPrincipalName", []string{principal(v.Principal)}},
		attribute{"krbCanonicalName", []string{principal(v.Principal)}},
		attribute{"managedBy", each(by, s.HostDN)}, attribute{"nsAccountLock", []string{boolean(v.Locked)}},
	)
}

// AddRADIUS adds a RADIUS configuration, or replaces the one of that name, and returns the DN.
func (s *Server) AddRADIUS(p Proxy) string {
	return s.put(proxyDN(p.Name),
		attribute{"objectClass", []string{"top", "ipatokenradiusconfiguration"}}, attribute{"cn", []string{p.Name}},
		attribute{"ipatokenRadiusServer", p.Servers}, attribute{"ipatokenRadiusSecret", []string{p.Secret}},
		optional("ipatokenRadiusTimeout", p.Timeout), optional("ipatokenRadiusRetries", p.Retries),
		attribute{"ipatokenUserMapAttribute", []string{p.UserMapAttribute}},
	)
}

// AddToken adds a token, or replaces the one of that name, and returns the DN.
func (s *Server) AddToken(t Token) string {
	kind, digits, algorithm, key := "ipatokentotp", t.Digits, t.Algorithm, t.Key
	if digits == 0 {
		digits = 6
	}
	if algorithm == "" {
		algorithm = "sha1"
	}
	if len(key) == 0 {
		key = []byte("12345678901234567890")
	}
	own := []attribute{{"ipatokenTOTPclockOffset", []string{"0"}}, {"ipatokenTOTPtimeStep", []string{strconv.Itoa(max(t.Step, 30))}}}
	if t.Step > 0 {
		own[1].values = []string{strconv.Itoa(t.Step)}
	}
	if t.HOTP {
		kind, own = "ipatokenhotp", []attribute{{"ipatokenHOTPcounter", []string{strconv.FormatInt(t.Counter, 10)}}}
	}
	disabled := "FALSE"
	if t.Disabled {
		disabled = "TRUE"
	}
	return s.put(s.TokenDN(t.ID), append(own,
		attribute{"objectClass", []string{"top", "ipatoken", kind}}, attribute{"ipatokenUniqueID", []string{t.ID}},
		attribute{"ipatokenOwner", []string{s.UserDN(t.Owner)}}, attribute{"managedBy", []string{s.UserDN(t.Owner)}},
		attribute{"ipatokenOTPkey", []string{string(key)}}, attribute{"ipatokenOTPalgorithm", []string{algorithm}},
		attribute{"ipatokenOTPdigits", []string{strconv.Itoa(digits)}}, attribute{"ipatokenDisabled", []string{disabled}},
		attribute{"ipatokenNotBefore", []string{stamp(t.NotBefore)}}, attribute{"ipatokenNotAfter", []string{stamp(t.NotAfter)}},
	)...)
}

// SetGlobalTypes replaces ipaUserAuthType of cn=ipaConfig,cn=etc,S.
func (s *Server) SetGlobalTypes(types ...string) {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	if e := s.tree.entries[configDN]; e != nil {
		s.tree.set(e, "ipaUserAuthType", types...)
	}
}

// SetPolicy replaces the realm's password policy; at first it is FreeIPA's: 6 failures with
// gaps of at most 60 s lock for 600 s.
func (s *Server) SetPolicy(p Policy) { s.AddPolicy("global_policy", p) }

// AddPolicy adds a password policy for User.Policy, or replaces it, and returns the DN.
func (s *Server) AddPolicy(name string, p Policy) string {
	return s.put(s.PolicyDN(name),
		attribute{"objectClass", []string{"top", "nsContainer", "krbpwdpolicy"}}, attribute{"cn", []string{name}},
		attribute{"krbPwdMaxFailure", []string{strconv.Itoa(p.MaxFailures)}},
		attribute{"krbPwdFailureCountInterval", []string{strconv.Itoa(int(p.Interval / time.Second))}},
		attribute{"krbPwdLockoutDuration", []string{strconv.Itoa(int(p.Duration / time.Second))}},
	)
}

// Add adds an entry of any kind, or replaces the one of that DN.
func (s *Server) Add(dn string, attributes map[string][]string) error {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	list := make([]attribute, 0, len(attributes))
	for name, values := range attributes {
		list = append(list, attribute{name, values})
	}
	if _, err := s.tree.put(dn, list); err != nil {
		return fmt.Errorf("adding %.200q: %w", dn, err)
	}
	return nil
}

// Set replaces the values of an attribute; no values remove it.
func (s *Server) Set(dn, name string, values ...string) error {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	e, err := s.tree.find(dn)
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	s.tree.set(e, name, values...)
	return nil
}

// Get returns the values of an attribute, hidden ones too; none when there is no such entry.
func (s *Server) Get(dn, name string) []string {
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	e, err := s.tree.find(dn)
	if err != nil {
		return nil
	}
	return append([]string(nil), e.get(name)...)
}

// Delete removes an entry.
func (s *Server) Delete(dn string) error {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	e, err := s.tree.find(dn)
	if err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	s.tree.remove(e)
	return nil
}
