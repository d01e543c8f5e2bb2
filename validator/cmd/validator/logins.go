package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/otpd"
	"github.com/estuary-pki/estuary/validator/internal/radius"
	"github.com/estuary-pki/estuary/validator/internal/serve"
)

// logins is what checks the passwords of directory accounts.
type logins struct {
	directory *directory.Client
	radius    *radius.Client
	login     *login.Login
	running   []run.Part
}

// openLogins makes it from the outside in. A directory that is down does not keep the
// validator from starting; one that shows the configuration to be wrong does.
func (p *parts) openLogins(ctx context.Context, c *config.Config) (*logins, error) {
	l := &logins{}
	dc, err := c.Directory.Open()
	if err != nil {
		return nil, err
	}
	dc.Log, dc.Metrics, dc.Now = p.log, p.set, p.clock.Now
	if l.directory, err = directory.New(dc); err != nil {
		return nil, err
	}
	if err := l.directory.Open(ctx); err != nil {
		return nil, fmt.Errorf("opening the directory: %w", err)
	}
	name := c.Client.NASIdentifier
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("looking for the name of this machine: %w", err)
		}
	}
	if l.radius, err = radius.New(radius.Config{NASIdentifier: name, Log: p.log, Metrics: p.set, Now: p.clock.Now}); err != nil {
		return nil, err
	}
	if err := l.makeLogin(c, p); err != nil {
		return nil, err
	}
	l.running = []run.Part{{Name: "directory", Run: l.directory.Run}, {Name: "radius", Run: l.radius.Run}}
	if c.OTPD.Listen != "" {
		return l, l.openSocket(c, p)
	}
	return l, nil
}

func (l *logins) makeLogin(c *config.Config, p *parts) error {
	proxies, err := c.Proxies()
	if err != nil {
		return err
	}
	keys := make([]secret.Bytes, 0, len(c.OneTime.SpendKeys))
	for _, path := range c.OneTime.SpendKeys {
		key, err := secret.ReadKey(string(path), login.KeySize)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	l.login, err = login.New(login.Config{
		Directory: l.directory, RADIUS: l.radius, Proxies: proxies, State: p.state, Throttle: p.limits, Keys: keys,
		Realm: c.Directory.Realm, Control: c.Directory.OTPRequiredControl, Evidence: c.Directory.OTPEvidence != "",
		PasswordExpiration: c.Directory.CheckPasswordExpiration, Separator: c.Client.Separator,
		Timeout: time.Duration(c.Directory.Timeout),
		Log:     p.log, Now: p.clock.Now,
	})
	return err
}

// openSocket makes the server for a KDC.
func (l *logins) openSocket(c *config.Config, p *parts) error {
	answer, err := serve.KDC(l.login, p.state, p.log, p.clock.Now)
	if err != nil {
		return err
	}
	server, err := otpd.New(otpd.Config{
		Listen: c.OTPD.Listen, Login: answer, Timeout: time.Duration(c.OTPD.Timeout), Log: p.log, Metrics: p.set,
	})
	if err != nil {
		return err
	}
	l.running = append(l.running, run.Part{Name: "otpd", Run: server.Run})
	return nil
}

// checkRADIUS says which RADIUS servers are down.
func (l *logins) checkRADIUS(context.Context) error {
	if down := l.radius.Down(); len(down) > 0 {
		return fmt.Errorf("these servers do not answer: %s", strings.Join(down, ", "))
	}
	return nil
}
