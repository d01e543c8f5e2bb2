package serve_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/kerberos/kerberostest"
)

const skew = 2 * time.Minute

// acceptor takes tickets for HTTP/localhost@IPA.TEST.
func acceptor(t *testing.T) *kerberos.Acceptor {
	t.Helper()
	return must(kerberos.New(kerberos.Config{
		Keys: func(context.Context, string, uint32, int32) []secret.Bytes {
			return []secret.Bytes{secret.New(kerberostest.Key(18, 1).KeyValue)}
		},
		Principals: []string{"HTTP/localhost@IPA.TEST"}, Realms: []string{"IPA.TEST"},
		Skew: skew, Bindings: kerberos.BindingsAbsentOK, Log: slog.New(slog.DiscardHandler),
	}))(t)
}

// negotiate is an attempt with HTTP Negotiate under the label "tickets".
func negotiate(token []byte, r *csr.Request) *validatorv1.AuthenticateRequest {
	return &validatorv1.AuthenticateRequest{
		Channel: &validatorv1.Channel{ClientAddress: "192.0.2.7", TlsVersion: 0x0304, ServerEndPoint: []byte("end point")},
		Credential: &validatorv1.Credential{Kind: &validatorv1.Credential_Negotiate{Negotiate: &validatorv1.NegotiateCredential{
			Token68: []byte(base64.StdEncoding.EncodeToString(token)),
		}}},
		CsrDer: r.DER(), Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "tickets",
	}
}

// opened returns what an answer asserts.
func (w *world) opened(t *testing.T, resp *validatorv1.AuthenticateResponse) *assertionv1.Assertion {
	t.Helper()
	if resp.GetAssertion() == nil {
		t.Fatalf("no assertion in %v", resp)
	}
	a := new(assertionv1.Assertion)
	if err := proto.Unmarshal(resp.GetAssertion().GetPayload(), a); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestTicket: what a ticket asserts, what is on record of it, and what the client gets.
func TestTicket(t *testing.T) {
	w := newWorld(t, options{})
	r := newCSR(t)
	tok := kerberostest.New(time.Now())
	tok.Part.AuthorizationData = kerberostest.WithIndicators(tok.TicketKey, "otp")
	tok.Auth.Cksum.Checksum = kerberostest.Checksum([]byte("end point"), 2)
	resp, err := w.authn.Authenticate(t.Context(), negotiate(kerberostest.Init(tok.GSS(), kerberostest.Kerberos), r))
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetNegotiateToken()) == 0 || resp.GetNegotiateToken()[0] != 0xa1 {
		t.Errorf("the client gets %x", resp.GetNegotiateToken())
	}
	a := w.opened(t, resp)
	if diff := cmp.Diff(&assertionv1.Identity{
		Kind: assertionv1.IdentityKind_IDENTITY_KIND_USER, Realm: "IPA.TEST", Principal: "alice",
	}, a.GetIdentity(), protocmp.Transform()); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	want := &assertionv1.Authentication{
		Method: assertionv1.Method_METHOD_NEGOTIATE, Indicators: []string{"otp"}, LoginTime: timestamppb.New(tok.Part.AuthTime),
		ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_MATCH, ClientAddress: "192.0.2.7", Backend: "HTTP/localhost@IPA.TEST",
	}
	if diff := cmp.Diff(want, a.GetAuthentication(), protocmp.Transform(), protocmp.IgnoreFields(want, "verified_at")); diff != "" {
		t.Errorf("authentication (-want +got):\n%s", diff)
	}
	if ids := a.GetSpend().GetIds(); len(ids) != 1 || len(ids[0]) != 42 || a.GetSpend().GetLimit() != 1 {
		t.Errorf("spends %v", a.GetSpend())
	}
	records := w.records(t, "credential.accepted")
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	got := records[0]
	if got.Identity != "alice@IPA.TEST" || got.Method != "negotiate" || got.Detail["indicators"] != "otp" ||
		got.Detail["channel_binding"] != "match" || got.Detail["login_time"] != tok.Part.AuthTime.Format(time.RFC3339) ||
		got.Detail["backend"] != "HTTP/localhost@IPA.TEST" {
		t.Errorf("on record is %+v", got)
	}
}

// TestTicketAgain: one authenticator is good for one public key, for five minutes.
func TestTicketAgain(t *testing.T) {
	w := newWorld(t, options{})
	r, other := newCSR(t), newCSR(t)
	token := kerberostest.New(time.Now()).GSS()
	first := w.opened(t, must(w.authn.Authenticate(t.Context(), negotiate(token, r)))(t))
	w.advance(4*time.Minute + 55*time.Second) // beyond the skew: it is judged by the first time
	again := w.opened(t, must(w.authn.Authenticate(t.Context(), negotiate(token, r)))(t))
	if !again.GetAuthentication().GetVerifiedAt().AsTime().Equal(first.GetAuthentication().GetVerifiedAt().AsTime()) ||
		!bytes.Equal(again.GetSpend().GetIds()[0], first.GetSpend().GetIds()[0]) {
		t.Errorf("first %v, then %v", first, again)
	}
	w.mustRefuse(t, negotiate(token, other), "replayed: the authenticator was used with another key")
	// The way that it is wrapped makes no other one of it.
	w.mustRefuse(t, negotiate(kerberostest.Init(token, kerberostest.NegoEx, kerberostest.Kerberos), other), "replayed: the authenticator was used with another key")
	w.advance(10 * time.Second)
	w.mustRefuse(t, negotiate(token, r), "replayed: the authenticator was used more than 5 minutes ago")
	w.advance(9 * time.Minute)
	w.mustRefuse(t, negotiate(token, r), "authenticator was made at another time: the clocks of client and validator differ, or it was sent late")
}

// TestTicketFromTheFuture: one that was refused because its time had not come is refused when
// it has.
func TestTicketFromTheFuture(t *testing.T) {
	w := newWorld(t, options{})
	tok := kerberostest.New(time.Now().Add(skew + time.Minute))
	tok.Part.AuthTime, tok.Part.StartTime = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
	token := tok.GSS()
	w.mustRefuse(t, negotiate(token, newCSR(t)), kerberos.ReasonSkew)
	if n := w.set.GetOrCreateCounter("estuary_validator_clock_skew_refusals_total").Get(); n != 1 {
		t.Errorf("%d refusals for the time are counted", n)
	}
	w.advance(skew)
	w.mustRefuse(t, negotiate(token, newCSR(t)), "replayed: the authenticator was refused before")
	w.advance(2 * skew)
	w.mustRefuse(t, negotiate(token, newCSR(t)), "replayed: the authenticator was refused before")
}

// TestFreshTicketFromTheFuture: the same for a ticket that begins when its token is made, as a
// new one does.
func TestFreshTicketFromTheFuture(t *testing.T) {
	for reason, edit := range map[string]func(*kerberostest.Token, time.Time){
		"ticket is not valid yet": func(tok *kerberostest.Token, made time.Time) {
			tok.Part.AuthTime, tok.Part.StartTime = time.Now().Add(-time.Hour), made
		},
		"ticket tells no time of login, or one to come": func(tok *kerberostest.Token, made time.Time) {
			tok.Part.AuthTime, tok.Part.StartTime = made, time.Now().Add(-time.Hour)
		},
	} {
		w := newWorld(t, options{})
		made := time.Now().Add(skew + time.Minute)
		tok := kerberostest.New(made)
		edit(tok, made)
		token := tok.GSS()
		w.mustRefuse(t, negotiate(token, newCSR(t)), reason)
		w.advance(skew)
		w.mustRefuse(t, negotiate(token, newCSR(t)), "replayed: the authenticator was refused before")
	}
}

// TestTicketAtOnce: of many who present one authenticator at the same moment, each with its
// own key, one gets an assertion; with one key all do, of the same use.
func TestTicketAtOnce(t *testing.T) {
	w := newWorld(t, options{})
	for _, same := range []bool{false, true} {
		token := kerberostest.New(time.Now()).GSS()
		shared := newCSR(t)
		requests := make([]*validatorv1.AuthenticateRequest, 40)
		for i := range requests {
			r := shared
			if !same {
				r = newCSR(t)
			}
			requests[i] = negotiate(token, r)
		}
		var mu sync.Mutex
		got, other := 0, 0 // guarded by mu
		var wg sync.WaitGroup
		for _, req := range requests {
			wg.Go(func() {
				_, err := w.authn.Authenticate(context.WithoutCancel(t.Context()), req)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					got++
				case !errors.Is(err, fault.Unauthenticated):
					other++
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if want := map[bool]int{false: 1, true: 40}[same]; got != want {
			t.Errorf("same key %v: %d assertions, not %d", same, got, want)
		}
	}
	if n := len(w.records(t, "credential.accepted")); n != 2 {
		t.Errorf("%d were accepted", n)
	}
}

// TestTicketChallenge: who offers something else is asked for a ticket, and that is on record.
func TestTicketChallenge(t *testing.T) {
	w := newWorld(t, options{})
	resp, err := w.authn.Authenticate(t.Context(), negotiate([]byte("NTLMSSP\x00\x01"), newCSR(t)))
	if err != nil || resp.GetAssertion() != nil || len(resp.GetChallenge().GetNegotiateToken()) == 0 {
		t.Fatalf("%v, %v", resp, err)
	}
	records := w.records(t, "credential.refused")
	if len(records) != 1 || records[0].Reason != "client offers no Kerberos" || records[0].Method != "negotiate" {
		t.Errorf("on record is %+v", records)
	}
}

// TestTicketLabels: under a label without tickets there is no telling what a ticket is worth.
func TestTicketLabels(t *testing.T) {
	w := newWorld(t, options{})
	req := negotiate(kerberostest.New(time.Now()).GSS(), newCSR(t))
	req.Label = "devices"
	if _, err := w.authn.Authenticate(t.Context(), req); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a ticket under devices: %v", err)
	}
	req = request(t, "alice:x", newCSR(t))
	req.Label = "tickets"
	if _, err := w.authn.Authenticate(t.Context(), req); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a password under tickets: %v", err)
	}
	for name, token68 := range map[string]string{"nothing": "", "no base64": "***", "half of it": "YII", "a line break": "YII=\n"} {
		req := negotiate(nil, newCSR(t))
		req.GetCredential().GetNegotiate().Token68 = []byte(token68)
		if _, err := w.authn.Authenticate(t.Context(), req); !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// mustRefuse demands that the attempt is refused and the record says why.
func (w *world) mustRefuse(t *testing.T, req *validatorv1.AuthenticateRequest, reason string) {
	t.Helper()
	if _, err := w.authn.Authenticate(t.Context(), req); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("%v, not a refusal by %q", err, reason)
	}
	records := w.records(t, "credential.refused")
	if len(records) == 0 || records[len(records)-1].Reason != reason {
		t.Errorf("on record is %+v, not %q", records, reason)
	}
}
