package admin_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
)

const tokenID = "abcdefghijklmnopqrstuvwxyz"

// stored returns a token as the validator would.
func stored(state validatorv1.TokenState) *validatorv1.Token {
	return &validatorv1.Token{
		Id: tokenID, ClientId: "printer-7", MaxUses: 3, State: state, CreatedBy: "full",
		CreatedAt: timestamppb.New(noon), ExpiresAt: timestamppb.New(noon.Add(time.Hour)),
	}
}

func TestCreateToken(t *testing.T) {
	r := start(t, nil)
	var got *validatorv1.CreateTokenRequest
	r.create = func(ask *validatorv1.CreateTokenRequest) (*validatorv1.CreateTokenResponse, error) {
		got = ask
		return &validatorv1.CreateTokenResponse{
			Token:  stored(validatorv1.TokenState_TOKEN_STATE_ACTIVE),
			Secret: []byte("est_secret"),
		}, nil
	}
	a := r.ask(t, "POST", "/admin/otp", r.full, `{
		"client_id": "printer-7", "max_uses": 3, "expires_at": "2030-01-31T14:00:00+01:00",
		"required_spki_sha256": "`+strings.Repeat("0A", 32)+`",
		"names": ["dns:Printer-7.LAB.test", "ip:192.0.2.7", "email:a@lab.test", "uri:https://lab.test/7"]}`)
	if a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	want := map[string]any{
		"id": tokenID, "token": "est_secret", "client_id": "printer-7", "max_uses": 3.0,
		"created_at": "2030-01-31T12:00:00Z", "expires_at": "2030-01-31T13:00:00Z",
	}
	if diff := cmp.Diff(want, a.object(t)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	wantAsk := &validatorv1.CreateTokenRequest{
		ClientId: "printer-7", MaxUses: 3, ExpiresAt: timestamppb.New(noon.Add(time.Hour)),
		RequiredSpkiSha256: bytes.Repeat([]byte{10}, 32), CreatedBy: "full",
		AllowedNames: []string{"dns:printer-7.lab.test", "ip:192.0.2.7", "email:a@lab.test", "uri:https://lab.test/7"},
	}
	if diff := cmp.Diff(wantAsk, got, protocmp.Transform()); diff != "" {
		t.Errorf("asked of the validator (-want +got):\n%s", diff)
	}
	id := a.header.Get("X-Request-Id")
	if calls := r.calls(); len(calls) != 1 || calls[0] != id || id == "" {
		t.Errorf("request id %q, the validator got %q", id, calls)
	}
	about := map[string]string{"method": "POST", "path": "/admin/otp", "client_id": "printer-7"}
	done := map[string]string{
		"method": "POST", "path": "/admin/otp", "client_id": "printer-7",
		"token_id": tokenID, "max_uses": "3", "expires_at": "2030-01-31T13:00:00Z",
	}
	record := audit.Record{Time: noon, Event: "token.created", Actor: "full", Address: "127.0.0.1", RequestID: id}
	intent, success := record, record
	intent.Outcome, intent.Detail = audit.Intent, about
	success.Outcome, success.Detail = audit.Success, done
	if diff := cmp.Diff([]audit.Record{intent, success}, r.audit.take()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

// TestCreateTokenDefaults leaves to the validator what the administrator leaves out.
func TestCreateTokenDefaults(t *testing.T) {
	r := start(t, nil)
	r.create = func(ask *validatorv1.CreateTokenRequest) (*validatorv1.CreateTokenResponse, error) {
		if diff := cmp.Diff(&validatorv1.CreateTokenRequest{ClientId: "x", CreatedBy: "full"}, ask, protocmp.Transform()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		return &validatorv1.CreateTokenResponse{Token: stored(1), Secret: []byte("s")}, nil
	}
	if a := r.ask(t, "POST", "/admin/otp", r.full, `{"client_id":"x"}`); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestListTokens(t *testing.T) {
	r := start(t, nil)
	bound := stored(validatorv1.TokenState_TOKEN_STATE_ACTIVE)
	bound.RequiredSpkiSha256, bound.AllowedNames = bytes.Repeat([]byte{255}, 32), []string{"dns:a.test"}
	revoked := stored(validatorv1.TokenState_TOKEN_STATE_REVOKED)
	revoked.Id = strings.Repeat("b", 26)
	spent := stored(validatorv1.TokenState_TOKEN_STATE_ACTIVE)
	spent.Id = strings.Repeat("c", 26)
	r.list = func(ask *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		want := &validatorv1.ListTokensRequest{ClientId: "printer 7", PageSize: 2, PageToken: "p1"}
		if diff := cmp.Diff(want, ask, protocmp.Transform()); diff != "" {
			t.Errorf("asked of the validator (-want +got):\n%s", diff)
		}
		return &validatorv1.ListTokensResponse{Tokens: []*validatorv1.Token{bound, revoked, spent}, NextPageToken: "p2"}, nil
	}
	r.count = func(ask *signerv1.CountUsesRequest) (*signerv1.CountUsesResponse, error) {
		want := &signerv1.CountUsesRequest{Ids: [][]byte{[]byte("token:" + tokenID), []byte("token:" + revoked.Id), []byte("token:" + spent.Id)}}
		if diff := cmp.Diff(want, ask, protocmp.Transform()); diff != "" {
			t.Errorf("asked of the signer (-want +got):\n%s", diff)
		}
		return &signerv1.CountUsesResponse{Used: []uint32{2, 0, 3}}, nil
	}
	a := r.ask(t, "GET", "/admin/otp?client_id=printer+7&limit=2&page=p1", r.reader, "")
	row := func(id, state string, used float64) map[string]any {
		return map[string]any{
			"id": id, "client_id": "printer-7", "max_uses": 3.0, "used": used, "state": state, "created_by": "full",
			"created_at": "2030-01-31T12:00:00Z", "expires_at": "2030-01-31T13:00:00Z",
		}
	}
	first := row(tokenID, "active", 2)
	first["names"], first["required_spki_sha256"] = []any{"dns:a.test"}, strings.Repeat("ff", 32)
	want := map[string]any{
		"tokens": []any{first, row(revoked.Id, "revoked", 0), row(spent.Id, "spent", 3)},
		"next":   "p2",
	}
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if diff := cmp.Diff(want, a.object(t)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	records := r.audit.take()
	if len(records) != 1 || records[0].Event != "token.listed" || records[0].Outcome != audit.Success || records[0].Actor != "reader" {
		t.Errorf("audit: %+v", records)
	}
}

// TestListTokensEmpty asks the signer nothing.
func TestListTokensEmpty(t *testing.T) {
	r := start(t, nil)
	r.list = func(ask *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		if ask.GetPageSize() != 100 {
			t.Errorf("asked for %d rows", ask.GetPageSize())
		}
		return &validatorv1.ListTokensResponse{}, nil
	}
	if a := r.ask(t, "GET", "/admin/otp", r.full, ""); a.status != 200 || a.body != "{\"tokens\":[]}\n" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestListTokensMiscounted has a signer that answers another number of questions.
func TestListTokensMiscounted(t *testing.T) {
	r := start(t, nil)
	r.list = func(*validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		return &validatorv1.ListTokensResponse{Tokens: []*validatorv1.Token{stored(1)}}, nil
	}
	r.count = func(*signerv1.CountUsesRequest) (*signerv1.CountUsesResponse, error) {
		return &signerv1.CountUsesResponse{}, nil
	}
	if a := r.ask(t, "GET", "/admin/otp", r.full, ""); a.status != 500 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestRevokeToken(t *testing.T) {
	r := start(t, nil)
	r.revoke = func(ask *validatorv1.RevokeTokenRequest) (*validatorv1.RevokeTokenResponse, error) {
		if ask.GetId() != tokenID {
			return nil, fault.New(fault.NotFound, "token.Revoke", "There is no such token.", nil)
		}
		if ask.GetRevokedBy() != "full" {
			t.Errorf("revoked by %q", ask.GetRevokedBy())
		}
		return &validatorv1.RevokeTokenResponse{Token: stored(validatorv1.TokenState_TOKEN_STATE_REVOKED)}, nil
	}
	if a := r.ask(t, "DELETE", "/admin/otp/"+tokenID, r.full, ""); a.status != 204 || a.body != "" {
		t.Errorf("%d %q", a.status, a.body)
	}
	records := r.audit.take()
	if len(records) != 2 || records[0].Outcome != audit.Intent || records[1].Outcome != audit.Success ||
		records[1].Event != "token.revoked" || records[1].Detail["token_id"] != tokenID || records[1].Detail["client_id"] != "printer-7" {
		t.Errorf("audit: %+v", records)
	}
	if a := r.ask(t, "DELETE", "/admin/otp/"+strings.Repeat("a", 26), r.full, ""); a.status != 404 {
		t.Errorf("unknown: %d %s", a.status, a.body)
	}
	records = r.audit.take()
	if len(records) != 2 || records[1].Outcome != audit.Refused {
		t.Errorf("audit: %+v", records)
	}
}
