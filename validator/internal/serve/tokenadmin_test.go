package serve_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

func TestCreateToken(t *testing.T) {
	w := newWorld(t, options{})
	ends := w.now().Add(48 * time.Hour).Truncate(time.Microsecond)
	made := w.create(t, &validatorv1.CreateTokenRequest{
		ClientId: "Pumpe Nº 7", MaxUses: 10000, ExpiresAt: timestamppb.New(ends), RequiredSpkiSha256: bytes.Repeat([]byte{7}, 32),
		AllowedNames: []string{"dns:Pump-7.Example", "ip:192.0.2.7", "dns:pump-7.example", "email:a@b.example", "uri:urn:x:y"}, CreatedBy: "alice",
	})
	if !token.HasForm(made.GetSecret()) {
		t.Error("the secret does not have the form of a token")
	}
	tok := made.GetToken()
	want := &validatorv1.Token{
		Id: tok.GetId(), ClientId: "Pumpe Nº 7", MaxUses: 10000, CreatedAt: tok.GetCreatedAt(), ExpiresAt: timestamppb.New(ends),
		State: validatorv1.TokenState_TOKEN_STATE_ACTIVE, RequiredSpkiSha256: bytes.Repeat([]byte{7}, 32),
		AllowedNames: []string{"dns:pump-7.example", "ip:192.0.2.7", "email:a@b.example", "uri:urn:x:y"}, CreatedBy: "alice",
	}
	if diff := cmp.Diff(want, tok, protocmp.Transform()); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
	if len(tok.GetId()) != 26 || tok.GetCreatedAt().AsTime().After(w.now()) {
		t.Errorf("id %q, made at %v", tok.GetId(), tok.GetCreatedAt().AsTime())
	}
	list := must(w.admin.ListTokens(t.Context(), &validatorv1.ListTokensRequest{}))(t)
	if diff := cmp.Diff([]*validatorv1.Token{tok}, list.GetTokens(), protocmp.Transform()); diff != "" {
		t.Errorf("listed (-made +listed):\n%s", diff)
	}
	got := w.records(t, "token.created")
	if len(got) != 1 || got[0].Actor != meshtest.Admin || got[0].Identity != "Pumpe Nº 7@LAB.TEST" ||
		got[0].Detail["token"] != tok.GetId() || got[0].Detail["by"] != "alice" || got[0].Detail["max_uses"] != "10000" {
		t.Errorf("record %+v", got)
	}
}

func TestCreateTokenDefaults(t *testing.T) {
	w := newWorld(t, options{})
	tok := w.create(t, &validatorv1.CreateTokenRequest{}).GetToken()
	if life := tok.GetExpiresAt().AsTime().Sub(tok.GetCreatedAt().AsTime()); tok.GetMaxUses() != 2 || life != time.Hour {
		t.Errorf("%d uses, %v", tok.GetMaxUses(), life)
	}
}

func TestCreateTokenRefuses(t *testing.T) {
	w := newWorld(t, options{})
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("dns:h%d.example", i)
	}
	for _, c := range []struct {
		want   string
		change func(*validatorv1.CreateTokenRequest)
	}{
		{"client_id: it is empty", func(r *validatorv1.CreateTokenRequest) { r.ClientId = "" }},
		{"client_id: it has 256 octets", func(r *validatorv1.CreateTokenRequest) { r.ClientId = strings.Repeat("a", 256) }},
		{"client_id: it has a colon", func(r *validatorv1.CreateTokenRequest) { r.ClientId = "a:b" }},
		{"client_id: it has a control", func(r *validatorv1.CreateTokenRequest) { r.ClientId = "a\x00b" }},
		{"client_id: it has a control", func(r *validatorv1.CreateTokenRequest) { r.ClientId = "a\r\nb" }},
		{"client_id: it has a control or format", func(r *validatorv1.CreateTokenRequest) { r.ClientId = "a\u202eb" }},
		{"created_by: it has a control", func(r *validatorv1.CreateTokenRequest) { r.CreatedBy = "a\x1b" }},
		{"created_by: it has 256 octets", func(r *validatorv1.CreateTokenRequest) { r.CreatedBy = strings.Repeat("a", 256) }},
		{"max_uses: 10001 is not 1 to 10000", func(r *validatorv1.CreateTokenRequest) { r.MaxUses = 10001 }},
		{"expires_at: it is not in the future", func(r *validatorv1.CreateTokenRequest) { r.ExpiresAt = timestamppb.New(w.now()) }},
		{"expires_at: it is not in the future", func(r *validatorv1.CreateTokenRequest) { r.ExpiresAt = &timestamppb.Timestamp{} }},
		{"expires_at: it is more than ten years", func(r *validatorv1.CreateTokenRequest) {
			r.ExpiresAt = timestamppb.New(w.now().Add(3653*24*time.Hour + time.Minute))
		}},
		{"expires_at: it is not a time", func(r *validatorv1.CreateTokenRequest) { r.ExpiresAt = &timestamppb.Timestamp{Nanos: -1} }},
		{"required_spki_sha256: it has 31 octets", func(r *validatorv1.CreateTokenRequest) { r.RequiredSpkiSha256 = make([]byte, 31) }},
		{"allowed_names: 65 names", func(r *validatorv1.CreateTokenRequest) { r.AllowedNames = many }},
		{"allowed_names: name 2: ", func(r *validatorv1.CreateTokenRequest) { r.AllowedNames = []string{"dns:a.example", "a.example"} }},
		{"allowed_names: name 1: ", func(r *validatorv1.CreateTokenRequest) { r.AllowedNames = []string{"ip:300.1.1.1"} }},
		{"allowed_names: name 1: it is not", func(r *validatorv1.CreateTokenRequest) { r.AllowedNames = []string{"rid:1.2.3"} }},
		{"allowed_names: name 1: it has", func(r *validatorv1.CreateTokenRequest) {
			r.AllowedNames = []string{"uri:https://a.example/" + strings.Repeat("x", 500)}
		}},
	} {
		req := &validatorv1.CreateTokenRequest{ClientId: "pump-7"}
		c.change(req)
		_, err := w.admin.CreateToken(t.Context(), req)
		if !errors.Is(err, fault.Malformed) || !strings.Contains(fault.Public(err), c.want) {
			t.Errorf("no %q: %v", c.want, err)
		}
	}
	if list := must(w.admin.ListTokens(t.Context(), &validatorv1.ListTokensRequest{}))(t); len(list.GetTokens()) != 0 {
		t.Errorf("refused and made: %v", list)
	}
}

func TestRevokeToken(t *testing.T) {
	w := newWorld(t, options{})
	made := w.create(t, &validatorv1.CreateTokenRequest{})
	id := made.GetToken().GetId()
	first := must(w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: id, RevokedBy: "bob"}))(t).GetToken()
	if first.GetState() != validatorv1.TokenState_TOKEN_STATE_REVOKED || first.GetRevokedAt() == nil {
		t.Errorf("%v", first)
	}
	w.advance(time.Minute)
	second := must(w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: id, RevokedBy: "carol"}))(t).GetToken()
	if !proto.Equal(first, second) {
		t.Errorf("the second revocation changed %v to %v", first, second)
	}
	got := w.records(t, "token.revoked")
	if len(got) != 1 || got[0].Detail["by"] != "bob" || got[0].Detail["token"] != id || got[0].Identity != "pump-7@LAB.TEST" {
		t.Errorf("records %+v", got)
	}
	for _, none := range []string{"", "none", "\x00", strings.Repeat("a", 300)} {
		if _, err := w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: none}); !errors.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", none, err)
		}
	}
	if _, err := w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: id, RevokedBy: "a\n"}); !errors.Is(err, fault.Malformed) {
		t.Errorf("revoked_by with a line end: %v", err)
	}
	w.exec(t, `UPDATE enrolment_token SET revoked_at = 0`)
	if _, err := w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: id}); !errors.Is(err, fault.Internal) {
		t.Errorf("a changed row: %v", err)
	}
	if list := must(w.admin.ListTokens(t.Context(), &validatorv1.ListTokensRequest{}))(t); len(list.GetTokens()) != 0 {
		t.Errorf("a changed row is listed: %v", list)
	}
	if !strings.Contains(w.out.String(), "changed by somebody else") {
		t.Error("no alarm")
	}
}

func TestListTokens(t *testing.T) {
	w := newWorld(t, options{})
	var want []string
	for i := range 5 {
		want = append(want, w.create(t, &validatorv1.CreateTokenRequest{ClientId: fmt.Sprintf("pump-%d", i%2)}).GetToken().GetId())
		w.advance(time.Microsecond)
	}
	w.advance(2 * time.Hour)
	got, token := []string{}, ""
	for range 3 {
		page := must(w.admin.ListTokens(t.Context(), &validatorv1.ListTokensRequest{PageSize: 2, PageToken: token}))(t)
		for _, tok := range page.GetTokens() {
			got = append(got, tok.GetId())
			if tok.GetState() != validatorv1.TokenState_TOKEN_STATE_EXPIRED {
				t.Errorf("state %v", tok.GetState())
			}
		}
		token = page.GetNextPageToken()
	}
	if !slices.Equal(got, want) || token != "" {
		t.Errorf("%v, not %v; then %q", got, want, token)
	}
	of := must(w.admin.ListTokens(t.Context(), &validatorv1.ListTokensRequest{ClientId: "pump-1"}))(t)
	if len(of.GetTokens()) != 2 || of.GetTokens()[0].GetId() != want[1] {
		t.Errorf("of one client: %v", of)
	}
	for name, req := range map[string]*validatorv1.ListTokensRequest{
		"page size":            {PageSize: 1001},
		"page token":           {PageToken: "x"},
		"foreign page token":   {PageToken: "AAAAAAAAAAAAAAAA"},
		"long page token":      {PageToken: strings.Repeat("AAAA", 100)},
		"client_id with NUL":   {ClientId: "\x00"},
		"client_id of a novel": {ClientId: strings.Repeat("a", 256)},
	} {
		if _, err := w.admin.ListTokens(t.Context(), req); !errors.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// However large the tokens are, a page fits into a message of the mesh, and none is lost.
func TestListOfLargeTokens(t *testing.T) {
	w := newWorld(t, options{})
	names := make([]string, 64)
	for i := range names {
		names[i] = fmt.Sprintf("uri:https://a.example/%d/%s", i, strings.Repeat("x", 480))
	}
	const made = 20 // of 33 KiB each
	for i := range made {
		w.create(t, &validatorv1.CreateTokenRequest{ClientId: fmt.Sprint(i), AllowedNames: names})
	}
	seen, pages, next := map[string]bool{}, 0, ""
	for first := true; first || next != ""; first = false {
		page := must(w.admin.ListTokens(t.Context(), &validatorv1.ListTokensRequest{PageSize: 1000, PageToken: next}))(t)
		if proto.Size(page) > mesh.MaxMessage {
			t.Fatalf("a page of %d octets", proto.Size(page))
		}
		for _, tok := range page.GetTokens() {
			seen[tok.GetClientId()] = true
		}
		next = page.GetNextPageToken()
		pages++
	}
	if len(seen) != made || pages < 2 {
		t.Errorf("%d of %d tokens in %d pages", len(seen), made, pages)
	}
}

func TestSwitchedOff(t *testing.T) {
	w := newWorld(t, options{off: true})
	if _, err := w.admin.CreateToken(t.Context(), &validatorv1.CreateTokenRequest{ClientId: "x"}); !errors.Is(err, fault.Forbidden) {
		t.Errorf("creating: %v", err)
	}
	if _, err := w.authn.Authenticate(t.Context(), request(t, "u:p", newCSR(t))); !errors.Is(err, fault.Forbidden) {
		t.Errorf("authenticating: %v", err)
	}
	if _, err := w.admin.ListTokens(t.Context(), &validatorv1.ListTokensRequest{}); err != nil {
		t.Errorf("listing: %v", err)
	}
	if _, err := w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: "x"}); !errors.Is(err, fault.NotFound) {
		t.Errorf("revoking: %v", err)
	}
}
