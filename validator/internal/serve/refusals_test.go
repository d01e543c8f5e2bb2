package serve_test

import (
	"testing"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

// A gateway that tries to make itself a token is on record.
func TestRefusedCallsAreRecorded(t *testing.T) {
	w := newWorld(t, options{})
	gateway, admin := w.server.Dial(t, meshtest.Gateway), w.server.Dial(t, meshtest.Admin)
	if _, err := validatorv1.NewTokenAdminClient(gateway).CreateToken(t.Context(), &validatorv1.CreateTokenRequest{ClientId: "x"}); !meshtest.Refused(err) {
		t.Errorf("the gateway made a token: %v", err)
	}
	if _, err := validatorv1.NewAuthenticatorClient(admin).Authenticate(t.Context(), request(t, "u:p", newCSR(t))); !meshtest.Refused(err) {
		t.Errorf("the admin authenticated: %v", err)
	}
	for event, peer := range map[string]string{"administration.refused": meshtest.Gateway, "call.refused": meshtest.Admin} {
		got := w.records(t, event)
		if len(got) != 1 || got[0].Actor != peer || got[0].Outcome != audit.Refused || got[0].Reason == "" ||
			got[0].RequestID == "" || got[0].Detail["method"] == "" {
			t.Errorf("%s: %+v", event, got)
		}
	}
}
