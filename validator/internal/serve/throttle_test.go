package serve_test

import (
	"errors"
	"testing"
	"time"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// Who offers too many wrong tokens under a name is told to wait, from that network alone;
// what is refused then costs no record.
func TestTokensAreThrottled(t *testing.T) {
	w := newWorld(t, options{limits: func(c *throttle.Config) {
		c.Token = state.Limit{Max: 3, Window: 5 * time.Minute, Lockout: 15 * time.Minute}
		c.Network = state.Limit{Max: 5, Window: 5 * time.Minute, Lockout: 5 * time.Minute}
	}})
	unknownToken := string(must(token.Make(20))(t).Reveal()) // has the form of a token, and is none
	made := w.create(t, &validatorv1.CreateTokenRequest{ClientId: "pump-7", MaxUses: 10})
	r := newCSR(t)
	try := func(user, password, address string) error {
		t.Helper()
		req := request(t, user+":"+password, r)
		req.Channel.ClientAddress = address
		_, err := w.authn.Authenticate(t.Context(), req)
		return err
	}
	const here, elsewhere = "192.0.2.7", "198.51.100.7"
	wrong := string(made.GetSecret()) + "x"
	for range 3 {
		if err := try("pump-7", wrong, here); !errors.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
	}
	if err := try("pump-7", wrong, here); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("what has not the form of a token counts for the network alone: %v", err)
	}
	for range 3 {
		_ = try("pump-8", unknownToken, elsewhere)
	}
	if err := try("pump-8", unknownToken, elsewhere); !errors.Is(err, fault.Busy) || fault.RetryAfter(err) < 14*time.Minute {
		t.Errorf("the fourth unknown token under a name: %v, to come again in %v", err, fault.RetryAfter(err))
	}
	if err := try("pump-7", string(made.GetSecret()), elsewhere); err != nil {
		t.Errorf("another name from there: %v", err)
	}
	// One more failure there, and two before: the network's limit.
	if err := try("pump-7", wrong, here); !errors.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
	before := len(w.records(t, "credential.refused"))
	for _, password := range []string{wrong, string(made.GetSecret())} {
		if err := try("pump-7", password, here); !errors.Is(err, fault.Busy) {
			t.Errorf("from a network that failed five times: %v", err)
		}
	}
	if after := len(w.records(t, "credential.refused")); after != before {
		t.Errorf("%d records of what was told to wait", after-before)
	}
	w.advance(6 * time.Minute)
	if err := try("pump-7", string(made.GetSecret()), here); err != nil {
		t.Errorf("when the lockout has passed: %v", err)
	}
}
