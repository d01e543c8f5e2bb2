package serve

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// maxPageOctets keeps a page below the largest message of the mesh, whatever is in its
	// tokens.
	maxPageOctets = mesh.MaxMessage - 32<<10
	maxIDOctets   = 64
)

// ListTokens implements the call. A page may be shorter than asked, and only the last one
// comes without a next_page_token. A row that somebody changed in the database is left out.
func (s *TokenAdmin) ListTokens(ctx context.Context, req *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
	size := int(req.GetPageSize())
	switch {
	case size == 0:
		size = defaultPage
	case size > maxPage:
		return nil, malformed("page_size", fmt.Errorf("%d is more than %d", size, maxPage))
	}
	if err := checkText(req.GetClientId()); err != nil {
		return nil, malformed("client_id", err)
	}
	after, err := decodeCursor(req.GetPageToken())
	if err != nil {
		return nil, malformed("page_token", err)
	}
	page, err := s.c.State.ListTokens(ctx, req.GetClientId(), after, size)
	if err != nil {
		return nil, err
	}
	for _, id := range page.Forged {
		s.alarm(ctx, id)
	}
	resp, octets := &validatorv1.ListTokensResponse{NextPageToken: encodeCursor(page.Next)}, 0
	for i, t := range page.Tokens {
		shown := s.show(t)
		if octets += proto.Size(shown); octets > maxPageOctets && i > 0 {
			last := page.Tokens[i-1]
			resp.NextPageToken = encodeCursor(state.Cursor{CreatedAt: last.CreatedAt, ID: last.ID})
			break
		}
		resp.Tokens = append(resp.Tokens, shown)
	}
	return resp, nil
}

// show returns what may be seen of a token.
func (s *TokenAdmin) show(t state.Token) *validatorv1.Token {
	shown := &validatorv1.Token{
		Id: t.ID, ClientId: t.ClientID, MaxUses: t.MaxUses,
		CreatedAt: timestamppb.New(t.CreatedAt), ExpiresAt: timestamppb.New(t.ExpiresAt),
		State:              validatorv1.TokenState_TOKEN_STATE_ACTIVE,
		RequiredSpkiSha256: t.RequiredSPKI, AllowedNames: t.AllowedNames, CreatedBy: t.CreatedBy,
	}
	switch {
	case !t.RevokedAt.IsZero():
		shown.RevokedAt = timestamppb.New(t.RevokedAt)
		shown.State = validatorv1.TokenState_TOKEN_STATE_REVOKED
	case !s.c.Now().Before(t.ExpiresAt):
		shown.State = validatorv1.TokenState_TOKEN_STATE_EXPIRED
	}
	return shown
}

// encodeCursor makes a place in the list opaque: callers must not rely on what is in it.
func encodeCursor(c state.Cursor) string {
	if c.ID == "" {
		return ""
	}
	raw := binary.BigEndian.AppendUint64(nil, uint64(store.Micros(c.CreatedAt)))
	return base64.RawURLEncoding.EncodeToString(append(raw, c.ID...))
}

func decodeCursor(text string) (state.Cursor, error) {
	if text == "" {
		return state.Cursor{}, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) <= 8 || len(raw) > 8+maxIDOctets {
		return state.Cursor{}, errors.New("it is not one of ours")
	}
	at := int64(binary.BigEndian.Uint64(raw))
	if id := string(raw[8:]); checkText(id) == nil && at > 0 {
		return state.Cursor{CreatedAt: time.UnixMicro(at), ID: id}, nil
	}
	return state.Cursor{}, errors.New("it is not one of ours")
}
