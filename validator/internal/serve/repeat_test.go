package serve_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// slow is a world in which a repeat is worth recognising, with a token.
func slow(t *testing.T) (w *world, made *validatorv1.CreateTokenResponse) {
	t.Helper()
	w = newWorld(t, options{algorithm: token.Argon2id, match: token.MatchIfPresent})
	return w, w.create(t, &validatorv1.CreateTokenRequest{})
}

// enrol offers the token with a certificate request and returns the assertion.
func (w *world) enrol(t *testing.T, made *validatorv1.CreateTokenResponse, r *csr.Request) *assertionv1.SealedAssertion {
	t.Helper()
	resp, err := w.authn.Authenticate(t.Context(), request(t, ":"+string(made.GetSecret()), r))
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetAssertion()
}

// tally checks how many credentials are on record as accepted and as repeated, that as many
// were counted, and how many rows are kept.
func (w *world) tally(t *testing.T, accepted, repeated, rows int) {
	t.Helper()
	for outcome, want := range map[string]int{"accepted": accepted, "repeated": repeated} {
		counted := w.set.GetOrCreateCounter(fmt.Sprintf("estuary_validator_credentials_total{outcome=%q}", outcome)).Get()
		if n := len(w.records(t, "credential."+outcome)); n != want || counted != uint64(want) {
			t.Errorf("%d on record as %s and %d counted, not %d", n, outcome, counted, want)
		}
	}
	var n int
	err := w.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM credential_check`).Scan(&n)
	})
	if err != nil || n != rows {
		t.Errorf("%d rows kept, %v, not %d", n, err, rows)
	}
}

// A repeat is an assertion of its own, and a record that says what it is.
func TestRepeated(t *testing.T) {
	w, made := slow(t)
	r, other := newCSR(t), newCSR(t)
	first, second := w.enrol(t, made, r), w.enrol(t, made, r)
	if first == nil || proto.Equal(first, second) {
		t.Error("a repeat has no assertion of its own")
	}
	w.tally(t, 1, 1, 1)
	w.enrol(t, made, other)
	w.tally(t, 2, 1, 2)
	got, before := w.records(t, "credential.repeated")[0], w.records(t, "credential.accepted")[0]
	if got.Detail["assertion"] == before.Detail["assertion"] || got.Detail["token"] != made.GetToken().GetId() {
		t.Errorf("detail %v", got.Detail)
	}
	got.Event, got.RequestID = before.Event, before.RequestID
	if got.Outcome != audit.Success || recordKey(got) != recordKey(before) {
		t.Errorf("record %+v, that of the acceptance %+v", got, before)
	}
}

func TestFastHashKeepsNoRow(t *testing.T) {
	w := newWorld(t, options{})
	made, r := w.create(t, &validatorv1.CreateTokenRequest{}), newCSR(t)
	for range 2 {
		w.enrol(t, made, r)
	}
	w.tally(t, 2, 0, 0)
}

func TestRevokedRepeat(t *testing.T) {
	w, made := slow(t)
	r := newCSR(t)
	w.enrol(t, made, r)
	if _, err := w.admin.RevokeToken(t.Context(), &validatorv1.RevokeTokenRequest{Id: made.GetToken().GetId()}); err != nil {
		t.Fatal(err)
	}
	_, err := w.authn.Authenticate(t.Context(), request(t, ":"+string(made.GetSecret()), r))
	if !errors.Is(err, fault.Unauthenticated) || fault.Public(err) != "credential refused" {
		t.Errorf("%v", err)
	}
	if got := w.records(t, "credential.refused"); len(got) != 1 || got[0].Reason != string(token.ReasonRevoked) {
		t.Errorf("records %+v", got)
	}
	w.tally(t, 1, 0, 1)
}

// Without a record nothing is kept: the next attempt is not a repeat.
func TestUnrecordedIsNotRepeated(t *testing.T) {
	w, made := slow(t)
	r := newCSR(t)
	breakAudit(t, w)
	if resp, err := w.authn.Authenticate(t.Context(), request(t, ":"+string(made.GetSecret()), r)); err == nil {
		t.Errorf("accepted without a record: %v", resp)
	}
	w.exec(t, `DELETE FROM audit_record WHERE record = 'in the way'`)
	w.enrol(t, made, r)
	w.tally(t, 1, 0, 1)
}

// A changed row is an acceptance in full with an alarm: in the log, in the figures and in
// the record.
func TestChangedAcceptance(t *testing.T) {
	w, made := slow(t)
	r := newCSR(t)
	w.enrol(t, made, r)
	w.exec(t, `UPDATE credential_check SET keep_until = keep_until + 1`)
	w.enrol(t, made, r)
	w.tally(t, 2, 0, 1)
	if n := w.set.GetOrCreateCounter("estuary_validator_forged_rows_total").Get(); n != 1 {
		t.Errorf("%d alarms", n)
	}
	got := w.records(t, "credential.accepted")
	if got[0].Detail["alarm"] != "" || got[1].Detail["alarm"] != string(token.ReasonAcceptance) {
		t.Errorf("records %+v", got)
	}
	if !strings.Contains(w.told(t), "changed by somebody else") {
		t.Error("no alarm in the log")
	}
}
