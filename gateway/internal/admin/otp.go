package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
)

const (
	// maxNames is how many names a token can allow.
	maxNames = 32
	// idLength is that of a token's id: 16 octets in base32 (RFC 4648 section 6).
	idLength = 26
)

// newToken is the answer of POST /admin/otp; the token is shown this one time.
type newToken struct {
	ID        string    `json:"id"`
	Token     string    `json:"token"`
	ClientID  string    `json:"client_id"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	MaxUses   uint32    `json:"max_uses"`
}

// createToken answers POST /admin/otp. The validator knows the rules of client_id and the
// defaults of what is left out.
func (s *Server) createToken(ctx context.Context, c *call) (int, any, error) {
	ask, err := s.readCreate(c.http)
	if err != nil {
		return 0, nil, err
	}
	ask.CreatedBy = c.actor.name
	c.about["client_id"] = ask.GetClientId()
	if err := c.intend(); err != nil {
		return 0, nil, err
	}
	made, err := s.tokens.CreateToken(ctx, ask)
	if err != nil {
		return 0, nil, err
	}
	plain := secret.Take(&made.Secret)
	defer plain.Wipe()
	t := made.GetToken()
	c.about["token_id"] = t.GetId()
	c.about["max_uses"] = strconv.FormatUint(uint64(t.GetMaxUses()), 10)
	c.about["expires_at"] = t.GetExpiresAt().AsTime().Format(time.RFC3339)
	return http.StatusCreated, newToken{
		ID:        t.GetId(),
		Token:     string(plain.Reveal()),
		ClientID:  t.GetClientId(),
		CreatedAt: t.GetCreatedAt().AsTime(),
		ExpiresAt: t.GetExpiresAt().AsTime(),
		MaxUses:   t.GetMaxUses(),
	}, nil
}

// readCreate turns the body of r into the request to the validator.
func (s *Server) readCreate(r *http.Request) (*validatorv1.CreateTokenRequest, error) {
	if _, err := parseQuery(r.URL); err != nil {
		return nil, err
	}
	var clientID string
	var uses *uint32
	var expiresAt, key *string
	var names []string
	if err := decode(r, map[string]any{
		"client_id": &clientID, "max_uses": &uses, "expires_at": &expiresAt,
		"required_spki_sha256": &key, "names": &names,
	}); err != nil {
		return nil, err
	}
	if clientID == "" {
		return nil, badRequest("The field \"client_id\" is missing or empty.")
	}
	ask := &validatorv1.CreateTokenRequest{ClientId: clientID}
	if uses != nil {
		if *uses == 0 {
			return nil, badRequest("The field \"max_uses\" has to be at least 1.")
		}
		ask.MaxUses = *uses
	}
	if err := s.readExpiry(expiresAt, ask); err != nil {
		return nil, err
	}
	if err := readKey(key, ask); err != nil {
		return nil, err
	}
	return ask, readNames(names, ask)
}

func (s *Server) readExpiry(text *string, ask *validatorv1.CreateTokenRequest) error {
	if text == nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, *text)
	switch {
	case err != nil:
		return badRequest("The field \"expires_at\" is not a time of RFC 3339, such as 2030-01-31T00:00:00Z.")
	case !at.After(s.now()):
		return badRequest("The field \"expires_at\" is in the past.")
	}
	ask.ExpiresAt = timestamppb.New(at)
	return nil
}

func readKey(text *string, ask *validatorv1.CreateTokenRequest) error {
	if text == nil {
		return nil
	}
	hash, err := hex.DecodeString(*text)
	if err != nil || len(hash) != sha256.Size {
		return badRequest("The field \"required_spki_sha256\" is not 64 hexadecimal digits.")
	}
	ask.RequiredSpkiSha256 = hash
	return nil
}

// readNames makes the names canonical: the validator and the signer compare them as text.
func readNames(names []string, ask *validatorv1.CreateTokenRequest) error {
	if len(names) > maxNames {
		return badRequest("The field \"names\" has more than %d names.", maxNames)
	}
	for i, text := range names {
		name, err := csr.ParseName(text)
		if err != nil {
			return badRequest("The field \"names\" is wrong in element %d: %s", i, fault.Public(err))
		}
		switch name.Type {
		case csr.DNS, csr.IP, csr.Email, csr.URI:
			ask.AllowedNames = append(ask.AllowedNames, name.String())
		default:
			return badRequest("The field \"names\" takes dns:, ip:, email: and uri: names; element %d is another.", i)
		}
	}
	return nil
}

// revokeToken answers DELETE /admin/otp/{id}.
func (s *Server) revokeToken(ctx context.Context, c *call) (int, any, error) {
	if _, err := parseQuery(c.http.URL); err != nil {
		return 0, nil, err
	}
	c.about["token_id"] = c.id
	if len(c.id) != idLength || strings.Trim(c.id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return 0, nil, &problem{status: http.StatusNotFound, detail: "There is no token with this id."}
	}
	if err := c.intend(); err != nil {
		return 0, nil, err
	}
	gone, err := s.tokens.RevokeToken(ctx, &validatorv1.RevokeTokenRequest{Id: c.id, RevokedBy: c.actor.name})
	if err != nil {
		return 0, nil, err
	}
	c.about["client_id"] = gone.GetToken().GetClientId()
	return http.StatusNoContent, nil, nil
}
