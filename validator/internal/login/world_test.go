package login_test

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/radius"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
	"github.com/estuary-pki/estuary/validator/internal/throttle/throttletest"
	"github.com/estuary-pki/estuary/validator/ipatest"
)

const (
	password     = "Correct.Horse-9"
	radiusSecret = "a secret of RADIUS"
)

// world is a login beside a directory that behaves like FreeIPA's, and a RADIUS server.
type world struct {
	t      *testing.T
	ipa    *ipatest.Server
	radius *radiusServer
	state  *state.Store
	db     *store.DB
	login  *login.Login
	config login.Config // of the newest replica

	mu      sync.Mutex
	elapsed time.Duration // guarded by mu; how far the clock of the login is ahead
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.elapsed)
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.elapsed += d
}

// options change what a world is made of.
type options struct {
	directory func(*directory.Config)
	login     func(*login.Config)
	limits    func(*throttle.Config)
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	ipa, err := ipatest.Start(ipatest.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ipa.Close() })
	w := &world{t: t, ipa: ipa, radius: newRADIUS(t), db: storetest.Open(t, storetest.SQLite(t))}
	log := slog.New(slog.DiscardHandler)
	w.state = must(state.New(t.Context(), state.Config{
		DB: w.db, MACKey: secret.New(make([]byte, state.MACKeySize)), Stream: audit.NewStream(io.Discard), Log: log,
	}))(t)
	w.login = w.replica(o)
	return w
}

// replica returns one more login on the same state.
func (w *world) replica(o options) *login.Login {
	t, log, set := w.t, slog.New(slog.DiscardHandler), metrics.NewSet()
	t.Helper()
	dc := directory.Config{
		Servers: []string{w.ipa.LDAPS()}, CA: w.ipa.CAFile(), BindDN: w.ipa.ServiceDN(), Password: secret.New([]byte(w.ipa.ServicePassword())),
		Realm: w.ipa.Realm(), PrincipalAttribute: "krbPrincipalName", OTPRequiredControl: true,
		Groups: []string{"vpn"}, Timeout: 2 * time.Second, Pool: 4, Log: log, Metrics: set, Now: time.Now,
	}
	if o.directory != nil {
		o.directory(&dc)
	}
	client := must(directory.New(dc))(t)
	if err := client.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	asking := must(radius.New(radius.Config{NASIdentifier: "est.ipa.test", Log: log, Metrics: set, Now: time.Now}))(t)
	background(t, client.Run)
	background(t, asking.Run)
	c := login.Config{
		Directory: client, RADIUS: asking, State: w.state, Throttle: must(throttletest.New(w.state, o.limits))(t),
		Keys: []secret.Bytes{secret.New(make([]byte, login.KeySize))}, Realm: w.ipa.Realm(), Control: dc.OTPRequiredControl,
		Evidence: dc.Evidence != "", Timeout: dc.Timeout, Log: log, Now: w.now,
	}
	if o.login != nil {
		o.login(&c)
	}
	w.config = c
	return must(login.New(c))(t)
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func key(n byte) [sha256.Size]byte { return [sha256.Size]byte{n} }

// attempt is one of a user with a password, for the first key.
func attempt(user, text string) login.Attempt {
	return login.Attempt{User: user, Password: secret.New([]byte(text)), Binding: key(1), Address: "192.0.2.7"}
}

// try makes an attempt and stores what came of it, as serve does.
func (w *world) try(a login.Attempt) (login.Outcome, error) { return w.tryAt(w.login, a) }

func (w *world) tryAt(l *login.Login, a login.Attempt) (login.Outcome, error) {
	w.t.Helper()
	out, err := l.Check(w.t.Context(), a)
	if err != nil {
		return out, err
	}
	r := audit.Record{Time: w.now(), Event: "credential.accepted", Outcome: audit.Success}
	if err := w.state.Settle(context.WithoutCancel(w.t.Context()), out.Settlement, &r); err != nil {
		w.t.Fatal(err)
	}
	return out, nil
}

// proves demands that an attempt is accepted with the indicators, or with none.
func (w *world) proves(a login.Attempt, indicators ...string) login.Outcome {
	w.t.Helper()
	out, err := w.try(a)
	if err != nil || out.Refused != "" {
		w.t.Fatalf("%s: refused %q, %v", a.User, out.Refused, err)
	}
	if got := out.Proved.Indicators; len(got) != len(indicators) || len(got) == 1 && got[0] != indicators[0] {
		w.t.Errorf("%s: indicators %q, not %q", a.User, got, indicators)
	}
	return out
}

// refuses demands that an attempt is refused for a reason that contains the words.
func (w *world) refuses(a login.Attempt, words string) login.Outcome {
	w.t.Helper()
	out, err := w.try(a)
	if err != nil || !contains(out.Refused, words) {
		w.t.Errorf("%s: refused %q, %v, not because of %q", a.User, out.Refused, err, words)
	}
	return out
}

// proxyAt is a group of one server, for the accounts of a filter.
func proxyAt(address, filter string) login.Proxy {
	return login.Proxy{Filter: filter, Target: radius.Target{
		Servers: []radius.Server{{Name: address, Address: address, Secret: secret.New([]byte(radiusSecret))}},
		Timeout: time.Second, Retries: 1,
	}}
}
