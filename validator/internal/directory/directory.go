// Package directory turns a user name into an entry of an LDAP directory, and a password
// into what the directory says about it.
//
// The validator's login asks it; it asks FreeIPA's 389 Directory Server, or another LDAP
// server, over LDAPS, StartTLS or a unix socket. It decides nothing: whether a bind, a RADIUS
// server or neither is to be asked, and what an answer is worth, is the caller's to say.
//
// The library, go-ldap, knows no contexts and waits without bound in three places. So every
// connection is dialled here, lies behind a wire with deadlines, and is closed when the
// context of its operation ends.
package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	ber "github.com/go-asn1-ber/asn1-ber"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/reload"
	"github.com/estuary-pki/estuary/services/secret"
)

// The outcomes of Find that are no failure of the directory.
var (
	// ErrNotFound: there is no such identity in this realm.
	ErrNotFound = errors.New("no such entry")
	// ErrAmbiguous: more than one entry has the name, or one entry is of two kinds.
	ErrAmbiguous = errors.New("not exactly one entry")
)

// Config is what a Client needs. Servers, Realm, PrincipalAttribute, Timeout, Log, Metrics and
// Now are required.
type Config struct {
	// Servers are "ldaps://host[:port]", "ldap://host[:port]", which always means StartTLS, or
	// "ldapi://%2Fpath%2Fsocket".
	Servers []string
	// CA is a PEM file of the authorities that certify the servers; empty for the system's.
	CA string
	// Certificate and Key are PEM files, for SASL EXTERNAL over TLS; empty for none.
	Certificate, Key string
	// BindDN and Password are the service account; without BindDN it is SASL EXTERNAL.
	BindDN   string
	Password secret.Bytes
	// BaseDN is the suffix; empty for what the root DSE says.
	BaseDN string
	// Realm is the Kerberos realm of the identities.
	Realm string
	// PrincipalAttribute holds the name that Find is asked for: "krbPrincipalName", whose
	// values are name@REALM, or another such as "uid", whose values have no realm.
	PrincipalAttribute string
	// OTPRequiredControl tells that the servers know FreeIPA's control for binds which need a
	// second factor. Without it BindOptions.Control has no effect.
	OTPRequiredControl bool
	// Evidence is a filter that the user's own entry has to match after a bind that has proved
	// a second factor; empty for FreeIPA's tokens.
	Evidence string
	// Groups are the names that Entry.Groups may hold.
	Groups []string
	// Timeout bounds every call as a whole, to at most a minute; its context may end earlier.
	Timeout time.Duration
	// Pool is how many connections for searches each server has, 1 to 64.
	Pool int
	// Log is told of servers that are lost and return, and of entries that cannot be read.
	Log *slog.Logger
	// Metrics gets the estuary_validator_directory_… metrics.
	Metrics *metrics.Set
	// Now tells the time that tokens are judged by.
	Now func() time.Time
}

// Entry is an identity as the directory holds it.
type Entry struct {
	// DN is the entry's name, as the server wrote it.
	DN string
	// Kind is a user, a host or a service.
	Kind assertionv1.IdentityKind
	// Principal is the canonical principal without its realm, Realm the realm.
	Principal, Realm string
	// UID and CN are empty where the entry has none.
	UID, CN string
	// Mail is every address.
	Mail []string
	// Groups are the groups of Config.Groups, as spelled there, that the entry is a direct or
	// nested member of.
	Groups []string
	// ManagedHosts are the names of the hosts that this host or service manages.
	ManagedHosts []string
	// AuthTypes are the entry's own ipaUserAuthType, in lower case.
	AuthTypes []string
	// RADIUSLink is the DN of the entry's RADIUS configuration, RADIUSUser its name there.
	RADIUSLink, RADIUSUser string
	// Locked tells that nsAccountLock is anything but false.
	Locked bool
	// PrincipalExpires and PasswordExpires are zero for never. A value that cannot be read is
	// the Unix epoch: expired.
	PrincipalExpires, PasswordExpires time.Time
	// PolicyDN is the entry's password policy; empty for the realm's.
	PolicyDN string
}

// Unknown is the error of Bind: nothing is known of the credential.
type Unknown struct {
	// Server is the host that was asked last; empty when none could be.
	Server string
	// Sent tells that the password may have reached the server, which may have spent it.
	Sent bool
	// Err is the cause.
	Err error
}

// Error returns server and cause.
func (u *Unknown) Error() string {
	if u.Server == "" {
		return fmt.Sprintf("binding: %v", u.Err)
	}
	return fmt.Sprintf("binding at %s: %v", u.Server, u.Err)
}

// Unwrap returns the cause.
func (u *Unknown) Unwrap() error { return u.Err }

// Is tells that this error is fault.Unavailable.
func (u *Unknown) Is(target error) bool { return target == fault.Unavailable }

// Client asks the servers. It is safe for concurrent use.
type Client struct {
	c        Config
	tls      *reload.Files[*tls.Config] // nil when every server is on a unix socket
	servers  []*server
	bindDN   distinguished // of the service account
	configs  cache[[]string]
	policies cache[Lockout]

	unparsable *metrics.Counter

	mu       sync.Mutex
	baseText string        // guarded by mu; empty until a server has told
	baseDN   distinguished // guarded by mu; the same
}

// limitBER is done before the first connection of the process.
var limitBER sync.Once

// New returns a Client. It checks the configuration and opens nothing; its error names the key
// of [directory] that is wrong.
func New(c Config) (*Client, error) {
	if c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("a directory client needs log, metrics and clock")
	}
	addresses, err := c.check()
	if err != nil {
		return nil, err
	}
	// A variable of the library, 2 GiB by default, is the only bound of what one length makes
	// it read. It is written once, before any connection of a Client reads it.
	limitBER.Do(func() { ber.MaxPacketLengthBytes = maxAnswer })
	client := &Client{
		c: c, bindDN: parseOrNil(c.BindDN), baseText: c.BaseDN, baseDN: parseOrNil(c.BaseDN),
		unparsable: c.Metrics.GetOrCreateCounter("estuary_validator_directory_unparsable_total"),
	}
	client.configs.life, client.policies.life = globalLife, policyLife
	if client.tls, err = c.openTLS(addresses); err != nil {
		return nil, err
	}
	for _, a := range addresses {
		client.servers = append(client.servers, newServer(client, a))
	}
	return client, nil
}

// bounded returns ctx with the time that a whole call may take.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.c.Timeout)
}

// base returns the suffix, as text and parsed; nil while no server has told it.
func (c *Client) base() (string, distinguished) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.baseText, c.baseDN
}

// below returns the DN of a place in the tree.
func (c *Client) below(place string) (string, error) {
	base, _ := c.base()
	if base == "" {
		return "", errNoBase
	}
	return place + "," + base, nil
}

var errNoBase = errors.New("no server has told its base yet")

// unavailable returns the error for a caller who cannot do anything about it.
func unavailable(op string, err error) error {
	return fault.New(fault.Unavailable, "directory."+op, "", err)
}
