package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// session is one connection, used by one goroutine at a time.
type session struct {
	wire   *wire
	conn   *ldap.Conn
	broken bool      // no further exchange
	used   time.Time // when it was last given back
}

// dial connects and secures the connection. Nothing but StartTLS has been sent in clear.
func (a address) dial(ctx context.Context, config *tls.Config) (*session, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, a.network, a.target)
	if err != nil {
		return nil, lose(ctx, fmt.Errorf("connecting: %w", err))
	}
	w := newWire(raw)
	end := w.begin(ctx)
	conn, err := a.secure(ctx, w, config)
	if open := end(); err == nil && !open {
		err = net.ErrClosed
	}
	if err != nil {
		_ = raw.Close() // nothing is on its way
		return nil, lose(ctx, err)
	}
	s := &session{wire: w, conn: ldap.NewConn(conn, a.transport != local)}
	s.conn.Start()
	return s, nil
}

// secure puts TLS onto the wire, where the address has it.
func (a address) secure(ctx context.Context, w *wire, config *tls.Config) (net.Conn, error) {
	if a.transport == local {
		return w, nil
	}
	if a.transport == startTLS {
		if err := askForTLS(w); err != nil {
			return nil, fmt.Errorf("starting TLS: %w", err)
		}
	}
	config = config.Clone()
	config.ServerName = a.host
	conn := tls.Client(w, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shaking hands: %w", err)
	}
	return conn, nil
}

// errNoStartTLS tells that a server answers and does not offer TLS.
var errNoStartTLS = errors.New("the server refuses StartTLS")

// askForTLS sends the StartTLS request (RFC 4511 section 4.14) and reads exactly the answer.
// The library's own would read ahead, and wait without bound.
func askForTLS(w *wire) error {
	const request = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
	if _, err := io.WriteString(w, request); err != nil {
		return err
	}
	// Without a buffer in between no octet behind the answer is read: somebody on the way
	// could have put it there.
	answer, err := ber.ReadPacket(io.LimitReader(w, 64<<10))
	if err != nil {
		return err
	}
	if len(answer.Children) < 2 || answer.Children[0].Value != int64(1) ||
		answer.Children[1].ClassType != ber.ClassApplication || answer.Children[1].Tag != ldap.ApplicationExtendedResponse {
		return errors.New("the answer is none to StartTLS")
	}
	if err := ldap.GetLDAPError(answer); err != nil {
		var refused *ldap.Error
		if errors.As(err, &refused) && (refused.ResultCode == ldap.LDAPResultBusy || refused.ResultCode == ldap.LDAPResultUnavailable) {
			return fmt.Errorf("result %d", refused.ResultCode)
		}
		return fmt.Errorf("%w: %.200s", errNoStartTLS, err.Error())
	}
	return nil
}

// exchange runs f, which sends one request and waits for its answer. Its error is a
// *resultError or a *lostError; after the latter the session is broken.
func (s *session) exchange(ctx context.Context, f func(*ldap.Conn) error) error {
	if s.broken {
		return lose(ctx, net.ErrClosed)
	}
	end := s.wire.begin(ctx)
	err := guarded(s.conn, f)
	open := end()
	if err != nil {
		err = outcome(ctx, err)
	} else if !open {
		// The answer was there first, but nobody waits for it any more.
		err = lose(ctx, net.ErrClosed)
	}
	var lost *lostError
	s.broken = s.broken || !open || errors.As(err, &lost)
	return err
}

// guarded returns a panic as an error: a server that finds one in the library's decoder must
// not end the process.
func guarded(conn *ldap.Conn, f func(*ldap.Conn) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("decoding the answer: panic: %.200s", fmt.Sprint(v))
		}
	}()
	return f(conn)
}

// query is a search.
type query struct {
	base       string
	scope      int    // one of ldap.Scope…
	filter     string // a filter whose values are escaped
	attributes []string
	limit      int // the most entries
}

const anyEntry = "(objectClass=*)"

// read is the query for one entry, which must be there.
func read(dn string, attributes ...string) query {
	return query{base: dn, scope: ldap.ScopeBaseObject, filter: anyEntry, attributes: attributes, limit: 1}
}

// search returns the entries. More than the limit are an error with code 4 that comes with
// some of them. References to other servers are not followed.
func (s *session) search(ctx context.Context, q query) ([]*ldap.Entry, error) {
	seconds := 1
	if deadline, ok := ctx.Deadline(); ok {
		seconds = max(1, int(math.Ceil(time.Until(deadline).Seconds())))
	}
	var found *ldap.SearchResult
	tooMany := false
	err := s.exchange(ctx, func(conn *ldap.Conn) (err error) {
		found, err = conn.Search(&ldap.SearchRequest{
			BaseDN: q.base, Scope: q.scope, DerefAliases: ldap.NeverDerefAliases,
			SizeLimit: q.limit, TimeLimit: seconds, EnforceSizeLimit: true,
			Filter: q.filter, Attributes: q.attributes,
		})
		if tooMany = errors.Is(err, ldap.ErrSizeLimitExceeded); tooMany {
			return nil // the library counted; the rest of the answer is still on its way
		}
		return err
	})
	if err == nil && tooMany {
		s.broken = true
		err = &resultError{code: ldap.LDAPResultSizeLimitExceeded}
	}
	if found == nil {
		return nil, err
	}
	return found.Entries, err
}

// bind binds with a password and returns the controls of the answer.
func (s *session) bind(ctx context.Context, r *ldap.SimpleBindRequest) ([]ldap.Control, error) {
	if r.Username == "" || r.Password == "" {
		return nil, errors.New("an anonymous bind is none") // callers have looked: never sent
	}
	var controls []ldap.Control
	err := s.exchange(ctx, func(conn *ldap.Conn) error {
		result, err := conn.SimpleBind(r)
		if result != nil {
			controls = result.Controls
		}
		return err
	})
	return controls, err
}

// external binds by SASL EXTERNAL (RFC 4422 appendix A).
func (s *session) external(ctx context.Context) error {
	return s.exchange(ctx, func(conn *ldap.Conn) error { return conn.ExternalBind() })
}

// whoAmI returns the DN that the connection is bound as (RFC 4532); empty for anonymous.
func (s *session) whoAmI(ctx context.Context) (string, error) {
	var who string
	err := s.exchange(ctx, func(conn *ldap.Conn) error {
		result, err := conn.WhoAmI(nil)
		if err == nil {
			who = result.AuthzID
		}
		return err
	})
	if err != nil || who == "" {
		return "", err
	}
	dn, ok := strings.CutPrefix(who, "dn:")
	if !ok {
		return who, nil // "u:…": equal to no DN
	}
	return strings.TrimSpace(dn), nil // 389-ds writes a blank behind the colon
}

// polite is how long a server that has answered may take to hear that we leave.
const polite = 50 * time.Millisecond

// close ends the connection, in at most 50 ms. The wire is closed before the library, whose
// own close waits for a write that may be stuck.
func (s *session) close() {
	if !s.broken && !s.conn.IsClosing() {
		_ = s.wire.SetDeadline(time.Now().Add(polite))
		_ = s.conn.Unbind()
	}
	_ = s.wire.Close()
	_ = s.conn.Close()
}
