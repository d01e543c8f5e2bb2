package radius_test

import (
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// Room comes free when there is no time for an answer any more: a one-time code that is sent
// then is lost.
func TestRoomComesTooLate(t *testing.T) {
	w := newWorld(t, func(c *radius.Config) { c.MaxInFlight = 1 })
	s := newServer(t, silent)
	var first sync.WaitGroup
	first.Go(func() { _, _ = w.login(t, s.target(200*time.Millisecond, 0), "first", "x") })
	within(t, time.Second, "the first is sent", func() bool { return len(s.requests(accessRequest)) == 1 })
	_, unknown := w.login(t, s.target(200*time.Millisecond, 0), "second", "x")
	first.Wait()
	if unknown == nil || unknown.Sent || unknown.Server != s.address() {
		t.Errorf("%+v", unknown)
	}
	if n := len(s.requests(accessRequest)); n != 1 {
		t.Errorf("%d packets were sent", n)
	}
}

// Nothing has been sent for who waits: when the server goes down meanwhile, another is asked.
func TestServerGoesDownWhileOneWaits(t *testing.T) {
	w := newWorld(t, func(c *radius.Config) { c.MaxInFlight = 1 })
	a, b := newMoody(t, false), newMoody(t, true)
	var others sync.WaitGroup
	for i, timeout := range []time.Duration{200, 600} {
		others.Go(func() { _, _ = w.ask(t, both(a, b, timeout*time.Millisecond), olga) })
		within(t, time.Second, "the first is sent", func() bool { return a.count() > 0 })
		time.Sleep(time.Duration(i) * 50 * time.Millisecond) // the second waits for room
	}
	answer, unknown := w.ask(t, both(a, b, 4*time.Second), olga)
	others.Wait()
	if unknown != nil || answer.Result != radius.Accepted || answer.Server != b.address() {
		t.Errorf("%+v, %v", answer, unknown)
	}
}
