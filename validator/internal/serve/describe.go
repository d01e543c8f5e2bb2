package serve

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// The limits of a token.
const (
	// MaxUses is the most certificates one token may be good for.
	MaxUses = 10_000
	// MaxValidity is how far away a token's end may be: ten years.
	MaxValidity = 3653 * 24 * time.Hour
	// MaxNames is the most names that a token may allow.
	MaxNames = 64

	maxText = 255 // octets of client_id and created_by
	maxName = 512 // octets of an allowed name
)

// describe turns a request into the token that it asks for, without the secret part.
func (s *TokenAdmin) describe(req *validatorv1.CreateTokenRequest) (state.Token, error) {
	if err := checkClientID(req.GetClientId()); err != nil {
		return state.Token{}, malformed("client_id", err)
	}
	if err := checkActor("created_by", req.GetCreatedBy()); err != nil {
		return state.Token{}, err
	}
	now := s.c.Now().Truncate(time.Microsecond)
	t := state.Token{
		ClientID: req.GetClientId(), CreatedBy: req.GetCreatedBy(), CreatedAt: now,
		ExpiresAt: now.Add(s.c.Validity), MaxUses: s.c.MaxUses, RequiredSPKI: req.GetRequiredSpkiSha256(),
	}
	if asked := req.GetExpiresAt(); asked != nil {
		if err := asked.CheckValid(); err != nil {
			return state.Token{}, malformed("expires_at", errors.New("it is not a time"))
		}
		t.ExpiresAt = asked.AsTime().Truncate(time.Microsecond)
	}
	switch {
	case !t.ExpiresAt.After(now):
		return state.Token{}, malformed("expires_at", errors.New("it is not in the future"))
	case t.ExpiresAt.Sub(now) > MaxValidity:
		return state.Token{}, malformed("expires_at", errors.New("it is more than ten years away"))
	}
	if n := req.GetMaxUses(); n != 0 {
		t.MaxUses = n
	}
	if t.MaxUses > MaxUses {
		return state.Token{}, malformed("max_uses", fmt.Errorf("%d is not 1 to %d", t.MaxUses, MaxUses))
	}
	if n := len(t.RequiredSPKI); n != 0 && n != sha256.Size {
		return state.Token{}, malformed("required_spki_sha256", fmt.Errorf("it has %d octets, not %d", n, sha256.Size))
	}
	var err error
	if t.AllowedNames, err = canonicalNames(req.GetAllowedNames()); err != nil {
		return state.Token{}, malformed("allowed_names", err)
	}
	return t, nil
}

// canonicalNames returns every name as the signer will compare it, each once.
func canonicalNames(asked []string) ([]string, error) {
	if len(asked) > MaxNames {
		return nil, fmt.Errorf("%d names are more than %d", len(asked), MaxNames)
	}
	var names []string
	for i, text := range asked {
		name, err := csr.ParseName(text)
		if err != nil {
			return nil, fmt.Errorf("name %d: %s", i+1, fault.Public(err))
		}
		if !slices.Contains([]csr.NameType{csr.DNS, csr.IP, csr.Email, csr.URI}, name.Type) {
			return nil, fmt.Errorf(`name %d: it is not "dns:", "ip:", "email:" or "uri:" and a value`, i+1)
		}
		canonical := name.String()
		if len(canonical) > maxName {
			return nil, fmt.Errorf("name %d: it has %d octets, more than %d", i+1, len(canonical), maxName)
		}
		if !slices.Contains(names, canonical) {
			names = append(names, canonical)
		}
	}
	return names, nil
}

// checkClientID holds a client_id to what can be a user name in HTTP Basic (RFC 7617
// section 2), and to what can be shown without misleading.
func checkClientID(id string) error {
	switch {
	case id == "":
		return errors.New("it is empty")
	case strings.Contains(id, ":"):
		return errors.New("it has a colon (RFC 7617 section 2)")
	}
	return checkText(id)
}

func checkActor(field, by string) error {
	if err := checkText(by); err != nil {
		return malformed(field, err)
	}
	return nil
}

func checkText(s string) error {
	switch {
	case len(s) > maxText:
		return fmt.Errorf("it has %d octets, more than %d", len(s), maxText)
	case !utf8.ValidString(s):
		return errors.New("it is not UTF-8")
	case strings.ContainsFunc(s, hidden):
		return errors.New("it has a control or format character")
	}
	return nil
}

func hidden(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
