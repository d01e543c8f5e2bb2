package directory_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

func TestFindUser(t *testing.T) {
	s := listen(t, "")
	s.search = people(person("alice", map[string][]string{
		"krbPrincipalName": {"ally@IPA.TEST", "alice@IPA.TEST"}, "krbCanonicalName": {"alice@IPA.TEST"},
		"cn": {"Alice"}, "mail": {"a@ipa.test", "b@ipa.test"}, "ipaUserAuthType": {"OTP", "radius"},
		"ipatokenRadiusConfigLink": {"cn=corp,cn=radiusproxy," + base}, "ipatokenRadiusUserName": {"älice"},
		"nsAccountLock": {"false"}, "krbPrincipalExpiration": {"20991231235959Z"}, "krbPasswordExpiration": {"20260101000000Z"},
		"krbPwdPolicyReference": {"cn=strict,cn=IPA.TEST,cn=kerberos," + base},
		"memberOf": {
			"cn=Admins,cn=groups,cn=accounts," + base, // the case of the directory is no difference
			"cn=vpn,cn=hbac,cn=accounts," + base,      // another subtree
			"cn=vpn,cn=x,cn=groups,cn=accounts," + base,
			"cn=other,cn=groups,cn=accounts," + base,
			"uid=vpn,cn=groups,cn=accounts," + base,
			"cn=vpn+uid=1,cn=groups,cn=accounts," + base,
			"cn=vpn\\,cn=groups,cn=accounts," + base,
			"not a DN",
		},
	}))
	config, log := settings(s.url())
	want := directory.Entry{
		DN: alice, Kind: assertionv1.IdentityKind_IDENTITY_KIND_USER, Principal: "alice", Realm: realm,
		UID: "alice", CN: "Alice", Mail: []string{"a@ipa.test", "b@ipa.test"}, Groups: []string{"admins"},
		AuthTypes: []string{"otp", "radius"}, RADIUSLink: "cn=corp,cn=radiusproxy," + base, RADIUSUser: "älice",
		PrincipalExpires: time.Date(2099, 12, 31, 23, 59, 59, 0, time.UTC),
		PasswordExpires:  time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		PolicyDN:         "cn=strict,cn=IPA.TEST,cn=kerberos," + base,
	}
	d := client(t, config)
	for _, name := range []string{"alice", "alice@IPA.TEST", "ally"} {
		got, err := d.Find(t.Context(), name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	if !strings.Contains(log.String(), "memberOf") {
		t.Error("nothing in the log about the garbled DN")
	}
}

func TestFindHost(t *testing.T) {
	dn := "fqdn=h.ipa.test,cn=computers,cn=accounts," + base
	s := listen(t, "")
	find := people(entry{dn, map[string][]string{
		"objectClass": {"ipaHost", "ipaService", "krbprincipalaux"}, "krbPrincipalName": {"host/h.ipa.test@IPA.TEST"}, "cn": {"h.ipa.test"},
	}}, entry{"krbprincipalname=HTTP/h.ipa.test@IPA.TEST,cn=services,cn=accounts," + base, map[string][]string{
		"objectClass": {"ipaService"}, "krbPrincipalName": {"HTTP/h.ipa.test@IPA.TEST"},
	}})
	s.search = func(at, filter string) answer {
		if strings.Contains(filter, "managedBy="+dn) && strings.Contains(filter, "objectClass=ipaHost") {
			return answer{entries: []entry{
				{"fqdn=z,x", map[string][]string{"fqdn": {"Z.ipa.test"}}},
				{dn, map[string][]string{"FQDN": {"h.ipa.test"}}},
				{"fqdn=bad,x", map[string][]string{"fqdn": {"b d\n"}}},
			}}
		}
		return find(at, filter)
	}
	config, _ := settings(s.url())
	d := client(t, config)
	host, err := d.Find(t.Context(), "host/h.ipa.test")
	if err != nil || host.Kind != assertionv1.IdentityKind_IDENTITY_KIND_HOST || host.Principal != "host/h.ipa.test" ||
		!slices.Equal(host.ManagedHosts, []string{"h.ipa.test", "z.ipa.test"}) {
		t.Errorf("%+v, %v", host, err)
	}
	service, err := d.Find(t.Context(), "HTTP/h.ipa.test@IPA.TEST")
	if err != nil || service.Kind != assertionv1.IdentityKind_IDENTITY_KIND_SERVICE || service.ManagedHosts != nil {
		t.Errorf("%+v, %v", service, err)
	}
}

// What the entry says wrongly counts for the stricter.
func TestGarbledAttributes(t *testing.T) {
	for _, c := range []struct {
		attribute string
		values    []string
		strict    func(directory.Entry) bool
	}{
		{"nsAccountLock", []string{"TRUE"}, func(e directory.Entry) bool { return e.Locked }},
		{"nsAccountLock", []string{"yes"}, func(e directory.Entry) bool { return e.Locked }},
		{"nsAccountLock", []string{""}, func(e directory.Entry) bool { return e.Locked }},
		{"nsAccountLock", []string{"FALSE", "FALSE"}, func(e directory.Entry) bool { return e.Locked }},
		{"krbPrincipalExpiration", []string{"soon"}, func(e directory.Entry) bool { return e.PrincipalExpires.Unix() == 0 }},
		{"krbPrincipalExpiration", []string{""}, func(e directory.Entry) bool { return e.PrincipalExpires.Unix() == 0 }},
		{"krbPrincipalExpiration", []string{"00010101000000Z"}, func(e directory.Entry) bool { return e.PrincipalExpires.Unix() == 0 }},
		{"krbPasswordExpiration", []string{"20990101000000Z", "20980101000000Z"}, func(e directory.Entry) bool { return e.PasswordExpires.Unix() == 0 }},
	} {
		s := listen(t, "")
		s.search = people(person("alice", map[string][]string{c.attribute: c.values}))
		config, _ := settings(s.url())
		got, err := client(t, config).Find(t.Context(), "alice")
		if err != nil || !c.strict(got) {
			t.Errorf("%s %q: %+v, %v", c.attribute, c.values, got, err)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	one := person("alice", nil)
	with := func(more map[string][]string) answer { return answer{entries: []entry{person("alice", more)}} }
	staged := one
	staged.dn = "uid=alice,cn=staged users,cn=accounts,cn=provisioning," + base
	cases := []struct {
		name   string
		answer answer
		want   error // nil for found
	}{
		{"found", answer{entries: []entry{one}}, nil},
		{"beside a staged user", answer{entries: []entry{staged, one}}, nil},
		{"only a staged user", answer{entries: []entry{staged}}, directory.ErrNotFound},
		{"two", answer{entries: []entry{one, person("bob", map[string][]string{"krbPrincipalName": {"alice@IPA.TEST"}})}}, directory.ErrAmbiguous},
		{"more than the limit", answer{code: 4, entries: []entry{one}}, directory.ErrAmbiguous},
		{"many", answer{entries: slices.Repeat([]entry{one}, 50)}, directory.ErrAmbiguous},
		{"none", answer{}, directory.ErrNotFound},
		{"another", answer{entries: []entry{person("bob", nil)}}, directory.ErrNotFound},
		{"another case", with(map[string][]string{"krbPrincipalName": {"Alice@IPA.TEST"}}), directory.ErrNotFound},
		{"without the attribute", with(map[string][]string{"krbPrincipalName": nil}), directory.ErrNotFound},
		{"canonical in another realm", with(map[string][]string{"krbCanonicalName": {"alice@AD.TEST"}}), directory.ErrNotFound},
		{"canonical in a longer realm", with(map[string][]string{"krbCanonicalName": {"alice@x@IPA.TEST"}}), directory.ErrNotFound},
		{"two canonical", with(map[string][]string{"krbCanonicalName": {"alice@IPA.TEST", "b@IPA.TEST"}}), directory.ErrNotFound},
		{"user and host", with(map[string][]string{"objectClass": {"person", "ipaHost"}}), directory.ErrAmbiguous},
		{"of no kind", with(map[string][]string{"objectClass": {"device"}}), directory.ErrAmbiguous},
		{"a bad DN", answer{entries: []entry{{"", one.attrs}}}, fault.Unavailable},
		{"no such object", answer{code: 32}, fault.Unavailable},
		{"referral", answer{code: 10}, fault.Unavailable},
		{"not allowed", answer{code: 50}, fault.Unavailable},
		{"busy", answer{code: 51}, fault.Unavailable},
		{"time limit", answer{code: 3, entries: []entry{one}}, fault.Unavailable},
		{"lost", answer{drop: true}, fault.Unavailable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, "")
			s.search = func(string, string) answer { return c.answer }
			config, _ := settings(s.url())
			got, err := client(t, config).Find(t.Context(), "alice")
			if !errors.Is(err, c.want) || (c.want == nil) != (got.DN == alice) {
				t.Errorf("%+v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	good := map[string]string{
		"alice": "alice", "alice@IPA.TEST": "alice", "host/h.ipa.test": "host/h.ipa.test",
		"HTTP/h.ipa.test@IPA.TEST": "HTTP/h.ipa.test", "zoë": "zoë", "a*": "a*", "a)(uid=*": "a)(uid=*",
		strings.Repeat("a", 255): strings.Repeat("a", 255), "o'brien": "o'brien", "a b": "a b",
	}
	for name, want := range good {
		if got, ok := directory.LocalPart(name, realm); !ok || got != want {
			t.Errorf("%.60q: %q, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", "@", "@IPA.TEST", "alice@", "alice@ipa.test", "alice@AD.TEST", "alice@IPA.TEST@IPA.TEST", "alice@AD.TEST@IPA.TEST",
		`alice\@AD.TEST@IPA.TEST`, `ali\2a`, "a\x00b", "a\nb", "a\x7f", "a\u0085", "\xff", "al\xc3", strings.Repeat("a", 256), " alice", "alice ", " @IPA.TEST",
	} {
		if got, ok := directory.LocalPart(name, realm); ok {
			t.Errorf("%.60q is taken for %q", name, got)
		}
	}
}

// For other attributes than the Kerberos one case is no difference, and the entry spells the
// principal.
func TestOtherAttribute(t *testing.T) {
	s := listen(t, "")
	var filters []string
	s.search = func(_, filter string) answer {
		filters = append(filters, filter)
		return answer{entries: []entry{{"uid=Alice,ou=people," + base, map[string][]string{"objectClass": {"inetOrgPerson"}, "uid": {"Alice"}}}}}
	}
	config, _ := settings(s.url())
	config.PrincipalAttribute = "uid"
	d := client(t, config)
	got, err := d.Find(t.Context(), "aLICE@IPA.TEST")
	if err != nil || got.Principal != "Alice" || got.UID != "Alice" {
		t.Errorf("%+v, %v", got, err)
	}
	// Of several names one is the account's, whichever was asked for: limits and spent codes
	// are the account's too.
	s.search = func(string, string) answer {
		return answer{entries: []entry{{"uid=Alice,ou=people," + base, map[string][]string{"objectClass": {"inetOrgPerson"}, "uid": {"bea", "alice", "cleo"}}}}}
	}
	for _, name := range []string{"bea", "alice", "cleo"} {
		if got, err := client(t, config).Find(t.Context(), name); err != nil || got.Principal != "alice" {
			t.Errorf("asked for %s: %+v, %v", name, got, err)
		}
	}
	s.search = func(_, filter string) answer {
		filters = append(filters, filter)
		return answer{}
	}
	if _, err := d.Find(t.Context(), "ali*"); !errors.Is(err, directory.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if len(filters) != 2 || !strings.HasSuffix(filters[0], "(uid=aLICE))") || !strings.HasSuffix(filters[1], `(uid=ali\2a))`) {
		t.Errorf("filters %q", filters)
	}
}

func TestMatches(t *testing.T) {
	s := listen(t, "")
	var given answer
	s.search = func(at, filter string) answer {
		if at != alice || filter != "(mail=a)" {
			t.Errorf("a search for %s at %q", filter, at)
		}
		return given
	}
	config, _ := settings(s.url())
	d := client(t, config)
	for _, c := range []struct {
		answer answer
		want   bool
		err    error
	}{
		{answer{entries: []entry{person("alice", nil)}}, true, nil},
		{answer{}, false, nil},
		{answer{code: 32}, false, nil},
		{answer{entries: []entry{person("bob", nil)}}, false, fault.Unavailable},
		{answer{code: 50}, false, fault.Unavailable},
	} {
		given = c.answer
		if got, err := d.Matches(t.Context(), user, "(mail=a)"); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, %v", c.answer, got, err)
		}
	}
}

func TestBaseFromServer(t *testing.T) {
	s := listen(t, "")
	s.search = people(person("alice", nil))
	config, _ := settings(s.url())
	config.BaseDN = ""
	if got, err := client(t, config).Find(t.Context(), "alice"); err != nil || got.DN != alice {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestProxy(t *testing.T) {
	link := "cn=corp,cn=radiusproxy," + base
	full := map[string][]string{
		"cn": {"corp"}, "ipatokenRadiusServer": {"r1.ipa.test", "[2001:db8::1]:1645"}, "ipatokenRadiusSecret": {"s\xff\x00ß"},
	}
	e := directory.Entry{DN: alice, Principal: "alice", UID: "alice", RADIUSLink: link}
	cases := []struct {
		name      string
		more      map[string][]string
		entry     directory.Entry
		user      string // empty for a failure
		timeout   time.Duration
		retries   int
		forgotten string // what the error has to name
	}{
		{name: "defaults", entry: e, user: "alice", timeout: 15 * time.Second, retries: 3},
		{name: "values", more: map[string][]string{"ipatokenRadiusTimeout": {"7"}, "ipatokenRadiusRetries": {"0"}}, entry: e, user: "alice", timeout: 7 * time.Second},
		{name: "bounds", more: map[string][]string{"ipatokenRadiusTimeout": {"999999"}, "ipatokenRadiusRetries": {"11"}}, entry: e, user: "alice", timeout: 25 * time.Second, retries: 10},
		{name: "own name", more: map[string][]string{"ipatokenUserMapAttribute": {"mail"}}, entry: directory.Entry{DN: alice, UID: "alice", RADIUSLink: link, RADIUSUser: "ältere"}, user: "ältere", timeout: 15 * time.Second, retries: 3},
		{name: "mapped", more: map[string][]string{"ipatokenUserMapAttribute": {"mail"}}, entry: e, user: "zoë@ipa.test", timeout: 15 * time.Second, retries: 3},
		{name: "mapped to nothing", more: map[string][]string{"ipatokenUserMapAttribute": {"title"}}, entry: e, user: "alice", timeout: 15 * time.Second, retries: 3},
		{name: "mapped to two", more: map[string][]string{"ipatokenUserMapAttribute": {"sn"}}, entry: e, forgotten: "user name"},
		{name: "mapped to all", more: map[string][]string{"ipatokenUserMapAttribute": {"*"}}, entry: e, forgotten: "ipatokenUserMapAttribute"},
		{name: "no secret", more: map[string][]string{"ipatokenRadiusSecret": nil}, entry: e, forgotten: "add the ACI of deploy/freeipa"},
		{name: "no server", more: map[string][]string{"ipatokenRadiusServer": nil}, entry: e, forgotten: "ipatokenRadiusServer"},
		{name: "no time", more: map[string][]string{"ipatokenRadiusTimeout": {"0"}}, entry: e, forgotten: "ipatokenRadiusTimeout"},
		{name: "no number", more: map[string][]string{"ipatokenRadiusRetries": {"-1"}}, entry: e, forgotten: "ipatokenRadiusRetries"},
		{name: "no link", entry: directory.Entry{DN: alice}, forgotten: "ipatokenRadiusConfigLink"},
		{name: "a link to nothing", entry: directory.Entry{DN: alice, RADIUSLink: "cn=x," + base}, forgotten: "is not there"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			attrs := maps.Clone(full)
			maps.Copy(attrs, c.more)
			s := listen(t, "")
			s.search = func(at, _ string) answer {
				switch at {
				case link:
					return answer{entries: []entry{{link, attrs}}}
				case alice:
					return answer{entries: []entry{person("alice", map[string][]string{"mail": {"zoë@ipa.test"}, "sn": {"a", "b"}})}}
				}
				return answer{code: 32}
			}
			config, log := settings(s.url())
			got, err := client(t, config).Proxy(t.Context(), c.entry)
			if c.user == "" {
				if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), c.forgotten) {
					t.Errorf("%v, want it to name %q", err, c.forgotten)
				}
				if c.name == "no secret" && !strings.Contains(log.String(), c.forgotten) {
					t.Error("the log does not name the fix")
				}
				return
			}
			if err != nil || got.User != c.user || got.Timeout != c.timeout || got.Retries != c.retries || got.Name != "corp" ||
				string(got.Secret.Reveal()) != "s\xff\x00ß" || !slices.Equal(got.Servers, full["ipatokenRadiusServer"]) {
				t.Errorf("%+v, %v", got, err)
			}
			if strings.Contains(log.String(), "ß") {
				t.Error("the secret is in the log")
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	global := "cn=global_policy,cn=IPA.TEST,cn=kerberos," + base
	own := "cn=strict,cn=IPA.TEST,cn=kerberos," + base
	searches := 0
	s := listen(t, "")
	s.search = func(at, _ string) answer {
		searches++
		switch at {
		case global:
			return answer{entries: []entry{{global, map[string][]string{"krbPwdMaxFailure": {"6"}, "krbPwdFailureCountInterval": {"60"}, "krbPwdLockoutDuration": {"600"}}}}}
		case own:
			return answer{entries: []entry{{own, map[string][]string{"krbPwdMaxFailure": {"3"}}}}}
		case "cn=bad," + base:
			return answer{entries: []entry{{at, map[string][]string{"krbPwdMaxFailure": {"many"}}}}}
		case "cn=ipaConfig,cn=etc," + base:
			return answer{entries: []entry{{at, map[string][]string{"ipaUserAuthType": {"OTP", "disabled"}}}}}
		}
		return answer{code: 32}
	}
	config, _ := settings(s.url())
	d := client(t, config)
	realms := directory.Lockout{MaxFailures: 6, Interval: time.Minute, Duration: 10 * time.Minute}
	for dn, want := range map[string]directory.Lockout{"": realms, own: {MaxFailures: 3}, "cn=gone," + base: realms} {
		for range 2 {
			if got, err := d.Lockout(t.Context(), directory.Entry{PolicyDN: dn}); err != nil || got != want {
				t.Errorf("%q: %+v, %v", dn, got, err)
			}
		}
	}
	if searches != 4 {
		t.Errorf("%d searches, want 4: each policy is kept", searches)
	}
	if got, err := d.Lockout(t.Context(), directory.Entry{PolicyDN: "cn=bad," + base}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%+v, %v", got, err)
	}
	for range 2 {
		if got, err := d.GlobalTypes(t.Context()); err != nil || !slices.Equal(got, []string{"otp", "disabled"}) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if searches != 6 {
		t.Errorf("%d searches, want 6", searches)
	}
}

func TestNoPolicy(t *testing.T) {
	s := listen(t, "")
	s.search = func(string, string) answer { return answer{code: 32} }
	config, _ := settings(s.url())
	d := client(t, config)
	if got, err := d.Lockout(t.Context(), directory.Entry{}); err != nil || got != (directory.Lockout{}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := d.GlobalTypes(t.Context()); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}
