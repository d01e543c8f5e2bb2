package accept

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/certpath"
	"github.com/estuary-pki/estuary/services/reload"
)

// Mode says what is done about client certificates.
type Mode string

// The modes.
const (
	// ModeNone asks for none.
	ModeNone Mode = "none"
	// ModeOptional asks for one, and goes on without; what it proves is for the validator to say.
	ModeOptional Mode = "optional"
	// ModeRequiredForReenroll is ModeOptional, but a certificate counts for /simplereenroll alone.
	ModeRequiredForReenroll Mode = "required_for_reenroll"
	// ModeRequired ends the handshake without one that leads to a trust anchor and is valid.
	ModeRequired Mode = "required"
)

// Modes is every Mode, the default first.
var Modes = []Mode{ModeOptional, ModeRequiredForReenroll, ModeRequired, ModeNone}

// ClientAuth is what is done about client certificates. The zero value asks for none.
type ClientAuth struct {
	// Mode is how.
	Mode Mode
	// Anchors are trusted; needed unless the mode is ModeNone.
	Anchors *Anchors
}

// AnchorsConfig is what Anchors are made of.
type AnchorsConfig struct {
	// File has certificates of authorities in PEM, read again when it changes; "" for none.
	File string
	// Authority returns the certificates of our own, as far as they are known; it must not
	// wait. The same slice means the same certificates.
	Authority func() []*x509.Certificate
	// Log gets a line for each change of the file.
	Log *slog.Logger
	// Metrics counts changes that could not be used.
	Metrics *metrics.Set
}

// Anchors are the authorities whose certificates clients are asked for. They are safe for
// concurrent use.
type Anchors struct {
	authority func() []*x509.Certificate
	files     *reload.Files[*certpath.Anchors] // nil without a file

	mu   sync.Mutex // guards what follows
	own  []*x509.Certificate
	file *certpath.Anchors
	both *certpath.Anchors
}

// NewAnchors reads the file. The error names it.
func NewAnchors(c AnchorsConfig) (*Anchors, error) {
	if c.Authority == nil || c.Log == nil || c.Metrics == nil {
		return nil, errors.New("trust anchors need an authority, a log and metrics")
	}
	a := &Anchors{authority: c.Authority, both: certpath.NewAnchors()}
	if c.File == "" {
		return a, nil
	}
	var err error
	a.files, err = certpath.Watch(c.File, c.Log, c.Metrics.GetOrCreateCounter("estuary_gateway_trust_anchor_reload_errors_total"))
	return a, err
}

// Current returns those of now.
func (a *Anchors) Current() *certpath.Anchors {
	own := a.authority()
	var file *certpath.Anchors
	if a.files != nil {
		file = a.files.Current()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if file != a.file || len(own) != len(a.own) || len(own) > 0 && &own[0] != &a.own[0] {
		all := append([]*x509.Certificate(nil), own...)
		if file != nil {
			all = append(all, file.All()...)
		}
		a.own, a.file, a.both = own, file, certpath.NewAnchors(all...)
	}
	return a.both
}

// check tells that the file cannot be used.
func (a *Anchors) check() error {
	if a == nil || a.files == nil {
		return nil
	}
	a.files.Current()
	if err := a.files.Bad(); err != nil {
		return fmt.Errorf("the old trust anchors are in use: %w", err)
	}
	return nil
}

// set puts what the mode demands into the configuration of a handshake.
func (c ClientAuth) set(config *tls.Config, now func() time.Time) {
	if c.Mode == ModeNone || c.Mode == "" {
		return
	}
	anchors := c.Anchors.Current()
	config.ClientCAs = anchors.Hints() // for clients with several certificates
	config.ClientAuth = tls.RequestClientCert
	if c.Mode != ModeRequired {
		return
	}
	config.ClientAuth = tls.RequireAnyClientCert
	// Not the library's own verification: it would take a client's word for how much work it is.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := certpath.Verify(state.PeerCertificates, anchors, now(), 0)
		return err
	}
}
