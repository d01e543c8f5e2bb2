package authn_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/radius"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle/throttletest"
	"github.com/estuary-pki/estuary/validator/internal/token"
	"github.com/estuary-pki/estuary/validator/ipatest"
)

// office is an authenticator beside a directory: with a label for each rule.
type office struct {
	*authn.Authenticator
	ca    *certpathtest.Holder // whose certificates some labels accept
	ipa   *ipatest.Server
	state *state.Store
	hash  *token.Hasher
}

func newOffice(t *testing.T) *office {
	t.Helper()
	ipa, err := ipatest.Start(ipatest.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ipa.Close() })
	log, set := slog.New(slog.DiscardHandler), metrics.NewSet()
	o := &office{ipa: ipa, ca: certpathtest.Issue(t, nil, nil, certpathtest.Authority)}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o.state, err = state.New(t.Context(), state.Config{
		DB: storetest.Open(t, storetest.SQLite(t)), MACKey: secret.New(make([]byte, 32)), Stream: audit.NewStream(io.Discard), Log: log,
	})
	check(err)
	client, err := directory.New(directory.Config{
		Servers: []string{ipa.LDAPS()}, CA: ipa.CAFile(), BindDN: ipa.ServiceDN(), Password: secret.New([]byte(ipa.ServicePassword())),
		Realm: ipa.Realm(), PrincipalAttribute: "krbPrincipalName", OTPRequiredControl: true, Groups: []string{"vpn"},
		Timeout: 500 * time.Millisecond, Pool: 2, Log: log, Metrics: set, Now: time.Now,
	})
	check(err)
	asking, err := radius.New(radius.Config{NASIdentifier: "est", Log: log, Metrics: set, Now: time.Now})
	check(err)
	limits, err := throttletest.New(o.state, nil)
	check(err)
	logins, err := login.New(login.Config{
		Directory: client, RADIUS: asking, State: o.state, Throttle: limits, Keys: []secret.Bytes{secret.New(make([]byte, login.KeySize))},
		Realm: ipa.Realm(), Control: true, Timeout: 500 * time.Millisecond, Log: log, Now: time.Now,
	})
	check(err)
	o.hash, err = token.NewHasher(secret.New(make([]byte, 32)), token.SHA256HMAC)
	check(err)
	tokens, err := token.NewChecker(token.CheckerConfig{State: o.state, Hasher: o.hash, Match: token.MatchIfPresent, Now: time.Now})
	check(err)
	certificates, err := clientcert.New(clientcert.Config{Authority: certpathtest.File(t, o.ca), Log: log, Metrics: set})
	check(err)
	o.Authenticator, err = authn.New(authn.Config{
		Labels: map[string]authn.Rule{
			"devices":   {Basic: authn.BasicToken, Check: authn.CheckNone},
			"users":     {Basic: authn.BasicDirectory, Check: authn.CheckNone},
			"passwords": {Basic: authn.BasicDirectory, AcceptPassword: true, Check: authn.CheckNone},
			"both":      {Basic: authn.BasicTokenThenDirectory, Check: authn.CheckNone},
			"required":  {Basic: authn.BasicTokenThenDirectory, Check: authn.CheckRequired},
			"reachable": {Basic: authn.BasicToken, Check: authn.CheckIfReachable},

			"tickets":           {Basic: authn.BasicNone, Negotiate: true, Check: authn.CheckNone},
			"tickets-required":  {Basic: authn.BasicNone, Negotiate: true, Check: authn.CheckRequired},
			"cards":             {Basic: authn.BasicNone, Check: authn.CheckRequired, Certificates: clientcert.Rule{Authorities: []string{clientcert.Own}}},
			"cards-reachable":   {Basic: authn.BasicNone, Check: authn.CheckIfReachable, Certificates: clientcert.Rule{Authorities: []string{clientcert.Own}}},
			"tickets-reachable": {Basic: authn.BasicNone, Negotiate: true, Check: authn.CheckIfReachable},
		},
		Realm: "DEVICES", Tokens: tokens, Certificates: certificates, Login: logins, Throttle: limits, Now: time.Now,
		Kerberos: newAcceptor(t), Skew: time.Minute, State: o.state,
	})
	check(err)
	return o
}

// token makes one for a client.
func (o *office) token(t *testing.T, clientID string) string {
	t.Helper()
	tok, err := token.Make(16)
	if err != nil {
		t.Fatal(err)
	}
	a, hash, err := o.hash.Hash(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	err = o.state.CreateToken(t.Context(), state.Token{
		ID: token.NewID(), Index: o.hash.Index(tok), Algorithm: string(a), Hash: hash, ClientID: clientID, MaxUses: 9,
		CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	}, audit.Record{Time: time.Now(), Event: "token.created", Outcome: audit.Success})
	if err != nil {
		t.Fatal(err)
	}
	return string(tok.Reveal())
}

func (o *office) try(t *testing.T, label, content string) (authn.Outcome, error) {
	t.Helper()
	at := authn.Attempt{
		Label: label, Token68: secret.New([]byte(b64(content))), SPKISHA256: [32]byte(bytes.Repeat([]byte{9}, 32)), ClientAddress: "192.0.2.7",
	}
	out, err := o.Basic(t.Context(), at)
	if err == nil {
		err = o.state.Settle(t.Context(), out.Settlement, nil)
	}
	return out, err
}

// Which back end a password goes to, by label and form.
func TestRoutes(t *testing.T) {
	o := newOffice(t)
	dn := o.ipa.AddUser(ipatest.User{UID: "alice", Password: "Secret.1", AuthTypes: []string{"otp"}, Mail: []string{"alice@ipa.test"}, Groups: []string{"vpn", "other"}})
	o.ipa.AddToken(ipatest.Token{ID: "alice", Owner: "alice", HOTP: true})
	o.ipa.AddUser(ipatest.User{UID: "bob", Password: "Secret.1"})
	tok := o.token(t, "pump-7")
	code := o.ipa.Code("alice")
	for _, c := range []struct{ label, content, method, refused string }{
		{"devices", "alice:Secret.1" + code, "token", "does not have the form of a token"},
		{"devices", "pump-7:" + tok, "token", ""},
		{"users", "pump-7:" + tok, "password", "the label takes no enrolment token"},
		{"users", "bob:Secret.1", "password", "a password alone is not accepted under this label"},
		{"passwords", "bob:Secret.1", "ldap-password", ""},
		{"both", "pump-7:" + tok, "token", ""},
		{"both", "alice:Secret.1" + code, "ldap-otp", ""},
		{"users", "alice:Secret.1" + code, "ldap-otp", ""}, // a repeat, whatever the label
	} {
		out, err := o.try(t, c.label, c.content)
		if err != nil || out.Refused != c.refused || out.Method != c.method {
			t.Errorf("%s under %s: method %q, refused %q, %v; not %q, %q", c.content[:6], c.label, out.Method, out.Refused, err, c.method, c.refused)
		}
		if c.method == "ldap-otp" {
			id, a, spend := out.Proof.Identity, out.Proof.Authentication, out.Proof.Spend
			if id.GetKind() != assertionv1.IdentityKind_IDENTITY_KIND_USER || id.GetPrincipal() != "alice" || id.GetRealm() != "IPA.TEST" || id.GetUid() != "alice" ||
				id.GetDn() != dn || len(id.GetMail()) != 1 || len(id.GetGroups()) != 1 || id.GetGroups()[0] != "vpn" {
				t.Errorf("identity %v", id)
			}
			if len(a.GetIndicators()) != 1 || a.GetIndicators()[0] != "otp" || a.GetClientAddress() != "192.0.2.7" || a.GetBackend() == "" ||
				len(spend.GetIds()) != 1 || spend.GetLimit() != 1 || time.Until(spend.GetKeepUntil().AsTime()) < 29*24*time.Hour {
				t.Errorf("authentication %v, spend %v", a, spend)
			}
		}
		if c.method == "ldap-password" && (out.Proof.Spend != nil || len(out.Proof.Authentication.GetIndicators()) != 0) {
			t.Errorf("a password alone: %v", out.Proof)
		}
	}
	if n := o.ipa.Binds(dn); n != 1 {
		t.Errorf("%d binds", n)
	}
}

// A token's holder who has to be an account: is one, is none, is one that has left; and with
// the directory down.
func TestDirectoryCheck(t *testing.T) {
	o := newOffice(t)
	o.ipa.AddUser(ipatest.User{UID: "alice"})
	o.ipa.AddUser(ipatest.User{UID: "left", Locked: true})
	o.ipa.AddHost(ipatest.Host{FQDN: "h.ipa.test"})
	good, none, left, host := o.token(t, "alice"), o.token(t, "pump-7"), o.token(t, "left"), o.token(t, "host/h.ipa.test")
	for _, c := range []struct{ label, token, refused string }{
		{"both", none, ""},
		{"required", good, ""},
		{"required", host, ""},
		{"required", none, "unknown account"},
		{"required", left, "account is locked (nsAccountLock)"},
		{"reachable", good, ""},
		{"reachable", none, "unknown account"},
	} {
		if out, err := o.try(t, c.label, ":"+c.token); err != nil || out.Refused != c.refused {
			t.Errorf("%s: refused %q, %v, not %q", c.label, out.Refused, err, c.refused)
		}
	}
	if err := o.ipa.SetFault(ipatest.Refuse); err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]error{"required": fault.Unavailable, "reachable": nil, "both": nil} {
		if out, err := o.try(t, label, ":"+good); !errors.Is(err, want) || out.Refused != "" {
			t.Errorf("%s while the directory is down: refused %q, %v", label, out.Refused, err)
		}
	}
}

// TestHoldersAreLookedUp: the certificate of one who has left proves nothing any more, and what
// the directory knows of who has not is asserted.
func TestHoldersAreLookedUp(t *testing.T) {
	const (
		user   = assertionv1.IdentityKind_IDENTITY_KIND_USER
		host   = assertionv1.IdentityKind_IDENTITY_KIND_HOST
		device = assertionv1.IdentityKind_IDENTITY_KIND_DEVICE
	)
	o := newOffice(t)
	o.ipa.AddUser(ipatest.User{UID: "alice", Mail: []string{"alice@ipa.test"}, Groups: []string{"vpn"}})
	o.ipa.AddUser(ipatest.User{UID: "left", Locked: true})
	try := func(label string, kind assertionv1.IdentityKind, principal, realm string) (authn.Outcome, error) {
		h := certpathtest.Issue(t, o.ca, nil, certpathtest.Of(t, kind, principal, realm))
		return o.Certificate(t.Context(), authn.Attempt{Label: label, ClientAddress: "192.0.2.7", Certificates: [][]byte{h.Raw}})
	}
	for _, c := range []struct {
		kind             assertionv1.IdentityKind
		principal, realm string
		refused          string
	}{
		{user, "alice", "IPA.TEST", ""},
		{user, "left", "IPA.TEST", "account is locked (nsAccountLock)"},
		{user, "nobody", "IPA.TEST", "unknown account"},
		{user, "Alice", "IPA.TEST", "unknown account"},
		{user, "alice", "OTHER.TEST", "client's realm is not the directory's, which the label wants it to be in"},
		{host, "alice", "IPA.TEST", "the directory knows the holder of the certificate under another name or kind"},
		{device, "alice", "DEVICES", ""},
		{device, "pump-7", "DEVICES", "unknown account"},
	} {
		out, err := try("cards", c.kind, c.principal, c.realm)
		if err != nil || out.Refused != c.refused || out.Absent || out.Identity != c.principal+"@"+c.realm {
			t.Errorf("%s %s@%s: refused %q, %v, not %q", c.kind, c.principal, c.realm, out.Refused, err, c.refused)
		}
		if c.kind == user && c.refused == "" && (len(out.Proof.Identity.GetGroups()) != 1 || len(out.Proof.Identity.GetMail()) != 1) {
			t.Errorf("asserted %v", out.Proof.Identity)
		}
	}
	if err := o.ipa.SetFault(ipatest.Refuse); err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]error{"cards": fault.Unavailable, "cards-reachable": nil} {
		if out, err := try(label, user, "alice", "IPA.TEST"); !errors.Is(err, want) || out.Refused != "" {
			t.Errorf("%s while the directory is down: refused %q, %v", label, out.Refused, err)
		}
	}
	if _, err := try("users", user, "alice", "IPA.TEST"); !errors.Is(err, fault.Forbidden) {
		t.Errorf("under a label without certificates: %v", err)
	}
}
