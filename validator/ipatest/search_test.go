package ipatest_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// populated returns a server with a few entries of each kind.
func populated(t testing.TB) *ipatest.Server {
	t.Helper()
	s := start(t, ipatest.Config{})
	s.AddRADIUS(ipatest.Proxy{Name: "rsa", Servers: []string{"127.0.0.1:1812", "[::1]:1812"}, Secret: "Shared", Timeout: 9, Retries: -1})
	s.AddUser(ipatest.User{
		UID: "alice", Password: "pw", Mail: []string{"alice@ipa.test"}, Groups: []string{"staff", "Admins"}, Locked: true,
		Aliases: []string{"Alice.Liddell"}, AuthTypes: []string{"otp", "radius"}, RADIUS: "rsa", RADIUSUser: "al",
	})
	s.AddUser(ipatest.User{UID: "bob", Password: "pw", CN: "Bob  O'Hara", Groups: []string{"staff"}})
	s.AddUser(ipatest.User{UID: "weird, user+x", Password: "pw", CN: "Zoë (*)"})
	s.AddHost(ipatest.Host{FQDN: "www.ipa.test", ManagedBy: []string{"adm.ipa.test"}})
	s.AddService(ipatest.Service{Principal: "HTTP/www.ipa.test"})
	s.AddToken(ipatest.Token{ID: "t1", Owner: "alice"})
	s.AddToken(ipatest.Token{ID: "t2", Owner: "bob", Disabled: true})
	return s
}

func TestFilters(t *testing.T) {
	s := populated(t)
	c := service(t, s)
	alice, bob, weird := s.UserDN("alice"), s.UserDN("bob"), s.UserDN("weird, user+x")
	www := s.HostDN("www.ipa.test")
	http := "krbprincipalname=HTTP/www.ipa.test@IPA.TEST,cn=services,cn=accounts,dc=ipa,dc=test"
	for filter, want := range map[string][]string{
		"(&(objectClass=person)(krbPrincipalName=alice@IPA.TEST))":              {alice},
		"(KRBPRINCIPALNAME=Alice.Liddell@IPA.TEST)":                             {alice},
		"(krbPrincipalName=ALICE@IPA.TEST)":                                     nil, // case matters
		"(uid=ALICE)":                                                           {alice},
		"(&(uid=alice)(uid=bob))":                                               nil,
		"(|(uid=alice)(uid=bob)(uid=carol))":                                    {alice, bob},
		"(&(objectClass=person)(!(uid=alice)))":                                 {bob, weird},
		"(&(objectclass=PERSON)(mail=*))":                                       {alice},
		"(&(objectClass=person)(!(mail=*)))":                                    {bob, weird},
		"(krbPrincipalName=gra*)":                                               nil,
		"(krbPrincipalName=ali*@IPA.TEST)":                                      {alice},
		"(krbPrincipalName=ALI*)":                                               nil,
		"(cn=*o'hara)":                                                          {bob},
		"(cn=bob o'hara)":                                                       {bob},
		"(cn=B*'h*a)":                                                           {bob},
		"(cn=zo\\c3\\ab \\28\\2a\\29)":                                          {weird},
		"(cn=ZO\\c3\\8b*)":                                                      {weird},
		"(uid=weird, user+x)":                                                   {weird},
		"(memberOf=CN=staff, cn=groups,cn=accounts,dc=IPA,dc=test)":             {alice, bob},
		"(&(objectClass=ipausergroup)(member=" + bob + "))":                     {"cn=staff,cn=groups,cn=accounts,dc=ipa,dc=test"},
		"(&(objectClass=ipaHost)(fqdn=WWW.ipa.test))":                           {www},
		"(managedBy=" + www + ")":                                               {http, www},
		"(&(objectClass=ipatokenradiusconfiguration)(ipatokenRadiusRetries=*))": {"cn=rsa,cn=radiusproxy,dc=ipa,dc=test"},
		"(ipatokenRadiusTimeout>=10)":                                           nil,
		"(&(ipatokenRadiusTimeout>=9)(ipatokenRadiusTimeout<=10))":              {"cn=rsa,cn=radiusproxy,dc=ipa,dc=test"},
		"(ipatokenRadiusSecret=Shared)":                                         {"cn=rsa,cn=radiusproxy,dc=ipa,dc=test"},
		"(ipatokenRadiusSecret=shared)":                                         nil,
		"(userPassword=pw)":                                                     nil, // undefined for everybody
		"(&(objectClass=person)(!(userPassword=pw)))":                           nil,
		"(uid:caseExactMatch:=alice)":                                           nil,
		"(&(|(objectClass=ipatokenTOTP)(objectClass=ipatokenHOTP))(ipatokenOwner=" + alice + ")(!(ipatokenDisabled=TRUE)))": {s.TokenDN("t1")},
		"(&(|(objectClass=ipatokenTOTP)(objectClass=ipatokenHOTP))(ipatokenOwner=" + bob + ")(!(ipatokenDisabled=TRUE)))":   nil,
		"(&(ipatokenOwner=" + bob + ")(ipatokenDisabled=TRUE))":                                                             {s.TokenDN("t2")},
	} {
		slices.Sort(want)
		if got := find(t, c, s.Base(), ldap.ScopeWholeSubtree, filter); !slices.Equal(got, want) {
			t.Errorf("%s found %q, want %q", filter, got, want)
		}
	}
}

func TestScopes(t *testing.T) {
	s := populated(t)
	c := service(t, s)
	users := "CN=users, cn=accounts,dc=ipa,dc=test"
	for _, q := range []struct {
		base  string
		scope int
		want  int
	}{
		{users, ldap.ScopeBaseObject, 1},
		{users, ldap.ScopeSingleLevel, 3},
		{users, ldap.ScopeWholeSubtree, 4},
		{users, ldap.ScopeChildren, 3},
		{"cn=accounts,dc=ipa,dc=test", ldap.ScopeSingleLevel, 4},
		{s.UserDN("weird, user+x"), ldap.ScopeBaseObject, 1},
		{`uid=weird\, user\+X,cn=users,cn=accounts,dc=ipa,dc=test`, ldap.ScopeBaseObject, 1},
	} {
		if got := find(t, c, q.base, q.scope, "(objectClass=*)"); len(got) != q.want {
			t.Errorf("%s scope %d found %q", q.base, q.scope, got)
		}
	}
	for base, code := range map[string]uint16{"cn=users,dc=ipa,dc=test": 32, "dc=other": 32, "": 32, "users": 34} {
		_, err := c.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, 0, 0, 0, false, "(uid=*)", nil, nil))
		if !ldap.IsErrorWithCode(err, code) {
			t.Errorf("base %q: %v, want result %d", base, err, code)
		}
	}
}

func TestAttributes(t *testing.T) {
	s := populated(t)
	c := service(t, s)
	read := func(dn string, names ...string) map[string][]string {
		r, err := c.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", names, nil))
		if err != nil || len(r.Entries) != 1 {
			t.Fatalf("reading %s: %v, %v", dn, r, err)
		}
		got := map[string][]string{}
		for _, a := range r.Entries[0].Attributes {
			got[a.Name] = a.Values
		}
		return got
	}
	got := read(s.UserDN("alice"), "UID", "memberof", "mail", "nope", "userPassword")
	if len(got) != 3 || len(got["UID"]) != 1 || len(got["memberof"]) != 2 || got["mail"][0] != "alice@ipa.test" {
		t.Errorf("named: %v", got)
	}
	got = read(s.UserDN("alice"))
	if got["krbCanonicalName"] == nil || got["ipatokenRadiusConfigLink"] == nil || got["nsAccountLock"] != nil || got["userPassword"] != nil {
		t.Errorf("all: %v", got)
	}
	got = read(s.UserDN("alice"), "*", "nsAccountLock")
	if got["uid"] == nil || len(got["nsAccountLock"]) != 1 || got["nsAccountLock"][0] != "TRUE" {
		t.Errorf("all and the operational one: %v", got)
	}
	if got = read(s.TokenDN("t1")); got["ipatokenOTPkey"] != nil || got["ipatokenOwner"] == nil {
		t.Errorf("token: %v", got)
	}
	got = read("cn=rsa,cn=radiusproxy,dc=ipa,dc=test")
	if len(got["ipatokenRadiusServer"]) != 2 || got["ipatokenRadiusSecret"][0] != "Shared" || got["ipatokenRadiusRetries"][0] != "0" {
		t.Errorf("proxy: %v", got)
	}
	got = read("cn=global_policy,cn=IPA.TEST,cn=kerberos,dc=ipa,dc=test")
	if got["krbPwdMaxFailure"][0] != "6" || got["krbPwdFailureCountInterval"][0] != "60" || got["krbPwdLockoutDuration"][0] != "600" {
		t.Errorf("policy: %v", got)
	}
	s.DenySecrets(true)
	if got = read("cn=rsa,cn=radiusproxy,dc=ipa,dc=test"); got["ipatokenRadiusSecret"] != nil || got["cn"] == nil {
		t.Errorf("proxy without its secret: %v", got)
	}
	if got := find(t, c, s.Base(), ldap.ScopeWholeSubtree, "(ipatokenRadiusSecret=Shared)"); len(got) != 0 {
		t.Errorf("a secret that cannot be read was compared: %q", got)
	}
}

func TestSizeLimit(t *testing.T) {
	c := service(t, populated(t))
	for limit, want := range map[int]int{1: 1, 2: 2, 3: 3, 0: 3} {
		r, err := c.Search(ldap.NewSearchRequest("dc=ipa,dc=test", ldap.ScopeWholeSubtree, 0, limit, 0, false, "(objectClass=person)", nil, nil))
		if exceeded := limit != 0 && limit < 3; ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) != exceeded || len(r.Entries) != want {
			t.Errorf("limit %d: %d entries, error %v", limit, len(r.Entries), err)
		}
	}
}

// Who sees what.
func TestAccess(t *testing.T) {
	s := populated(t)
	s.AddUser(ipatest.User{UID: "alice", Password: "pw"})
	c := dial(t, s)
	everything := func() []string { return find(t, c, s.Base(), ldap.ScopeWholeSubtree, "(objectClass=*)") }
	if got := everything(); len(got) != 0 {
		t.Errorf("nobody sees %q", got)
	}
	if err := c.Bind(s.UserDN("alice"), "pw"); err != nil {
		t.Fatal(err)
	}
	if got, want := everything(), []string{s.TokenDN("t1"), s.UserDN("alice")}; !slices.Equal(got, want) {
		t.Errorf("alice sees %q, want %q", got, want)
	}
	// A bind that fails leaves nobody bound.
	if err := c.Bind(s.UserDN("alice"), "wrong"); !ldap.IsErrorWithCode(err, 49) {
		t.Fatal(err)
	}
	if got := everything(); len(got) != 0 {
		t.Errorf("after a failed bind nobody sees %q", got)
	}
	if err := c.Bind(s.ServiceDN(), s.ServicePassword()); err != nil {
		t.Fatal(err)
	}
	if got := everything(); len(got) < 20 {
		t.Errorf("the service account sees %q", got)
	}
	for _, err := range []error{
		c.Del(ldap.NewDelRequest(s.UserDN("alice"), nil)),
		c.Modify(&ldap.ModifyRequest{DN: s.UserDN("alice"), Changes: []ldap.Change{{Operation: 2, Modification: ldap.PartialAttribute{Type: "cn", Vals: []string{"x"}}}}}),
	} {
		var refused *ldap.Error
		if !errors.As(err, &refused) || refused.ResultCode != ldap.LDAPResultInsufficientAccessRights {
			t.Errorf("writing: %v", err)
		}
	}
}

func TestRootDSE(t *testing.T) {
	s := start(t, ipatest.Config{})
	r, err := dial(t, s).Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)",
		[]string{"defaultNamingContext", "namingContexts", "supportedControl", "supportedExtension"}, nil))
	if err != nil || len(r.Entries) != 1 {
		t.Fatal(r, err)
	}
	e := r.Entries[0]
	if e.GetAttributeValue("defaultNamingContext") != s.Base() || e.GetAttributeValue("namingContexts") != s.Base() ||
		!slices.Contains(e.GetAttributeValues("supportedControl"), controlOTP) || len(e.GetAttributeValues("supportedExtension")) != 2 {
		t.Errorf("root DSE %v", e.Attributes)
	}
}

// Entries can be changed and removed; indexes follow.
func TestChanges(t *testing.T) {
	s := populated(t)
	c := service(t, s)
	count := func(filter string) int { return len(find(t, c, s.Base(), ldap.ScopeWholeSubtree, filter)) }
	if err := s.Set(s.UserDN("bob"), "krbPrincipalName", "robert@IPA.TEST"); err != nil {
		t.Fatal(err)
	}
	if count("(krbPrincipalName=bob@IPA.TEST)") != 0 || count("(krbPrincipalName=robert@IPA.TEST)") != 1 {
		t.Error("the index does not follow Set")
	}
	if err := s.Delete(s.UserDN("bob")); err != nil {
		t.Fatal(err)
	}
	if count("(krbPrincipalName=robert@IPA.TEST)") != 0 || count("(uid=bob)") != 0 || s.Get(s.UserDN("bob"), "uid") != nil {
		t.Error("the entry is still there")
	}
	if s.Set(s.UserDN("bob"), "cn", "x") == nil || s.Delete(s.UserDN("bob")) == nil || s.Add("no DN", nil) == nil {
		t.Error("what cannot be done is no error")
	}
	for range 2 { // two of a name, as a broken directory has them
		if err := s.Add("uid=twin,cn=users,cn=accounts,dc=ipa,dc=test", map[string][]string{"objectClass": {"person"}, "krbPrincipalName": {"twin@IPA.TEST"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add("uid=twin2,cn=users,cn=accounts,dc=ipa,dc=test", map[string][]string{"objectClass": {"person"}, "krbPrincipalName": {"twin@IPA.TEST"}}); err != nil {
		t.Fatal(err)
	}
	if count("(&(objectClass=person)(krbPrincipalName=twin@IPA.TEST))") != 2 {
		t.Error("not two of a name")
	}
}
