package serve_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// A token becomes an assertion that the signer's own code believes, and a record.
func TestAccepted(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{AllowedNames: []string{"dns:Pump-7.example"}})
	r := newCSR(t)
	ctx := mesh.WithRequestID(t.Context(), "request-1")
	resp, err := w.authn.Authenticate(ctx, request(t, ":"+string(made.GetSecret()), r))
	if err != nil {
		t.Fatal(err)
	}
	opener := must(assertion.NewOpener(assertion.OpenerConfig{Audience: "Lab CA", Now: w.now, Keys: []assertion.PublicKey{{
		ID: "validator-1", Issuer: meshtest.Validator, Key: w.public, NotAfter: w.now().Add(time.Hour),
		Methods: []assertionv1.Method{assertionv1.Method_METHOD_TOKEN}, Realms: []string{realm},
	}}}))(t)
	v := must(opener.Open(resp.GetAssertion(), assertion.Expect{
		Gateway: meshtest.Gateway, CSRSHA256: r.SHA256(), SPKISHA256: r.SPKISHA256(),
	}))(t)
	a := v.Message()
	if a.GetIdentity().GetPrincipal() != "pump-7" || a.GetLabel() != "devices" || a.GetSpend().GetLimit() != 2 ||
		!slices.Equal(a.GetToken().GetAllowedNames(), []string{"dns:pump-7.example"}) ||
		a.GetAuthentication().GetClientAddress() != "192.0.2.7" {
		t.Errorf("assertion %v", a)
	}
	csrHash := r.SHA256()
	got := w.records(t, "credential.accepted")
	if len(got) != 1 {
		t.Fatalf("%d records", len(got))
	}
	want := audit.Record{
		Time: got[0].Time, Event: "credential.accepted", Outcome: audit.Success, Actor: meshtest.Gateway, Address: "192.0.2.7",
		RequestID: "request-1", Label: "devices", CSRSHA256: hex.EncodeToString(csrHash[:]), Identity: "pump-7@LAB.TEST",
		Method: "token", Detail: map[string]string{"token": made.GetToken().GetId(), "assertion": hex.EncodeToString(a.GetAssertionId())},
	}
	if got[0].Time.IsZero() || !equal(got[0], want) {
		t.Errorf("record %+v, not %+v", got[0], want)
	}
	if !strings.Contains(w.told(t), `"credential.accepted"`) {
		t.Error("the record is not on the stream")
	}
	if n := w.set.GetOrCreateCounter(`estuary_validator_credentials_total{outcome="accepted"}`).Get(); n != 1 {
		t.Errorf("%d accepted credentials counted", n)
	}
}

func equal(a, b audit.Record) bool {
	am, bm := a.Detail, b.Detail
	a.Detail, b.Detail = nil, nil
	if len(am) != len(bm) {
		return false
	}
	for k := range am {
		if am[k] != bm[k] {
			return false
		}
	}
	a.Time, b.Time = time.Time{}, time.Time{}
	return recordKey(a) == recordKey(b)
}

func recordKey(r audit.Record) string {
	return strings.Join([]string{
		r.Event, r.Outcome, r.Actor, r.Address, r.RequestID, r.Label, r.CSRSHA256, r.Identity, r.Method, r.Serial, r.Reason,
	}, "\x00")
}

// Whatever is wrong with a credential, the gateway learns one and the same; why is on record.
func TestRefusalsAreAlike(t *testing.T) {
	w := newWorld(t, options{})
	r := newCSR(t)
	key := r.SPKISHA256()
	good := w.create(t, &validatorv1.CreateTokenRequest{}).GetSecret()
	bound := w.create(t, &validatorv1.CreateTokenRequest{RequiredSpkiSha256: bytes.Repeat([]byte{1}, 32)}).GetSecret()
	mine := w.create(t, &validatorv1.CreateTokenRequest{RequiredSpkiSha256: key[:]}).GetSecret()
	revoked := w.create(t, &validatorv1.CreateTokenRequest{})
	if _, err := w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: revoked.GetToken().GetId()}); err != nil {
		t.Fatal(err)
	}
	short := w.create(t, &validatorv1.CreateTokenRequest{ExpiresAt: timestamppb.New(w.now().Add(time.Minute))})
	w.advance(2 * time.Minute)
	never := must(token.Make(20))(t)
	bytes68 := func(b string) *validatorv1.AuthenticateRequest {
		req := request(t, "", r)
		req.GetCredential().GetBasic().Token68 = []byte(b)
		return req
	}
	cases := []struct {
		reason, identity string
		req              *validatorv1.AuthenticateRequest
	}{
		{"credential is not base64", "", bytes68("***")},
		{"no credential behind the scheme", "", bytes68("")},
		{"credential is not UTF-8", "", request(t, "u:\xff", r)},
		{"credential has a control character", "", request(t, "u:\x00", r)},
		{"credential has no colon", "", request(t, "user", r)},
		{"password is empty", "", request(t, "user:", r)},
		{"does not have the form of a token", "", request(t, "user:password", r)},
		{"unknown token", "", request(t, ":"+string(never.Reveal()), r)},
		{"user name is not the token's client_id", "pump-7@LAB.TEST", request(t, "pump-8:"+string(good), r)},
		{"token is bound to another key", "pump-7@LAB.TEST", request(t, ":"+string(bound), r)},
		{"token is revoked", "pump-7@LAB.TEST", request(t, ":"+string(revoked.GetSecret()), r)},
		{"token has expired", "pump-7@LAB.TEST", request(t, ":"+string(short.GetSecret()), r)},
	}
	var alike *status.Status
	for i, c := range cases {
		_, err := w.authn.Authenticate(t.Context(), c.req)
		if !errors.Is(err, fault.Unauthenticated) || fault.Public(err) != "credential refused" || fault.RetryAfter(err) != 0 {
			t.Errorf("%s: %v", c.reason, err)
		}
		st := status.Convert(fault.ToStatus(err))
		if alike == nil {
			alike = st
		}
		if !proto.Equal(st.Proto(), alike.Proto()) {
			t.Errorf("%s: %v, the first was %v", c.reason, st.Proto(), alike.Proto())
		}
		got := w.records(t, "credential.refused")
		if len(got) != i+1 {
			t.Fatalf("%s: %d records", c.reason, len(got))
		}
		last := got[i]
		if last.Reason != c.reason || last.Identity != c.identity || last.Outcome != audit.Refused ||
			last.Actor != meshtest.Gateway || last.Address != "192.0.2.7" || last.Label != "devices" || last.RequestID == "" {
			t.Errorf("%s: record %+v", c.reason, last)
		}
	}
	for name, content := range map[string]string{"bound to this key": ":" + string(mine), "with its name": "pump-7:" + string(good)} {
		if _, err := w.authn.Authenticate(t.Context(), request(t, content, r)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A message that cannot be read is refused and on record, with what is wrong and nothing of
// what it says; the credential is not looked at.
func TestMessages(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{})
	r := newCSR(t)
	for reason, changes := range map[string][]func(*validatorv1.AuthenticateRequest){
		"field credential: it holds none of a kind that is known": {
			func(q *validatorv1.AuthenticateRequest) { q.Credential = nil },
			func(q *validatorv1.AuthenticateRequest) { q.Credential.Kind = nil },
		},
		"": { // that of services/csr
			func(q *validatorv1.AuthenticateRequest) { q.CsrDer = nil },
			func(q *validatorv1.AuthenticateRequest) { q.CsrDer[len(q.CsrDer)-1] ^= 1 },
			func(q *validatorv1.AuthenticateRequest) { q.CsrDer = append(q.CsrDer, 0) },
		},
		"field operation: 0 is unknown": {func(q *validatorv1.AuthenticateRequest) { q.Operation = 0 }},
		"field operation: 3 is unknown": {func(q *validatorv1.AuthenticateRequest) { q.Operation = 3 }},
		"field label: it is empty":      {func(q *validatorv1.AuthenticateRequest) { q.Label = "" }},
		"field channel.client_address: it is not an IP address": {
			func(q *validatorv1.AuthenticateRequest) { q.Channel = nil },
			func(q *validatorv1.AuthenticateRequest) { q.Channel.ClientAddress = "192.0.2.7:443" },
			func(q *validatorv1.AuthenticateRequest) { q.Channel.ClientAddress = "host\n.example" },
		},
	} {
		for i, change := range changes {
			before := len(w.records(t, "credential.refused"))
			req := request(t, ":"+string(made.GetSecret()), r)
			change(req)
			hash := ""
			if len(req.GetCsrDer()) > 0 {
				hash = fmt.Sprintf("%x", sha256.Sum256(req.GetCsrDer()))
			}
			if _, err := w.authn.Authenticate(t.Context(), req); !errors.Is(err, fault.Malformed) {
				t.Errorf("%s, %d: %v", reason, i, err)
			}
			got := w.records(t, "credential.refused")
			if len(got) != before+1 {
				t.Fatalf("%s, %d: %d records", reason, i, len(got)-before)
			}
			last := got[before]
			if last.Reason == "" || reason != "" && last.Reason != reason || last.CSRSHA256 != hash || last.Label != req.GetLabel() ||
				last.Address != "" && last.Address != "192.0.2.7" || last.Actor != meshtest.Gateway || last.RequestID == "" {
				t.Errorf("%s, %d: record %+v", reason, i, last)
			}
		}
	}
	if n := len(w.records(t, "credential.accepted")); n != 0 {
		t.Errorf("%d accepted", n)
	}
	req := request(t, ":"+string(made.GetSecret()), r)
	req.Channel.ClientAddress = "::ffff:192.0.2.8"
	if _, err := w.authn.Authenticate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got := w.records(t, "credential.accepted"); got[0].Address != "192.0.2.8" {
		t.Errorf("address %q", got[0].Address)
	}
}

// A password that cannot be a token does not cost the check of a certificate request.
func TestFormComesFirst(t *testing.T) {
	w := newWorld(t, options{})
	req := request(t, "user:password", newCSR(t))
	req.CsrDer = []byte("no request")
	if _, err := w.authn.Authenticate(t.Context(), req); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("%v", err)
	}
	if got := w.records(t, "credential.refused"); len(got) != 1 || got[0].Reason != string(token.ReasonForm) {
		t.Errorf("records %+v", got)
	}
}

// Who hangs up is on record like everybody else.
func TestCallerHangsUp(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{})
	ctx := mesh.WithRequestID(t.Context(), hangsUp)
	if _, err := w.authn.Authenticate(ctx, request(t, ":"+string(made.GetSecret()), newCSR(t))); err != nil {
		t.Error(err)
	}
	if _, err := w.authn.Authenticate(ctx, request(t, "user:password", newCSR(t))); !errors.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
	for _, event := range []string{"credential.accepted", "credential.refused"} {
		if n := len(w.records(t, event)); n != 1 {
			t.Errorf("%s: %d records", event, n)
		}
	}
}

func TestUnknownLabel(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{})
	req := request(t, ":"+string(made.GetSecret()), newCSR(t))
	req.Label = "users"
	if _, err := w.authn.Authenticate(t.Context(), req); !errors.Is(err, fault.Forbidden) {
		t.Errorf("%v", err)
	}
	if got := w.records(t, "credential.refused"); len(got) != 1 || got[0].Label != "users" {
		t.Errorf("records %+v", got)
	}
}

// An answer that cannot be recorded is not given: neither yes nor no.
func TestUnrecorded(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{})
	breakAudit(t, w)
	for _, content := range []string{":" + string(made.GetSecret()), "user:password"} {
		resp, err := w.authn.Authenticate(t.Context(), request(t, content, newCSR(t)))
		if resp != nil || err == nil || errors.Is(err, fault.Unauthenticated) {
			t.Errorf("%v, %v", resp, err)
		}
	}
	if _, err := w.admin.CreateToken(t.Context(), &validatorv1.CreateTokenRequest{ClientId: "x"}); err == nil {
		t.Error("a token was made without a record")
	}
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.authn.Authenticate(t.Context(), request(t, ":"+string(made.GetSecret()), newCSR(t))); !errors.Is(err, fault.Unavailable) {
		t.Errorf("without a database: %v", err)
	}
}

// breakAudit makes the next record's number one that is taken.
func breakAudit(t *testing.T, w *world) {
	t.Helper()
	w.exec(t, `INSERT INTO audit_record (seq, at, record, hash) SELECT seq + 1, 0, 'in the way', $1 FROM audit_head`, []byte("in the way"))
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	err := w.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A changed row raises an alarm; to the client it is a refusal like any other.
func TestChangedRow(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{})
	w.exec(t, `UPDATE enrolment_token SET max_uses = 10000`)
	if _, err := w.authn.Authenticate(t.Context(), request(t, ":"+string(made.GetSecret()), newCSR(t))); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("%v", err)
	}
	if n := w.set.GetOrCreateCounter("estuary_validator_forged_rows_total").Get(); n != 1 {
		t.Errorf("%d alarms", n)
	}
	if got := w.records(t, "credential.refused"); len(got) != 1 || got[0].Reason != string(token.ReasonForged) ||
		got[0].Detail["alarm"] != string(token.ReasonForged) {
		t.Errorf("records %+v", got)
	}
}
