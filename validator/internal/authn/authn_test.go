package authn_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/internal/throttle/throttletest"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return start }

var devices = map[string]authn.Rule{"devices": {Basic: authn.BasicToken, Check: authn.CheckNone}}

// newAuthenticator returns one that knows a single token.
func newAuthenticator(t *testing.T) (*authn.Authenticator, string) {
	t.Helper()
	st, err := state.New(t.Context(), state.Config{
		DB: storetest.Open(t, storetest.SQLite(t)), MACKey: secret.New(make([]byte, 32)),
		Stream: audit.NewStream(io.Discard), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := token.NewHasher(secret.New(make([]byte, 32)), token.SHA256HMAC)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := token.Make(16)
	if err != nil {
		t.Fatal(err)
	}
	a, hash, err := h.Hash(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	err = st.CreateToken(t.Context(), state.Token{
		ID: "the-id", Index: h.Index(tok), Algorithm: string(a), Hash: hash, ClientID: "pump-7", MaxUses: 3,
		CreatedAt: start, ExpiresAt: start.Add(time.Hour), RequiredSPKI: bytes.Repeat([]byte{7}, 32),
		AllowedNames: []string{"dns:pump-7.example"},
	}, audit.Record{Time: start, Event: "token.created", Outcome: audit.Success})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.NewChecker(token.CheckerConfig{State: st, Hasher: h, Match: token.MatchIfPresent, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	limits, err := throttletest.New(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := authn.New(authn.Config{
		Labels: devices, Realm: "LAB.TEST", Tokens: tokens, Throttle: limits, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return auth, string(tok.Reveal())
}

func basic(content string) authn.Attempt {
	return authn.Attempt{
		Label: "devices", Token68: secret.New([]byte(b64(content))),
		SPKISHA256: [32]byte(bytes.Repeat([]byte{7}, 32)), ClientAddress: "192.0.2.7",
	}
}

func TestProof(t *testing.T) {
	auth, tok := newAuthenticator(t)
	at := basic("pump-7:" + tok)
	out, err := auth.Basic(t.Context(), at)
	if err != nil || out.Refused != "" {
		t.Fatalf("%q, %v", out.Refused, err)
	}
	if out.TokenID != "the-id" || out.Identity != "pump-7@LAB.TEST" {
		t.Errorf("audit gets token %q and identity %q", out.TokenID, out.Identity)
	}
	if bytes.ContainsFunc(at.Token68.Reveal(), func(r rune) bool { return r != 0 }) {
		t.Error("the credential was not wiped")
	}
	want := authn.Proof{
		Identity: &assertionv1.Identity{
			Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "LAB.TEST", Principal: "pump-7",
		},
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_TOKEN, Indicators: []string{"token"}, VerifiedAt: timestamppb.New(start),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE, ClientAddress: "192.0.2.7", Backend: "token",
		},
		Token: &assertionv1.EnrolmentToken{
			Id: "the-id", AllowedNames: []string{"dns:pump-7.example"}, RequiredSpkiSha256: bytes.Repeat([]byte{7}, 32),
		},
		Spend: &assertionv1.Spend{
			Ids: [][]byte{[]byte("token:the-id")}, Limit: 3, KeepUntil: timestamppb.New(start.Add(25 * time.Hour)),
		},
	}
	if diff := cmp.Diff(want, out.Proof, protocmp.Transform()); diff != "" {
		t.Errorf("proof (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	auth, tok := newAuthenticator(t)
	other, err := token.Make(16)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ content, reason string }{
		{"pump-7", "credential has no colon"},
		{"pump-7:", "password is empty"},
		{"pump-7:hunter2", "does not have the form of a token"},
		{"pump-7:" + tok + " ", "does not have the form of a token"},
		{tok + ":" + "x", "does not have the form of a token"},
		{"pump-7:" + string(other.Reveal()), "unknown token"},
		{"pump-8:" + tok, "user name is not the token's client_id"},
	} {
		out, err := auth.Basic(t.Context(), basic(c.content))
		if err != nil || out.Refused != c.reason || out.Proof.Identity != nil {
			t.Errorf("%q: refused %q, %v, not %q", c.content, out.Refused, err, c.reason)
		}
		if out.Alarm != "" {
			t.Errorf("%q raises the alarm %q", c.content, out.Alarm)
		}
	}
	at := basic("pump-7:" + tok)
	at.SPKISHA256 = [32]byte{}
	if out, err := auth.Basic(t.Context(), at); err != nil || out.Refused != "token is bound to another key" {
		t.Errorf("another key: refused %q, %v", out.Refused, err)
	}
}

func TestLabels(t *testing.T) {
	auth, tok := newAuthenticator(t)
	at := basic("pump-7:" + tok)
	at.Label = "users"
	if _, err := auth.Basic(t.Context(), at); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a label that is not configured: %v", err)
	}
	off, err := authn.New(authn.Config{Labels: devices, Throttle: new(throttle.Throttle), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := off.Basic(t.Context(), basic("pump-7:"+tok)); !errors.Is(err, fault.Forbidden) {
		t.Errorf("tokens switched off: %v", err)
	}
}

func TestNewNeedsAll(t *testing.T) {
	limits := new(throttle.Throttle)
	for i, c := range []authn.Config{
		{Labels: devices, Throttle: limits},
		{Throttle: limits, Now: clock},
		{Labels: devices, Now: clock},
		{Labels: map[string]authn.Rule{"devices": {Basic: authn.BasicDirectory, Check: authn.CheckNone}}, Throttle: limits, Now: clock},
		{Labels: map[string]authn.Rule{"devices": {Basic: authn.BasicToken, Check: authn.CheckRequired}}, Throttle: limits, Now: clock},
		{Labels: map[string]authn.Rule{"devices": {Basic: "password", Check: authn.CheckNone}}, Throttle: limits, Now: clock},
		{Labels: devices, Throttle: limits, Now: clock, Tokens: new(token.Checker)},
	} {
		if _, err := authn.New(c); err == nil {
			t.Errorf("case %d was made", i)
		}
	}
}
