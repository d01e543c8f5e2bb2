package ipatest

import (
	"slices"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// The object identifiers that this server knows.
const (
	controlOTP         = "2.16.840.1.113730.3.8.10.7" // OTP required
	controlExpired     = "2.16.840.1.113730.3.4.4"    // password expired, in answers
	controlManageDsaIT = "2.16.840.1.113730.3.4.2"
	oidStartTLS        = "1.3.6.1.4.1.1466.20037"
	oidWhoAmI          = "1.3.6.1.4.1.4203.1.11.3"
)

// query is a search.
type query struct {
	base       string
	scope      int64
	limit      int64
	typesOnly  bool
	filter     *filter
	attributes []string
}

// parseQuery reads a search (RFC 4511 section 4.5.1).
func parseQuery(op *ber.Packet) (q query, err error) {
	if len(op.Children) != 8 {
		return q, errMessage
	}
	q.base = text(op.Children[0])
	if q.scope, err = integer(op.Children[1], ber.TagEnumerated); err != nil {
		return q, err
	}
	if q.limit, err = integer(op.Children[3], ber.TagInteger); err != nil {
		return q, err
	}
	q.typesOnly, _ = op.Children[5].Value.(bool)
	if q.filter, err = parseFilter(op.Children[6], 0); err != nil {
		return q, err
	}
	for _, a := range op.Children[7].Children {
		q.attributes = append(q.attributes, text(a))
	}
	return q, nil
}

// search carries a search out.
func (c *session) search(m message) bool {
	c.server.counters.searches.Add(1)
	q, err := parseQuery(m.op)
	if err != nil {
		return c.finish(m, result{ldap.LDAPResultProtocolError, "malformed request"})
	}
	var entries []*ber.Packet
	var r result
	if q.base == "" && q.scope == ldap.ScopeBaseObject {
		entries = rootDSE(q)
	} else {
		entries, r = c.server.search(c.dn, q)
	}
	var out []byte
	for _, e := range entries {
		out = append(out, m.envelope(e)...)
	}
	return c.send(append(out, m.envelope(answer(opSearchDone, r))...), NoFault)
}

// rootDSE is the entry about the server itself (RFC 4512 section 5.1), for everybody.
func rootDSE(q query) []*ber.Packet {
	e := &entry{values: map[string][]string{}}
	for _, a := range []attribute{
		{"objectClass", []string{"top"}},
		{"defaultnamingcontext", []string{suffix}},
		{"namingContexts", []string{suffix}},
		{"supportedControl", []string{controlManageDsaIT, controlOTP}},
		{"supportedExtension", []string{oidStartTLS, oidWhoAmI}},
		{"supportedSASLMechanisms", []string{"EXTERNAL"}},
		{"supportedLDAPVersion", []string{"3"}},
		{"vendorName", []string{"389 Project"}},
	} {
		e.names = append(e.names, a.name)
		e.values[strings.ToLower(a.name)] = a.values
	}
	all := func(string) bool { return true }
	if q.filter.matches(e, all) != yes {
		return nil
	}
	return []*ber.Packet{e.encode(q, all)}
}

// search finds what the bound DN may see.
func (s *Server) search(who string, q query) ([]*ber.Packet, result) {
	key, _, err := normalDN(q.base)
	if err != nil {
		return nil, result{ldap.LDAPResultInvalidDNSyntax, "Invalid DN"}
	}
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	base := s.tree.entries[key]
	if base == nil {
		return nil, result{code: ldap.LDAPResultNoSuchObject}
	}
	from := s.tree.candidates(q.filter)
	if q.scope == ldap.ScopeBaseObject {
		from = []*entry{base}
	}
	var found []*ber.Packet
	for _, e := range from {
		readable := s.rights(who, e)
		if !q.reaches(e, key) || readable == nil || q.filter.matches(e, readable) != yes {
			continue
		}
		if q.limit > 0 && int64(len(found)) == q.limit {
			return found, result{code: ldap.LDAPResultSizeLimitExceeded}
		}
		found = append(found, e.encode(q, readable))
	}
	return found, result{}
}

// reaches tells whether an entry is within the scope.
func (q query) reaches(e *entry, base string) bool {
	switch q.scope {
	case ldap.ScopeBaseObject:
		return e.key == base
	case ldap.ScopeSingleLevel:
		return e.parent == base
	case ldap.ScopeChildren:
		return e.key != base && e.below(base)
	}
	return e.below(base)
}

// rights returns which attributes of an entry somebody may read, nil when he may not even see
// the entry. The service account sees everything; users see themselves and their own tokens.
func (s *Server) rights(who string, e *entry) func(attribute string) bool {
	switch {
	case who == serviceDN:
		deny := s.denySecrets
		return func(attribute string) bool {
			return !hidden(attribute) && (!deny || attribute != "ipatokenradiussecret")
		}
	case who == "":
		return nil
	case who == e.key, slices.ContainsFunc(e.values["ipatokenowner"], func(o string) bool { return normal("ipatokenowner", o) == who }):
		return func(attribute string) bool { return !hidden(attribute) && attribute != "ipatokenradiussecret" }
	}
	return nil
}

// encode makes the answer that holds an entry. Attributes are spelled as the client has spelled
// them, as 389-ds does.
func (e *entry) encode(q query, readable func(string) bool) *ber.Packet {
	list := ber.NewSequence("")
	add := func(name string) {
		values := e.get(name)
		if len(values) == 0 || !readable(strings.ToLower(name)) {
			return
		}
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		for _, v := range values {
			if !q.typesOnly {
				set.AppendChild(octets(v))
			}
		}
		one := ber.NewSequence("")
		one.AppendChild(octets(name))
		one.AppendChild(set)
		list.AppendChild(one)
	}
	all := len(q.attributes) == 0 || slices.Contains(q.attributes, "*")
	for _, name := range e.names {
		named := slices.ContainsFunc(q.attributes, func(a string) bool { return strings.EqualFold(a, name) })
		if !named && (all && !operational(strings.ToLower(name)) || operational(strings.ToLower(name)) && slices.Contains(q.attributes, "+")) {
			add(name)
		}
	}
	for i, name := range q.attributes {
		if !slices.ContainsFunc(q.attributes[:i], func(a string) bool { return strings.EqualFold(a, name) }) {
			add(name)
		}
	}
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, opSearchEntry, nil, "")
	p.AppendChild(octets(e.dn))
	p.AppendChild(list)
	return p
}
