package profile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// placeholders are what a subject template may hold.
var placeholders = map[string]func(*assertionv1.Assertion) string{
	"{principal}": func(a *assertionv1.Assertion) string { return a.GetIdentity().GetPrincipal() },
	"{realm}":     func(a *assertionv1.Assertion) string { return a.GetIdentity().GetRealm() },
	"{user}":      func(a *assertionv1.Assertion) string { return userOf(a.GetIdentity()) },
	"{host}":      func(a *assertionv1.Assertion) string { return hostOfPrincipal(a.GetIdentity()) },
	"{uid}":       func(a *assertionv1.Assertion) string { return a.GetIdentity().GetUid() },
	"{cn}":        func(a *assertionv1.Assertion) string { return a.GetIdentity().GetCn() },
	"{mail}":      func(a *assertionv1.Assertion) string { return first(a.GetIdentity().GetMail()) },
	"{label}":     func(a *assertionv1.Assertion) string { return a.GetLabel() },
}

// userOf returns the name of a user without an instance, nothing for others.
func userOf(id *assertionv1.Identity) string {
	if id.GetKind() != assertionv1.IdentityKind_IDENTITY_KIND_USER {
		return ""
	}
	name, _, _ := strings.Cut(id.GetPrincipal(), "/")
	return name
}

// hostOfPrincipal returns the host of a host or service, nothing for others.
func hostOfPrincipal(id *assertionv1.Identity) string {
	switch id.GetKind() {
	case assertionv1.IdentityKind_IDENTITY_KIND_HOST, assertionv1.IdentityKind_IDENTITY_KIND_SERVICE:
		_, host, _ := strings.Cut(id.GetPrincipal(), "/")
		return host
	}
	return ""
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// probes are harmless identities, with which templates are tried.
func probes() []*assertionv1.Assertion {
	var all []*assertionv1.Assertion
	for kind, principal := range map[assertionv1.IdentityKind]string{
		assertionv1.IdentityKind_IDENTITY_KIND_USER: "X", assertionv1.IdentityKind_IDENTITY_KIND_HOST: "X/X",
	} {
		all = append(all, &assertionv1.Assertion{Label: "X", Identity: &assertionv1.Identity{
			Kind: kind, Principal: principal, Realm: "X", Uid: "X", Cn: "X", Mail: []string{"X"},
		}})
	}
	return all
}

// compileSubject reads the template and tries it, so that a wrong literal is found at the
// start.
func (r *rule) compileSubject(add add) {
	name, err := dn.Parse(r.Subject)
	if err != nil {
		add("subject", "%s", err)
		return
	}
	tried := make([]dn.Element, 0, len(name))
	for _, e := range name {
		value, err := "", error(nil)
		for _, probe := range probes() { // one of them has what is asked for
			if value, err = expand(e.Value, probe); err == nil {
				break
			}
		}
		if err != nil {
			add("subject", "%s", err)
			return
		}
		if e.Type == "C" && value != e.Value {
			add("subject", "C has to be a country, not a placeholder")
			return
		}
		tried = append(tried, dn.Element{Type: e.Type, Value: value})
	}
	if _, err := dn.Marshal(tried); err != nil {
		add("subject", "%s", err)
	}
	r.checkKindsOf(add)
	r.subject = name
}

// checkKindsOf refuses a placeholder that no identity of the profile has a value for.
func (r *rule) checkKindsOf(add add) {
	for placeholder, kinds := range map[string][]string{"{user}": {"user"}, "{host}": {"host", "service"}} {
		if strings.Contains(r.Subject, placeholder) && !overlap(kinds, r.IdentityKinds) {
			add("subject", "%s is for identity_kinds %s, and they are %s", placeholder, strings.Join(kinds, " and "), strings.Join(r.IdentityKinds, ", "))
		}
	}
}

// compileMapping reads the subjects of principal_mapping.
func (r *rule) compileMapping(add add) {
	r.mapping = make(map[string][]dn.Element, len(r.PrincipalMapping))
	for _, principal := range slices.Sorted(maps.Keys(r.PrincipalMapping)) {
		text := r.PrincipalMapping[principal]
		name, err := dn.Parse(text)
		if err == nil {
			_, err = dn.Marshal(name)
		}
		local, realm, found := strings.Cut(principal, "@")
		switch {
		case !found || local == "" || realm == "":
			add("principal_mapping", "%q is no principal with its realm", principal)
		case err != nil:
			add("principal_mapping", "%q: %s", principal, err)
		case len(name) == 0:
			add("principal_mapping", "%q: the subject is empty", principal)
		case strings.ContainsAny(text, "{}"):
			add("principal_mapping", "%q: a subject here is what it is, without placeholders", principal)
		}
		r.mapping[principal] = name
	}
	if r.Unmapped == refuse && len(r.PrincipalMapping) == 0 {
		add("unmapped", "refuses everybody: principal_mapping is empty")
	}
}

// notMapped is what the refusal of a principal without a subject begins with.
const notMapped = "principal not mapped"

// buildSubject returns the DER of the subject and its elements.
func (r *rule) buildSubject(a *assertionv1.Assertion) ([]byte, []dn.Element, error) {
	name, mapped := r.mapping[a.GetIdentity().GetPrincipal()+"@"+a.GetIdentity().GetRealm()]
	if !mapped && r.Unmapped == refuse {
		return nil, nil, forbid(notMapped)
	}
	if !mapped {
		for _, e := range r.subject {
			value, err := expand(e.Value, a)
			if err != nil {
				return nil, nil, forbid(notMapped+": %s of the subject cannot be filled: %s", e.Type, err)
			}
			name = append(name, dn.Element{Type: e.Type, Value: value})
		}
	}
	der, err := dn.Marshal(name)
	if err != nil {
		return nil, nil, fault.New(fault.Forbidden, op, "the identity does not fit into a certificate: "+err.Error(), err)
	}
	return der, name, nil
}

// expand replaces the placeholders of one value. It goes through the template once, so that
// braces in what was asserted mean nothing.
func expand(template string, a *assertionv1.Assertion) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{")
		if strings.Contains(before, "}") {
			return "", fmt.Errorf("a brace stands alone in %q", template)
		}
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("a brace is not closed in %q", template)
		}
		get, known := placeholders["{"+name+"}"]
		if !known {
			return "", fmt.Errorf("%q is not a placeholder: %s", "{"+name+"}", words(placeholders))
		}
		value := get(a)
		if value == "" {
			return "", fmt.Errorf("the identity has no %s", name)
		}
		b.WriteString(value)
		template = after
	}
}
