package profile

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

// op names this package in faults.
const op = "profile.Build"

// Config is what a Set is made of.
type Config struct {
	Profiles  []Profile
	Protected Protected
	// Authority is the certificate of the authority that will sign.
	Authority *x509.Certificate
	// Others are authorities of ours beside it, whose keys and names nobody else may have.
	Others []*x509.Certificate
}

// Set holds the profiles of an authority by label. It does not change and is safe for
// concurrent use.
type Set struct {
	rules     map[string]*rule
	protected Protected
	authority *x509.Certificate
	ours      []*x509.Certificate // authority and others
}

// NewSet checks the profiles and makes a set of them; the error names every broken rule.
func NewSet(c Config) (*Set, error) {
	if c.Authority == nil {
		return nil, errors.New("making profiles: the authority's certificate is missing")
	}
	s := &Set{rules: make(map[string]*rule, len(c.Profiles)), authority: c.Authority, ours: append([]*x509.Certificate{c.Authority}, c.Others...)}
	var problems []error
	s.protected.Principals = c.Protected.Principals
	for _, text := range c.Protected.Names {
		// Canonical, as the names of certificates are.
		name, err := csr.ParseName(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("protected name %q: %w", text, err))
		}
		s.protected.Names = append(s.protected.Names, name.String())
	}
	for _, p := range c.Profiles {
		r := compile(p, func(key, format string, args ...any) {
			problems = append(problems, fmt.Errorf("profile %q: %s: %w", p.Label, key, fmt.Errorf(format, args...)))
		})
		if s.rules[p.Label] != nil {
			problems = append(problems, fmt.Errorf("profile %q: label: another profile has it", p.Label))
		}
		s.rules[p.Label] = r
	}
	problems = append(problems, problemsOf(c.Profiles, CheckPKINIT)...)
	problems = append(problems, problemsOf(c.Profiles, CheckRenews)...)
	if len(c.Profiles) == 0 {
		problems = append(problems, errors.New("there is no profile"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("making profiles: %w", err)
	}
	return s, nil
}

// MaxPerHour returns how many certificates the label's profile allows in an hour; 0 for any
// number, and for a label that there is not.
func (s *Set) MaxPerHour(label string) int64 {
	if r, ok := s.rules[label]; ok {
		return r.MaxPerHour
	}
	return 0
}

// Facts returns what a gateway may know of the profiles, ordered by label.
func (s *Set) Facts() []*signerv1.ProfileFacts {
	facts := make([]*signerv1.ProfileFacts, 0, len(s.rules))
	for _, r := range slices.SortedFunc(maps.Values(s.rules), func(a, b *rule) int { return cmp.Compare(a.Label, b.Label) }) {
		f := &signerv1.ProfileFacts{
			Label: r.Label, KeyTypes: slices.Clone(r.KeyTypes),
			ChallengePassword: challengePasswords[r.ChallengePassword],
			CsrAttributes:     slices.Clone(r.CSRAttributes),
			Methods:           slices.Sorted(slices.Values(r.methods)),
		}
		if slices.Contains(r.KeyTypes, "rsa") {
			f.RsaMinBits, f.RsaMaxBits = uint32(r.RSAMinBits), uint32(r.RSAMaxBits)
		}
		facts = append(facts, f)
	}
	return facts
}

// forbid returns a refusal whose text the client may see.
func forbid(format string, args ...any) error {
	return fault.New(fault.Forbidden, op, fmt.Sprintf(format, args...), nil)
}

// same tells whether two public keys are equal.
func same(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
