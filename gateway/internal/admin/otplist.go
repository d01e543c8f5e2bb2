package admin

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
)

// stateSpent is a token that could be used, had it uses left.
const stateSpent = "spent"

// token is an enrolment token in a list.
type token struct {
	ID           string    `json:"id"`
	ClientID     string    `json:"client_id"`
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at"`
	MaxUses      uint32    `json:"max_uses"`
	Used         uint32    `json:"used"`
	State        string    `json:"state"` // active, spent, expired or revoked
	Names        []string  `json:"names,omitempty"`
	RequiredSPKI string    `json:"required_spki_sha256,omitempty"`
	CreatedBy    string    `json:"created_by"`
}

// tokenList is the answer of GET /admin/otp.
type tokenList struct {
	Tokens []token `json:"tokens"`
	Next   string  `json:"next,omitempty"`
}

// listTokens answers GET /admin/otp: a page of tokens, oldest first, with what the signer
// has counted.
func (s *Server) listTokens(ctx context.Context, c *call) (int, any, error) {
	q, err := parseQuery(c.http.URL, "client_id", "limit", "page")
	if err != nil {
		return 0, nil, err
	}
	page, err := s.tokens.ListTokens(ctx, &validatorv1.ListTokensRequest{
		ClientId: q.clientID, PageSize: q.limit, PageToken: q.page,
	})
	if err != nil {
		return 0, nil, err
	}
	used, err := s.countUses(ctx, page.GetTokens())
	if err != nil {
		return 0, nil, err
	}
	list := tokenList{Tokens: []token{}, Next: page.GetNextPageToken()}
	for i, t := range page.GetTokens() {
		list.Tokens = append(list.Tokens, tokenOf(t, used[i]))
	}
	return http.StatusOK, list, nil
}

// countUses asks the signer, who alone counts, how often each token has been used.
func (s *Server) countUses(ctx context.Context, tokens []*validatorv1.Token) ([]uint32, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	ids := make([][]byte, len(tokens))
	for i, t := range tokens {
		ids[i] = []byte("token:" + t.GetId())
	}
	counted, err := s.ledger.CountUses(ctx, &signerv1.CountUsesRequest{Ids: ids})
	if err != nil {
		return nil, err
	}
	if len(counted.GetUsed()) != len(ids) {
		return nil, fmt.Errorf("counting uses: %d answers to %d questions", len(counted.GetUsed()), len(ids))
	}
	return counted.GetUsed(), nil
}

func tokenOf(t *validatorv1.Token, used uint32) token {
	state := stateName(t.GetState().String(), "TOKEN_STATE_")
	if t.GetState() == validatorv1.TokenState_TOKEN_STATE_ACTIVE && used >= t.GetMaxUses() {
		state = stateSpent
	}
	return token{
		ID:           t.GetId(),
		ClientID:     t.GetClientId(),
		CreatedAt:    t.GetCreatedAt().AsTime(),
		ExpiresAt:    t.GetExpiresAt().AsTime(),
		MaxUses:      t.GetMaxUses(),
		Used:         used,
		State:        state,
		Names:        t.GetAllowedNames(),
		RequiredSPKI: hex.EncodeToString(t.GetRequiredSpkiSha256()),
		CreatedBy:    t.GetCreatedBy(),
	}
}
