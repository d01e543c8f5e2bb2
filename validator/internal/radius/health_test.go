package radius_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// moody is a server that a test switches on and off.
type moody struct {
	*server
	logins atomic.Bool // are answered
	status atomic.Bool // Status-Server is
}

func newMoody(t *testing.T, on bool) *moody {
	t.Helper()
	m := &moody{}
	m.logins.Store(on)
	m.server = newServer(t, func(s *server, d datagram) {
		user := ""
		if d.code() == accessRequest {
			user, _ = d.read(t, s.secret)
		}
		switch {
		case d.code() == statusServer && m.status.Load(),
			d.code() == accessRequest && m.logins.Load() && !strings.HasPrefix(user, "lost"):
			s.answer(d, accessAccept)
		}
	})
	return m
}

func (m *moody) count() int { return len(m.requests(accessRequest)) }

const short = 60 * time.Millisecond

var olga = radius.Request{User: "olga", Password: text("x")}

func both(a, b *moody, timeout time.Duration) radius.Target {
	return radius.Target{Servers: []radius.Server{a.server.server(), b.server.server()}, Timeout: timeout, Retries: 1}
}

// bringDown loses two requests.
func (w *world) bringDown(t *testing.T, target radius.Target, name string) {
	t.Helper()
	for i := range 2 {
		if slices.Contains(w.Down(), name) {
			t.Errorf("marked down after %d lost requests", i)
		}
		if answer, unknown := w.ask(t, target, olga); unknown == nil || !unknown.Sent || unknown.Server != name {
			t.Errorf("%+v, %v", answer, unknown)
		}
	}
	if !slices.Contains(w.Down(), name) {
		t.Fatalf("not marked down after two lost requests: %q", w.Down())
	}
}

func TestTheNextServerWhenOneIsDown(t *testing.T) {
	w, a, b := newWorld(t), newMoody(t, false), newMoody(t, true)
	target := both(a, b, short)
	w.bringDown(t, target, a.address())
	if a.count() != 4 || b.count() != 0 {
		t.Errorf("%d and %d packets: a password that was sent went to another server", a.count(), b.count())
	}
	if n := w.metric(t, "estuary_validator_radius_up", a.address()); n != 0 {
		t.Errorf("up is %d", n)
	}
	for range 3 {
		if answer, unknown := w.ask(t, target, olga); unknown != nil || answer.Result != radius.Accepted || answer.Server != b.address() {
			t.Errorf("%+v, %v", answer, unknown)
		}
	}
	if a.count() != 4 || w.log.count("is lost") != 1 {
		t.Errorf("%d packets to the server that is down, %d lines in the log", a.count(), w.log.count("is lost"))
	}
	// The dead time is over: nobody is sent to a dead server while another lives.
	w.advance(11 * time.Second)
	w.want(t, radius.Accepted, target, olga)
	b.logins.Store(false)
	w.bringDown(t, target, b.address())
	if a.count() != 4 {
		t.Error("a login was sent to a dead server while another lived")
	}
	a.logins.Store(true)
	if answer, unknown := w.ask(t, target, olga); unknown != nil || answer.Server != a.address() {
		t.Errorf("the first server has been down for long and is back, all are down: %+v, %v", answer, unknown)
	}
}

func TestAllAreDown(t *testing.T) {
	w, a, b := newWorld(t), newMoody(t, false), newMoody(t, false)
	target := both(a, b, short)
	w.bringDown(t, target, a.address())
	w.bringDown(t, target, b.address())
	target.Timeout = 5 * time.Second
	before, begin := a.count()+b.count(), time.Now()
	_, unknown := w.ask(t, target, olga)
	if took := time.Since(begin); unknown == nil || unknown.Sent || unknown.Server != "" || took > time.Second {
		t.Errorf("after %s: %+v", took, unknown)
	}
	if n := a.count() + b.count(); n != before {
		t.Errorf("%d packets were sent", n-before)
	}
	a.status.Store(true)
	begin = time.Now()
	within(t, 2*time.Second, "the server is back", func() bool { return !slices.Contains(w.Down(), a.address()) })
	t.Logf("reliability: a server that answers Status-Server again is used after %s", time.Since(begin).Round(time.Millisecond))
	a.logins.Store(true)
	w.want(t, radius.Accepted, target, olga)
	if n := w.log.count("is back"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// It knows no Status-Server: one login is let through when the dead time is over.
func TestBackWithoutStatusServer(t *testing.T) {
	w, a := newWorld(t), newMoody(t, false)
	target := a.target(short, 0)
	w.bringDown(t, target, a.address())
	w.advance(9 * time.Second)
	if _, unknown := w.ask(t, target, olga); unknown == nil || unknown.Sent {
		t.Errorf("before the dead time is over: %v", unknown)
	}
	w.advance(2 * time.Second)
	before := a.count()
	target.Timeout = 300 * time.Millisecond
	var sent atomic.Int64
	each(20, func(int) {
		if _, unknown := w.ask(t, target, olga); unknown != nil && unknown.Sent {
			sent.Add(1)
		}
	})
	if n := a.count() - before; n != 1 || sent.Load() != 1 {
		t.Errorf("%d packets of %d logins after the dead time", n, sent.Load())
	}
	w.advance(11 * time.Second)
	a.logins.Store(true)
	w.want(t, radius.Accepted, target, olga)
	if down := w.Down(); len(down) != 0 {
		t.Errorf("still down: %q", down)
	}
}

// Requests are lost one by one while others are answered: that is the network, or one user.
func TestOthersHearAnswers(t *testing.T) {
	w, a := newWorld(t), newMoody(t, true)
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				w.want(t, radius.Accepted, a.target(5*time.Second, 1), olga)
			}
		}
	})
	each(5, func(i int) {
		for range 3 {
			if _, unknown := w.login(t, a.target(100*time.Millisecond, 1), fmt.Sprint("lost-", i), "x"); unknown == nil {
				t.Error("an answer came")
			}
		}
	})
	close(stop)
	others.Wait()
	if w.log.count("is lost") != 0 {
		t.Error("the server was marked down")
	}
}

func TestCallersWhoGoAwayMarkNothing(t *testing.T) {
	w, a := newWorld(t), newMoody(t, false)
	for range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := w.Authenticate(ctx, a.target(50*time.Millisecond, 2), olga); !sentOf(t, err) {
			t.Errorf("%v", err)
		}
	}
	if down := w.Down(); len(down) != 0 {
		t.Errorf("callers who hang up have marked down %q", down)
	}
}

// A name that cannot be found is a server that is down.
func TestServerThatCannotBeReached(t *testing.T) {
	w, b := newWorld(t), newMoody(t, true)
	target := b.target(time.Second, 1)
	target.Servers = append([]radius.Server{{Name: "no port", Address: "127.0.0.1", Secret: text("x")}}, target.Servers...)
	for range 2 {
		if _, unknown := w.ask(t, target, olga); unknown == nil || unknown.Sent {
			t.Errorf("%v", unknown)
		}
	}
	w.want(t, radius.Accepted, target, olga)
}

// The secret of a server has changed: what was known under the old one is of no account.
func TestSecretChanges(t *testing.T) {
	w, a := newWorld(t), newMoody(t, true)
	wrong := a.target(short, 0)
	wrong.Servers[0].Secret = text("the secret of yesterday")
	bad := newServer(t, silent) // who does not know the secret gets no answer
	wrong.Servers[0].Address = bad.address()
	w.bringDown(t, wrong, a.address())
	right := wrong
	right.Servers = slices.Clone(wrong.Servers)
	right.Servers[0].Secret, right.Servers[0].Address = text(testSecret), a.address()
	w.want(t, radius.Accepted, right, olga)
	if down := w.Down(); len(down) != 0 || w.metric(t, "estuary_validator_radius_up") != 1 {
		t.Errorf("down under the name's new secret: %q", down)
	}
}

// Servers that nobody names are forgotten, and what is new is seen in the old metric.
func TestForgottenServers(t *testing.T) {
	w, a := newWorld(t), newMoody(t, true)
	w.want(t, radius.Accepted, a.target(time.Second, 1), olga)
	w.advance(2 * time.Hour)
	w.Sweep(t.Context())
	if n := w.Sockets(); n != 0 {
		t.Errorf("%d sockets are left", n)
	}
	a.logins.Store(false)
	w.bringDown(t, a.target(short, 0), a.address())
	if n := w.metric(t, "estuary_validator_radius_up"); n != 0 {
		t.Errorf("up is %d", n)
	}
}

// Four hold all the room: the others are told that nothing was sent.
func TestRoom(t *testing.T) {
	w, a := newWorld(t, func(c *radius.Config) { c.MaxInFlight = 4 }), newMoody(t, true)
	each(40, func(int) { w.want(t, radius.Accepted, a.target(5*time.Second, 1), olga) })
	each(12, func(i int) {
		time.Sleep(time.Duration(i/4) * 50 * time.Millisecond)
		timeout := 500 * time.Millisecond
		if i >= 4 {
			timeout = 100 * time.Millisecond
		}
		_, unknown := w.login(t, a.target(timeout, 0), fmt.Sprint("lost-", i), "x")
		if unknown == nil || unknown.Sent != (i < 4) {
			t.Errorf("%d: %v", i, unknown)
		}
	})
}
