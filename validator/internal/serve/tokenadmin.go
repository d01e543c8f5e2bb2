package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// TokenAdminConfig is what a TokenAdmin needs.
type TokenAdminConfig struct {
	// State keeps tokens and the audit.
	State *state.Store
	// Hasher hashes new tokens; nil when tokens are switched off: then none is made, but
	// those that exist can be listed and revoked.
	Hasher *token.Hasher
	// Octets is the randomness of new tokens.
	Octets int
	// MaxUses and Validity are for tokens of which the admin does not say.
	MaxUses uint32
	// Validity is how long a token is good for when the admin does not say.
	Validity time.Duration
	// Realm is the realm of identities that only a token proves.
	Realm string
	// Log hears of rows that somebody changed.
	Log *slog.Logger
	// Now tells the time.
	Now func() time.Time
}

// TokenAdmin serves estuary.validator.v1.TokenAdmin.
type TokenAdmin struct {
	validatorv1.UnimplementedTokenAdminServer
	c TokenAdminConfig
}

// NewTokenAdmin returns a TokenAdmin.
func NewTokenAdmin(c TokenAdminConfig) (*TokenAdmin, error) {
	if c.State == nil || c.Log == nil || c.Now == nil {
		return nil, errors.New("the TokenAdmin service lacks a part")
	}
	if c.Hasher != nil && (c.Octets < token.MinOctets || c.Octets > token.MaxOctets ||
		c.MaxUses < 1 || c.MaxUses > MaxUses || c.Validity <= 0 || c.Validity > MaxValidity) {
		return nil, errors.New("the TokenAdmin service has defaults that no token may have")
	}
	return &TokenAdmin{c: c}, nil
}

// CreateToken implements the call. The token and the record of its making are stored before
// it is shown; it cannot be shown again.
func (s *TokenAdmin) CreateToken(ctx context.Context, req *validatorv1.CreateTokenRequest) (*validatorv1.CreateTokenResponse, error) {
	if s.c.Hasher == nil {
		return nil, fault.New(fault.Forbidden, "serve.CreateToken", "enrolment tokens are switched off", nil)
	}
	t, err := s.describe(req)
	if err != nil {
		return nil, err
	}
	tok, err := token.Make(s.c.Octets)
	if err != nil {
		return nil, err
	}
	defer tok.Wipe()
	algorithm, hash, err := s.c.Hasher.Hash(ctx, tok)
	if err != nil {
		return nil, fmt.Errorf("hashing a new token: %w", err)
	}
	t.ID, t.Index, t.Algorithm, t.Hash = token.NewID(), s.c.Hasher.Index(tok), string(algorithm), hash
	r := s.record(ctx, "token.created", t, t.CreatedBy)
	r.Detail["expires_at"] = t.ExpiresAt.Format(time.RFC3339)
	r.Detail["max_uses"] = fmt.Sprint(t.MaxUses)
	if err := s.c.State.CreateToken(ctx, t, r); err != nil {
		return nil, fmt.Errorf("creating a token: %w", err)
	}
	return &validatorv1.CreateTokenResponse{Token: s.show(t), Secret: bytes.Clone(tok.Reveal())}, nil
}

// RevokeToken implements the call.
func (s *TokenAdmin) RevokeToken(ctx context.Context, req *validatorv1.RevokeTokenRequest) (*validatorv1.RevokeTokenResponse, error) {
	if err := checkActor("revoked_by", req.GetRevokedBy()); err != nil {
		return nil, err
	}
	if checkText(req.GetId()) != nil {
		return nil, noSuchToken()
	}
	t, err := s.c.State.RevokeToken(ctx, req.GetId(), s.c.Now(), func(t state.Token) audit.Record {
		return s.record(ctx, "token.revoked", t, req.GetRevokedBy())
	})
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, noSuchToken()
	case errors.Is(err, state.ErrForged):
		s.alarm(ctx, req.GetId())
		return nil, fault.New(fault.Internal, "serve.RevokeToken",
			"the token's row was changed in the database: it authorises nothing any more and is kept as evidence", nil)
	case err != nil:
		return nil, fmt.Errorf("revoking a token: %w", err)
	}
	return &validatorv1.RevokeTokenResponse{Token: s.show(t)}, nil
}

func noSuchToken() error {
	return fault.New(fault.NotFound, "serve.RevokeToken", "no token has this id", nil)
}

func (s *TokenAdmin) alarm(ctx context.Context, id string) {
	s.c.Log.LogAttrs(ctx, slog.LevelError, "a stored token was changed by somebody else", slog.String("token", id))
}

func (s *TokenAdmin) record(ctx context.Context, event string, t state.Token, by string) audit.Record {
	r := audit.Record{
		Time: s.c.Now(), Event: event, Outcome: audit.Success,
		Actor: mesh.PeerName(ctx), RequestID: mesh.RequestID(ctx),
		Method: methodToken, Detail: map[string]string{"token": t.ID},
	}
	r.Identity = t.ClientID
	if s.c.Realm != "" {
		r.Identity += "@" + s.c.Realm
	}
	if by != "" {
		r.Detail["by"] = by
	}
	return r
}
