package authn_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/kerberos/kerberostest"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/ipatest"
)

func newAcceptor(t *testing.T) *kerberos.Acceptor {
	t.Helper()
	a, err := kerberos.New(kerberos.Config{
		Keys: func(context.Context, string, uint32, int32) []secret.Bytes {
			return []secret.Bytes{secret.New(kerberostest.Key(18, 1).KeyValue)}
		},
		Principals: []string{"HTTP/localhost@IPA.TEST"}, Realms: []string{"IPA.TEST", "OTHER.TEST"},
		Skew: time.Minute, Bindings: kerberos.BindingsAbsentOK, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// present presents a new ticket of the client, and stores what became of it.
func (o *office) present(t *testing.T, label, realm string, name ...string) (authn.Outcome, error) {
	t.Helper()
	tok := kerberostest.New(time.Now())
	tok.Part.CRealm, tok.Auth.CRealm = realm, realm
	tok.Part.CName.NameString, tok.Auth.CName.NameString = name, name
	out, err := o.Negotiate(t.Context(), authn.Attempt{
		Label: label, Token68: secret.New([]byte(tok.Header())), SPKISHA256: [32]byte(bytes.Repeat([]byte{9}, 32)), ClientAddress: "192.0.2.7",
	})
	if err == nil && out.Use != nil {
		err = o.state.Use(t.Context(), *out.Use, out.Settlement, audit.Record{Time: time.Now(), Event: "credential.accepted", Outcome: audit.Success})
	}
	return out, err
}

// Who a ticket's client is: by its name alone, or by what the directory says of it.
func TestTicketsOfAccounts(t *testing.T) {
	o := newOffice(t)
	dn := o.ipa.AddUser(ipatest.User{UID: "alice", CN: "Alice A", Mail: []string{"alice@ipa.test"}, Groups: []string{"vpn", "other"}, Aliases: []string{"al"}})
	o.ipa.AddUser(ipatest.User{UID: "left", Locked: true})
	o.ipa.AddHost(ipatest.Host{FQDN: "pump-7.ipa.test"})
	o.ipa.AddHost(ipatest.Host{FQDN: "pump-8.ipa.test", ManagedBy: []string{"pump-7.ipa.test"}})
	const user, host, service = assertionv1.IdentityKind_IDENTITY_KIND_USER, assertionv1.IdentityKind_IDENTITY_KIND_HOST, assertionv1.IdentityKind_IDENTITY_KIND_SERVICE
	alice := &assertionv1.Identity{
		Kind: user, Realm: "IPA.TEST", Principal: "alice", Uid: "alice", Cn: "Alice A", Dn: dn,
		Mail: []string{"alice@ipa.test"}, Groups: []string{"vpn"},
	}
	for _, c := range []struct {
		label, realm string
		name         []string
		want         *assertionv1.Identity
		refused      string
	}{
		{label: "tickets", realm: "IPA.TEST", name: []string{"alice"}, want: &assertionv1.Identity{Kind: user, Realm: "IPA.TEST", Principal: "alice"}},
		{label: "tickets", realm: "IPA.TEST", name: []string{"left"}, want: &assertionv1.Identity{Kind: user, Realm: "IPA.TEST", Principal: "left"}},
		{label: "tickets", realm: "OTHER.TEST", name: []string{"alice"}, want: &assertionv1.Identity{Kind: user, Realm: "OTHER.TEST", Principal: "alice"}},
		{label: "tickets", realm: "IPA.TEST", name: []string{"alice", "admin"}, want: &assertionv1.Identity{Kind: user, Realm: "IPA.TEST", Principal: "alice/admin"}},
		{label: "tickets", realm: "IPA.TEST", name: []string{"host", "x.ipa.test"}, want: &assertionv1.Identity{Kind: host, Realm: "IPA.TEST", Principal: "host/x.ipa.test"}},
		{label: "tickets", realm: "IPA.TEST", name: []string{"ldap", "x.ipa.test"}, want: &assertionv1.Identity{Kind: service, Realm: "IPA.TEST", Principal: "ldap/x.ipa.test"}},
		{label: "tickets-required", realm: "IPA.TEST", name: []string{"alice"}, want: alice},
		{label: "tickets-required", realm: "IPA.TEST", name: []string{"al"}, want: alice},
		{label: "tickets-reachable", realm: "IPA.TEST", name: []string{"alice"}, want: alice},
		{label: "tickets-required", realm: "IPA.TEST", name: []string{"ALICE"}, refused: "unknown account"},
		{label: "tickets-required", realm: "IPA.TEST", name: []string{"nobody"}, refused: "unknown account"},
		{label: "tickets-required", realm: "IPA.TEST", name: []string{"left"}, refused: "account is locked (nsAccountLock)"},
		{label: "tickets-required", realm: "OTHER.TEST", name: []string{"alice"}, refused: "client's realm is not the directory's, which the label wants it to be in"},
		{label: "tickets-reachable", realm: "OTHER.TEST", name: []string{"alice"}, refused: "client's realm is not the directory's, which the label wants it to be in"},
	} {
		out, err := o.present(t, c.label, c.realm, c.name...)
		if err != nil || out.Refused != c.refused || out.Method != "negotiate" {
			t.Errorf("%v@%s under %s: refused %q, %v, not %q", c.name, c.realm, c.label, out.Refused, err, c.refused)
			continue
		}
		if diff := cmp.Diff(c.want, out.Proof.Identity, protocmp.Transform()); c.want != nil && diff != "" {
			t.Errorf("%v@%s under %s (-want +got):\n%s", c.name, c.realm, c.label, diff)
		}
		if c.refused != "" && (out.Use != nil || out.Proof.Identity != nil || len(out.Settlement.Others) == 0) {
			t.Errorf("%v@%s under %s was refused with %+v", c.name, c.realm, c.label, out)
		}
	}
	out, err := o.present(t, "tickets-required", "IPA.TEST", "host", "pump-7.ipa.test")
	if err != nil || out.Proof.Identity.GetKind() != host || len(out.Proof.Identity.GetManagedHosts()) == 0 {
		t.Errorf("a host with another to manage: %v, %v", out.Proof.Identity, err)
	}
	if err := o.ipa.SetFault(ipatest.Refuse); err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]error{"tickets-required": fault.Unavailable, "tickets-reachable": nil, "tickets": nil} {
		out, err := o.present(t, label, "IPA.TEST", "alice")
		if !errors.Is(err, want) || out.Refused != "" || err == nil && out.Proof.Identity.GetUid() != "" {
			t.Errorf("%s while the directory is down: %v, refused %q, %v", label, out.Proof.Identity, out.Refused, err)
		}
	}
}

func TestNewNeedsAllForTickets(t *testing.T) {
	tickets := map[string]authn.Rule{"t": {Basic: authn.BasicNone, Negotiate: true, Check: authn.CheckNone}}
	acceptor := newAcceptor(t)
	for i, c := range []authn.Config{
		{Labels: tickets, Throttle: new(throttle.Throttle), Now: clock, Kerberos: acceptor},
		{Labels: map[string]authn.Rule{"t": {Basic: authn.BasicNone, Negotiate: true, Check: authn.CheckRequired}}, Throttle: new(throttle.Throttle), Now: clock},
	} {
		if _, err := authn.New(c); err == nil {
			t.Errorf("case %d was made", i)
		}
	}
	off, err := authn.New(authn.Config{Labels: tickets, Throttle: new(throttle.Throttle), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	at := authn.Attempt{Label: "t", Token68: secret.New([]byte("YII=")), ClientAddress: "192.0.2.7"}
	if _, err := off.Negotiate(t.Context(), at); !errors.Is(err, fault.Forbidden) {
		t.Errorf("tickets switched off: %v", err)
	}
}
