package ipatest

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// session is one connection. It carries out one request after the other.
type session struct {
	server    *Server
	raw, conn net.Conn // conn is raw, or TLS over it
	encrypted bool
	in        *bufio.Reader
	dn        string // normal form of who is bound; empty: anonymous
	touched   atomic.Bool
	done      chan struct{} // closed with the connection
	once      sync.Once
}

// close ends the connection, and with it serve.
func (c *session) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.raw.Close()
	})
}

// serve carries requests out until the connection ends. A message that cannot be read ends it.
func (c *session) serve() {
	c.in = bufio.NewReader(c.conn)
	for {
		data, err := readMessage(c.in)
		if err != nil {
			return
		}
		if f, _ := c.server.faultNow(); f == Deaf {
			c.touched.Store(true)
			<-c.done
			return
		}
		m, err := parseMessage(data)
		if err != nil || !c.handle(m) {
			return
		}
	}
}

// handle carries a request out. It returns false when the connection is to end.
func (c *session) handle(m message) bool {
	if m.refuses() && m.op.Tag != opUnbind && m.op.Tag != opAbandon {
		return c.finish(m, result{ldap.LDAPResultUnavailableCriticalExtension, "control is not supported"})
	}
	switch m.op.Tag {
	case opBind:
		return c.bind(m)
	case opUnbind:
		return false
	case opSearch:
		return c.search(m)
	case opExtended:
		return c.extended(m)
	case opAbandon:
		return true
	case opModify, opAdd, opDelete, opModifyDN, opCompare:
		return c.finish(m, result{ldap.LDAPResultInsufficientAccessRights, "Insufficient access"})
	}
	return false
}

// finish answers with nothing but a result.
func (c *session) finish(m message, r result) bool {
	tag := m.op.Tag + 1
	if m.op.Tag == opSearch {
		tag = opSearchDone
	}
	return c.send(m.envelope(answer(tag, r)), NoFault)
}

// extended carries out StartTLS and Who am I.
func (c *session) extended(m message) bool {
	if len(m.op.Children) == 0 {
		return c.finish(m, result{ldap.LDAPResultProtocolError, "malformed request"})
	}
	switch text(m.op.Children[0]) {
	case oidStartTLS:
		return c.startTLS(m)
	case oidWhoAmI:
		// RFC 4532; 389-ds puts a space behind the colon.
		who := ""
		if c.dn != "" {
			who = "dn: " + c.dn
		}
		return c.send(m.envelope(answer(opExtendedDone, result{}, tagged(11, who))), NoFault)
	}
	return c.finish(m, result{ldap.LDAPResultProtocolError, "unsupported extended operation"})
}

// startTLS answers and then waits for the handshake (RFC 4511 section 4.14). Octets that came
// behind the request would have come in the clear: the connection ends.
func (c *session) startTLS(m message) bool {
	if c.encrypted || c.in.Buffered() != 0 {
		return c.finish(m, result{ldap.LDAPResultOperationsError, "TLS is on, or requests are outstanding"})
	}
	fault, _ := c.server.faultNow()
	name := tagged(10, oidStartTLS)
	if fault == StallTLS {
		if _, err := c.conn.Write(m.envelope(answer(opExtendedDone, result{}, name))); err == nil {
			c.stall()
		}
		return false
	}
	if !c.send(m.envelope(answer(opExtendedDone, result{}, name)), NoFault) {
		return false
	}
	c.dn = ""
	c.secure()
	c.in = bufio.NewReader(c.conn)
	return true
}

// external returns whom SASL EXTERNAL binds: the service account, over the unix socket or with
// a client certificate of our CA; nobody otherwise.
func (c *session) external() bool {
	if _, ok := c.raw.(*net.UnixConn); ok {
		return true
	}
	over, ok := c.conn.(*tls.Conn)
	return ok && len(over.ConnectionState().PeerCertificates) != 0
}

// bind carries a bind out (RFC 4511 section 4.2).
func (c *session) bind(m message) bool {
	c.dn = ""
	if len(m.op.Children) != 3 || m.op.Children[2].ClassType != ber.ClassContext {
		return c.finish(m, result{ldap.LDAPResultProtocolError, "malformed request"})
	}
	if version, err := integer(m.op.Children[0], ber.TagInteger); err != nil || version != 3 {
		return c.finish(m, result{ldap.LDAPResultProtocolError, "version is not 3"})
	}
	credential := m.op.Children[2]
	switch {
	case credential.Tag == 3 && len(credential.Children) > 0 && text(credential.Children[0]) == "EXTERNAL":
		if !c.external() {
			return c.finish(m, result{ldap.LDAPResultInappropriateAuthentication, "missing client certificate"})
		}
		c.dn = serviceDN
		return c.finish(m, result{})
	case credential.Tag != 0:
		return c.finish(m, result{code: ldap.LDAPResultAuthMethodNotSupported})
	}
	return c.simple(m, text(m.op.Children[1]), text(credential))
}

// simple carries a simple bind out. A DN without a password binds nobody, and that succeeds
// (RFC 4513 section 5.1.2): a client that does not look at its password is caught by it.
func (c *session) simple(m message, dn, password string) bool {
	s := c.server
	key, _, err := normalDN(dn)
	s.counters.bind(dn, key)
	if _, unix := c.raw.(*net.UnixConn); !c.encrypted && !unix && password != "" {
		s.counters.clear.Add(1)
	}
	switch {
	case err != nil:
		return c.finish(m, result{ldap.LDAPResultInvalidDNSyntax, "Invalid DN"})
	case password == "":
		s.counters.unauthenticated.Add(1)
		return c.finish(m, result{})
	case key == "":
		return c.finish(m, result{})
	}
	r := s.authenticate(key, password, m.asks(controlOTP))
	if r.code != 0 {
		s.counters.refuse(key)
	} else {
		c.dn = key
	}
	var controls []*ber.Packet
	if r.code == 0 && s.mustChangePassword(key) {
		// 389-ds sends the value "0" (draft-vchu-ldap-pwd-policy-00 section 2).
		expired := ber.NewSequence("")
		expired.AppendChild(octets(controlExpired))
		expired.AppendChild(octets("0"))
		controls = append(controls, expired)
	}
	fault := NoFault
	if key != serviceDN {
		f, delay := s.bindPace(r.code != 0)
		c.sleep(delay)
		fault = f
	}
	return c.send(m.envelope(answer(opBind+1, r), controls...), fault)
}
