package profile

import (
	"fmt"
	"strings"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/dn"
)

// placeholders are what a subject template may hold.
var placeholders = map[string]func(*assertionv1.Assertion) string{
	"{principal}": func(a *assertionv1.Assertion) string { return a.GetIdentity().GetPrincipal() },
	"{realm}":     func(a *assertionv1.Assertion) string { return a.GetIdentity().GetRealm() },
	"{uid}":       func(a *assertionv1.Assertion) string { return a.GetIdentity().GetUid() },
	"{label}":     func(a *assertionv1.Assertion) string { return a.GetLabel() },
}

// compileSubject reads the template and tries it with a harmless identity, so that a wrong
// literal is found at the start.
func (r *rule) compileSubject(add add) {
	name, err := dn.Parse(r.Subject)
	if err != nil {
		add("subject", "%s", err)
		return
	}
	probe := &assertionv1.Assertion{Label: "X", Identity: &assertionv1.Identity{Principal: "X", Realm: "X", Uid: "X"}}
	tried := make([]dn.Element, 0, len(name))
	for _, e := range name {
		value, err := expand(e.Value, probe)
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
	r.subject = name
}

// buildSubject returns the DER of the subject and its elements.
func (r *rule) buildSubject(a *assertionv1.Assertion) ([]byte, []dn.Element, error) {
	name := make([]dn.Element, 0, len(r.subject))
	for _, e := range r.subject {
		value, err := expand(e.Value, a)
		if err != nil {
			return nil, nil, forbid("%s of the subject cannot be filled: %s", e.Type, err)
		}
		name = append(name, dn.Element{Type: e.Type, Value: value})
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
