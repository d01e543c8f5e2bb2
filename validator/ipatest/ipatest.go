package ipatest

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config is how to start a Server; nothing in it is required.
type Config struct {
	// Dir is where the CA's certificate and the unix socket go; empty: a directory of our own,
	// which Close removes.
	Dir string
	// Now is the server's clock; nil: time.Now.
	Now func() time.Time
	// DenySecrets is what DenySecrets sets.
	DenySecrets bool
	// Replays is what Replays sets.
	Replays bool
}

// Server is a directory with no users at first. All its methods may be called at any time from
// any goroutine.
type Server struct {
	now      func() time.Time
	dir      string
	own      bool // dir is ours
	password string
	tls      *tls.Config
	authority

	tree        *tree
	replays     bool            // guarded by tree.mu
	denySecrets bool            // guarded by tree.mu
	mustChange  map[string]bool // guarded by tree.mu; by normal DN

	counters *counters

	faults                   sync.Mutex
	fault, bindFault         Fault         // guarded by faults
	delay                    time.Duration // guarded by faults
	acceptDelay, refuseDelay time.Duration // guarded by faults

	ports  sync.Mutex
	places []*port // TLS, plain, unix
	ended  bool    // guarded by ports; nothing is opened any more

	connections sync.Mutex
	sessions    map[*session]struct{} // guarded by connections
	closed      bool                  // guarded by connections
	running     sync.WaitGroup        // accept loops and sessions; Close waits for them
}

// maxSocketPath is how long the path of a unix socket may be (sun_path, less its NUL).
const maxSocketPath = 107

// Start starts a server on loopback addresses.
func Start(c Config) (*Server, error) {
	s := &Server{
		now: c.Now, dir: c.Dir, password: rand.Text(), tree: newTree(), replays: c.Replays, denySecrets: c.DenySecrets,
		mustChange: map[string]bool{}, counters: newCounters(), delay: 5 * time.Second, sessions: map[*session]struct{}{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.dir == "" || len(filepath.Join(s.dir, "ldapi")) > maxSocketPath {
		dir, err := os.MkdirTemp("", "ipatest")
		if err != nil {
			return nil, fmt.Errorf("making a directory: %w", err)
		}
		s.dir, s.own = dir, true
	}
	if err := s.open(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open() error {
	if err := s.seed(); err != nil {
		return err
	}
	if err := s.makeAuthority(); err != nil {
		return err
	}
	s.places = []*port{
		{network: "tcp", address: "127.0.0.1:0", tls: true},
		{network: "tcp", address: "127.0.0.1:0"},
		{network: "unix", address: filepath.Join(s.dir, "ldapi")},
	}
	return s.openListeners()
}

// LDAPS returns the URL of the port that speaks TLS at once.
func (s *Server) LDAPS() string { return "ldaps://" + s.address(0) }

// LDAP returns the URL of the port that wants StartTLS.
func (s *Server) LDAP() string { return "ldap://" + s.address(1) }

// LDAPI returns the URL of the unix socket, where SASL EXTERNAL binds the service account.
func (s *Server) LDAPI() string { return "ldapi://" + url.PathEscape(s.address(2)) }

// Base returns the suffix of the tree.
func (s *Server) Base() string { return suffix }

// Realm returns the Kerberos realm.
func (s *Server) Realm() string { return realm }

// ServiceDN returns the DN of the service account.
func (s *Server) ServiceDN() string { return serviceDN }

// ServicePassword returns the service account's password.
func (s *Server) ServicePassword() string { return s.password }

// Replays lets one code be accepted again and again, like back ends that share no state.
func (s *Server) Replays(on bool) {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	s.replays = on
}

// DenySecrets hides ipatokenRadiusSecret from the service account, as FreeIPA does until an
// administrator adds the access rule.
func (s *Server) DenySecrets(on bool) {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	s.denySecrets = on
}

func (s *Server) mustChangePassword(key string) bool {
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	return s.mustChange[key]
}
