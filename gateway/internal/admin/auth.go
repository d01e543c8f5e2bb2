package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"

	"github.com/estuary-pki/estuary/gateway/internal/config"
)

// actor is an administrator whose credential was accepted.
type actor struct {
	name   string // description of the bearer token, or name of the certificate
	scopes []config.Scope
}

func (a actor) may(s config.Scope) bool { return slices.Contains(a.scopes, s) }

// gate knows who may come in.
type gate struct {
	tokens []config.AdminToken
	names  []string // of client certificates
}

func newGate(api config.AdminAPI) gate {
	return gate{tokens: api.BearerToken.Tokens, names: api.TLS.ClientNames}
}

// admit returns who sent r. A request with an Authorization header stands or falls with it;
// without one the client certificate decides. The refusal never tells what was wrong.
func (g gate) admit(r *http.Request) (actor, *problem) {
	if offered := r.Header.Values("Authorization"); len(offered) > 0 {
		if who, ok := g.bearer(offered); ok {
			return who, nil
		}
		return actor{}, g.refusal("bearer token not accepted")
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return actor{}, g.refusal("no credential")
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if name, ok := g.certificate(leaf); ok {
		return actor{name: name, scopes: config.Scopes()}, nil
	}
	return actor{}, g.refusal("no name of the certificate is in client_names: " +
		strings.Join(append([]string{leaf.Subject.CommonName}, leaf.DNSNames...), " "))
}

// refusal asks for a bearer token (RFC 6750 section 3) where there are any; where only
// certificates count, another try of the same client cannot help.
func (g gate) refusal(reason string) *problem {
	if len(g.tokens) == 0 {
		return &problem{status: http.StatusForbidden, detail: "The client certificate is not an administrator's.", reason: reason}
	}
	return &problem{
		status: http.StatusUnauthorized,
		detail: "A valid credential is needed.",
		reason: reason,
		header: http.Header{"Www-Authenticate": {`Bearer realm="estuary admin"`}},
	}
}

// bearer returns whose token stands in the Authorization headers (RFC 6750 section 2.1). All
// entries are compared, in a time that does not depend on what was offered.
func (g gate) bearer(headers []string) (actor, bool) {
	if len(headers) != 1 {
		return actor{}, false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return actor{}, false
	}
	hash, match := sha256.Sum256([]byte(token)), -1
	for i := range g.tokens {
		equal := subtle.ConstantTimeCompare(hash[:], g.tokens[i].TokenHash[:])
		match = subtle.ConstantTimeSelect(equal, i, match)
	}
	if match < 0 {
		return actor{}, false
	}
	return actor{name: g.tokens[match].Description, scopes: g.tokens[match].Scopes}, true
}

// certificate returns which of the names let in the verified certificate carries, as a DNS
// name or as its common name, exactly.
func (g gate) certificate(leaf *x509.Certificate) (string, bool) {
	for _, name := range g.names {
		if slices.Contains(leaf.DNSNames, name) || leaf.Subject.CommonName == name {
			return name, true
		}
	}
	return "", false
}
