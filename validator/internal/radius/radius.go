// Package radius turns a user name and a password into what a RADIUS server says of them.
//
// login asks it for accounts whose passwords a RADIUS server checks. The encoding of packets
// and attributes is a library's; sockets, retransmission, the check of answers and the health
// of servers are this package's: over UDP (RFC 2865, with Message-Authenticator both ways, RFC
// 3579 section 3.2) and over TLS (RadSec, RFC 6614).
//
// A password goes to one server. It is sent again in the same octets, from the same port and
// under the same identifier, so that a server which has seen it answers from its memory: a
// one-time code that is checked a second time is refused.
package radius

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
)

const (
	defaultInFlight = 1024
	// maxPassword is what User-Password holds (RFC 2865 section 5.2).
	maxPassword = 128
	// maxName is what an attribute holds (RFC 2865 section 5).
	maxName = 253
	// maxRetries is the most that FreeIPA lets a server have.
	maxRetries = 10
)

// Server is one RADIUS server.
type Server struct {
	// Name stands in log, metrics and audit.
	Name string
	// Address is host:port.
	Address string
	// Secret is shared with it; over TLS it is "radsec" (RFC 6614 section 2.3), whatever stands
	// here.
	Secret secret.Bytes
	// AllowUnsigned takes answers without Message-Authenticator over UDP, which can be forged
	// (CVE-2024-3596).
	AllowUnsigned bool
	// TLS makes it a server of RadSec. ServerName may be empty: the host of Address then. Who
	// names it by the same pointer shares its connections.
	TLS *tls.Config
}

// Target is the servers that can check a password, and the time for it.
type Target struct {
	// Servers are in the order of preference.
	Servers []Server
	// Timeout is the time for all of it.
	Timeout time.Duration
	// Retries is how often a request is sent again over UDP, in equal steps of Timeout: 0 to
	// 10, and the nearer of them where it is neither.
	Retries int
}

// Request is what a server is asked.
type Request struct {
	// User is the name at the server.
	User string
	// Password is sent as User-Password: 1 to 128 octets without NUL.
	Password secret.Bytes
	// Answer is what a challenge is answered by; empty where it is to be told.
	Answer secret.Bytes
}

// Result is what a server says.
type Result int

// The results.
const (
	// Rejected: the password is wrong, or cannot be one.
	Rejected Result = iota
	// Accepted: it is right.
	Accepted
	// Challenged: the server asks a second question.
	Challenged
)

// Answer is a server's answer.
type Answer struct {
	// Result is what it says.
	Result Result
	// Server is the server's name; empty when none was asked.
	Server string
	// Asked tells that the server asked a second question, and got Request.Answer.
	Asked bool
}

// Unknown is the error of Authenticate: nothing is known of the password.
type Unknown struct {
	// Server is the server that was asked; empty when none could be.
	Server string
	// Sent tells that the password may have reached it.
	Sent bool
	// Err is the cause.
	Err error
}

// Error returns server and cause.
func (u *Unknown) Error() string {
	return fmt.Sprintf("asking the RADIUS server %s: %v", u.Server, u.Err)
}

// Unwrap returns the cause.
func (u *Unknown) Unwrap() error { return u.Err }

// Is tells that this error is fault.Unavailable.
func (u *Unknown) Is(target error) bool { return target == fault.Unavailable }

// Config is what a Client needs; NASIdentifier, Log, Metrics and Now are required.
type Config struct {
	// NASIdentifier is what the client calls itself (RFC 2865 section 5.32), at most 253 octets.
	NASIdentifier string
	// MaxInFlight bounds the requests that wait for one server; 0 for 1024.
	MaxInFlight int
	// Log hears of servers that are lost, return, or answer without a signature.
	Log *slog.Logger
	// Metrics gets the estuary_validator_radius_… metrics.
	Metrics *metrics.Set
	// Now tells the time.
	Now func() time.Time
}

// Client asks servers. It is safe for concurrent use.
type Client struct {
	c       Config
	running sync.WaitGroup // readers of sockets and connections

	mu     sync.Mutex
	peers  map[key]*peer // guarded by mu
	closed bool          // guarded by mu
}

// New returns a Client. RADIUS is built on MD5: with GODEBUG=fips140=only there can be none.
func New(c Config) (*Client, error) {
	switch {
	case c.Log == nil || c.Metrics == nil || c.Now == nil:
		return nil, errors.New("a RADIUS client needs log, metrics and clock")
	case c.NASIdentifier == "" || len(c.NASIdentifier) > maxName:
		return nil, fmt.Errorf("a NAS-Identifier of %d octets is not 1 to %d", len(c.NASIdentifier), maxName)
	case c.MaxInFlight < 0:
		return nil, errors.New("MaxInFlight is negative")
	case fips140.Enforced():
		return nil, errors.New("RADIUS needs MD5, which GODEBUG=fips140=only forbids")
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = defaultInFlight
	}
	return &Client{c: c, peers: map[key]*peer{}}, nil
}

// Authenticate asks the first server of the target that is not marked down, and no other one
// once anything has been sent. Its error is an *Unknown.
func (c *Client) Authenticate(ctx context.Context, t Target, r Request) (Answer, error) {
	if !sendable([]byte(r.User), maxName) || !sendable(r.Password.Reveal(), maxPassword) ||
		r.Answer.Len() > 0 && !sendable(r.Answer.Reveal(), maxPassword) {
		return Answer{Result: Rejected}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	sends := 1 + min(max(t.Retries, 0), maxRetries)
	s := schedule{sends: sends, interval: t.Timeout / time.Duration(sends)}
	p, err := c.admit(ctx, t.Servers, t.Timeout-s.interval/2)
	if err != nil {
		return Answer{}, err
	}
	defer p.leave()
	reply, err := p.ask(ctx, question{user: r.User, password: r.Password}, s)
	asked := err == nil && reply.code == accessChallenge && r.Answer.Len() > 0
	if asked {
		reply, err = p.ask(ctx, question{user: r.User, password: r.Answer, state: reply.state}, s)
		if unknown := (*Unknown)(nil); errors.As(err, &unknown) {
			unknown.Sent = true // the password, before the challenge
		}
	}
	if err != nil {
		return Answer{}, err
	}
	return Answer{Result: results[reply.code], Server: p.server.Name, Asked: asked}, nil
}

// admit returns a server that may be asked, with room there; it waits for that. Who would be
// let in with less than half an interval left is not: the password, which may be a one-time
// code, would be sent with no time for an answer. Where the server went down meanwhile
// another is chosen, for nothing has been sent. Its error is an *Unknown.
func (c *Client) admit(ctx context.Context, servers []Server, patience time.Duration) (*peer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		p, err := c.choose(servers)
		if err != nil {
			return nil, &Unknown{Err: err}
		}
		waited, err := p.enter(ctx)
		if err != nil {
			return nil, &Unknown{Server: p.server.Name, Err: fmt.Errorf("waiting for others: %w", err)}
		}
		if !waited || !p.health.isDown() {
			return p, nil
		}
		p.leave()
	}
}

// sendable tells whether text fits into an attribute, whole: servers end it at a NUL.
func sendable(text []byte, most int) bool {
	return len(text) > 0 && len(text) <= most && bytes.IndexByte(text, 0) < 0
}

// Down returns the names of the servers that are marked down now, in no order.
func (c *Client) Down() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name, p := range c.latest() {
		if p.health.isDown() {
			names = append(names, name)
		}
	}
	return names
}
