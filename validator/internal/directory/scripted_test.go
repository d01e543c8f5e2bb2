package directory_test

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/estuary-pki/estuary/validator/internal/directory"
)

const (
	base    = "dc=ipa,dc=test"
	realm   = "IPA.TEST"
	account = "uid=estuary,cn=sysaccounts,cn=etc,dc=ipa,dc=test"
	alice   = "uid=alice,cn=users,cn=accounts,dc=ipa,dc=test"
)

// entry is what a scripted server returns for an entry.
type entry struct {
	dn    string
	attrs map[string][]string
}

// answer is the result of an operation.
type answer struct {
	code     int64
	text     string
	entries  []entry
	controls []string // object identifiers
	drop     bool     // close instead of answering
}

// scripted is an LDAP server on a unix socket whose answers a test writes: for what no honest
// server does.
type scripted struct {
	listener net.Listener
	serving  sync.WaitGroup

	// search and bind are asked for users; who answers "Who am I?" of a user.
	search func(base, filter string) answer
	bind   func(dn, password string, controls []string) answer
	who    func(dn string) (string, answer)
	// account is the answer to the bind of the service account.
	account answer
	// controls and contexts are in the root DSE; nil for FreeIPA's.
	controls, contexts []string

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
	binds []string          // guarded by mu; the DNs of users that were tried
	dials int               // guarded by mu
}

// listen starts a server with nothing in it, at path or at a new one.
func listen(t *testing.T, path string) *scripted {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "ldapi")
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{listener: l, conns: map[net.Conn]bool{}}
	s.serving.Go(s.accept)
	t.Cleanup(s.stop)
	return s
}

func (s *scripted) url() string {
	return "ldapi://" + url.PathEscape(s.listener.Addr().String())
}

// stop ends the server and its connections.
func (s *scripted) stop() {
	_ = s.listener.Close()
	s.cut()
	s.serving.Wait()
}

// cut ends the connections.
func (s *scripted) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *scripted) tried() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.binds...)
}

func (s *scripted) dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

func (s *scripted) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.dials++
		s.mu.Unlock()
		s.serving.Go(func() {
			s.serve(c)
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// serve answers on one connection until it breaks.
func (s *scripted) serve(c net.Conn) {
	bound := ""
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		id, op := p.Children[0].Value, p.Children[1]
		var out answer
		tag := ber.Tag(0)
		var value string
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			tag = ldap.ApplicationBindResponse
			out, bound = s.onBind(p, op)
		case ldap.ApplicationSearchRequest:
			tag = ldap.ApplicationSearchResultDone
			out = s.onSearch(op)
		case ldap.ApplicationExtendedRequest:
			tag = ldap.ApplicationExtendedResponse
			value = "dn:" + bound
			if s.who != nil && bound != account {
				value, out = s.who(bound)
			}
		default:
			return
		}
		if out.drop || reply(c, id, tag, out, value) != nil {
			return
		}
	}
}

func (s *scripted) onBind(p, op *ber.Packet) (answer, string) {
	dn, password := op.Children[1].Value.(string), op.Children[2].Data.String()
	if dn == account || dn == "" {
		return s.account, dn
	}
	s.mu.Lock()
	s.binds = append(s.binds, dn)
	s.mu.Unlock()
	var controls []string
	if len(p.Children) > 2 {
		for _, c := range p.Children[2].Children {
			text := c.Children[0].Value.(string)
			if len(c.Children) > 1 && c.Children[1].Value == true {
				text += " critical"
			}
			controls = append(controls, text)
		}
	}
	if s.bind == nil {
		return answer{}, dn
	}
	return s.bind(dn, password, controls), dn
}

func (s *scripted) onSearch(op *ber.Packet) answer {
	at := op.Children[0].Value.(string)
	filter, err := ldap.DecompileFilter(op.Children[6])
	if err != nil {
		return answer{code: ldap.LDAPResultProtocolError, text: err.Error()}
	}
	switch {
	case at == "":
		root := map[string][]string{"defaultNamingContext": {base}, "supportedControl": {directory.ControlOTPRequired}}
		if s.controls != nil {
			root["supportedControl"] = s.controls
		}
		if s.contexts != nil {
			root["namingContexts"], root["defaultNamingContext"] = s.contexts, nil
		}
		return answer{entries: []entry{{"", root}}}
	case filter == "(objectClass=*)" && at == "dc=other,dc=test":
		return answer{code: ldap.LDAPResultNoSuchObject}
	case at == base && filter == "(objectClass=*)":
		return answer{entries: []entry{{base, nil}}}
	case s.search == nil:
		return answer{}
	}
	return s.search(at, filter)
}

// reply writes the entries and the result of an operation.
func reply(c net.Conn, id any, tag ber.Tag, a answer, value string) error {
	var all []byte
	for _, e := range a.entries {
		op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
		op.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, e.dn, ""))
		attributes := ber.NewSequence("")
		for name, values := range e.attrs {
			attribute, set := ber.NewSequence(""), ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
			attribute.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, name, ""))
			for _, v := range values {
				set.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, v, ""))
			}
			attribute.AppendChild(set)
			attributes.AppendChild(attribute)
		}
		op.AppendChild(attributes)
		all = append(all, message(id, op, nil)...)
	}
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, a.code, ""))
	op.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
	op.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, a.text, ""))
	if tag == ldap.ApplicationExtendedResponse && a.code == 0 {
		op.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 11, value, ""))
	}
	all = append(all, message(id, op, a.controls)...)
	n, err := c.Write(all)
	if err == nil && n != len(all) {
		err = errors.New("short write")
	}
	return err
}

func message(id any, op *ber.Packet, controls []string) []byte {
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	p.AppendChild(op)
	if len(controls) > 0 {
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
		for _, oid := range controls {
			list.AppendChild(ldap.NewControlString(oid, false, "").Encode())
		}
		p.AppendChild(list)
	}
	return p.Bytes()
}
