package radius_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	layeh "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// sentOf returns whether an error says that the password may have been sent.
func sentOf(t *testing.T, err error) bool {
	t.Helper()
	var unknown *radius.Unknown
	if !errors.As(err, &unknown) {
		t.Fatalf("%v is no *Unknown", err)
	}
	return unknown.Sent
}

func TestChallenge(t *testing.T) {
	w := newWorld(t)
	const state = "state \x00\xff of the question"
	s := newServer(t, func(s *server, d datagram) {
		p, err := layeh.Parse(d.octets, []byte(s.secret))
		if err != nil {
			t.Error(err)
			return
		}
		_, password := d.read(t, s.secret)
		got := rfc2865.State_Get(p)
		switch {
		case got == nil && password == "Secret.123":
			s.answer(d, accessChallenge, attribute(18, "Your code?"), attribute(24, state))
		case string(got) == state && password == "123456":
			s.answer(d, accessAccept)
		case string(got) == state && password == "more":
			s.answer(d, accessChallenge, attribute(24, "second"))
		default:
			s.answer(d, accessReject)
		}
	})
	target := s.target(5*time.Second, 3)
	for _, c := range []struct {
		password, answer string
		want             radius.Result
		packets          int
	}{
		{"Secret.123", "", radius.Challenged, 1},
		{"Secret.123", "123456", radius.Accepted, 2},
		{"Secret.123", "654321", radius.Rejected, 2},
		{"Secret.123", "more", radius.Challenged, 2},
		{"wrong", "123456", radius.Rejected, 1},
	} {
		before := len(s.requests(accessRequest))
		w.want(t, c.want, target, radius.Request{User: "chaim", Password: text(c.password), Answer: text(c.answer)})
		if n := len(s.requests(accessRequest)) - before; n != c.packets {
			t.Errorf("%q and %q: %d packets instead of %d", c.password, c.answer, n, c.packets)
		}
	}
}

// Nobody knows what the second packet did, and the first has been sent in any case.
func TestChallengeThenSilence(t *testing.T) {
	w := newWorld(t)
	s := newServer(t, func(s *server, d datagram) {
		if len(s.requests(accessRequest)) == 1 {
			s.answer(d, accessChallenge, attribute(24, "state"))
			_ = s.conn.Close()
		}
	})
	_, unknown := w.ask(t, s.target(200*time.Millisecond, 1), radius.Request{User: "chaim", Password: text("x"), Answer: text("123456")})
	if unknown == nil || !unknown.Sent {
		t.Errorf("%v", unknown)
	}
}

func TestUnsent(t *testing.T) {
	w := newWorld(t)
	good := newServer(t, accept)
	noSecret := good.target(time.Second, 0)
	noSecret.Servers[0].Secret = text("")
	for name, target := range map[string]radius.Target{
		"no server":  {Timeout: time.Second},
		"no secret":  noSecret,
		"no port":    {Servers: []radius.Server{{Name: "a", Address: "127.0.0.1", Secret: text("x")}}, Timeout: time.Second},
		"no address": {Servers: []radius.Server{{Name: "b", Address: "", Secret: text("x")}}, Timeout: time.Second},
		"no time":    good.target(0, 3),
	} {
		if answer, unknown := w.login(t, target, "olga", "x"); unknown == nil || unknown.Sent {
			t.Errorf("%s: %+v, %v", name, answer, unknown)
		}
	}
	if n := len(good.requests(accessRequest)); n != 0 {
		t.Errorf("%d packets were sent", n)
	}
}

func TestRetriesOutOfRange(t *testing.T) {
	for retries, want := range map[int]int{-1: 1, math.MinInt: 1, math.MaxInt: 11, 11: 11} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			w, s := newWorld(t), newServer(t, silent)
			if _, unknown := w.login(t, s.target(220*time.Millisecond, retries), "olga", "x"); unknown == nil {
				t.Error("accepted by silence")
			}
			if n := len(s.requests(accessRequest)); n != want {
				t.Errorf("%d packets instead of %d", n, want)
			}
		})
	}
}

// Who waits is told at once when the client ends.
func TestEndOfTheClient(t *testing.T) {
	w, s := newWorld(t), newServer(t, silent)
	time.AfterFunc(100*time.Millisecond, w.stop)
	begin := time.Now()
	_, unknown := w.login(t, s.target(10*time.Second, 0), "olga", "x")
	if took := time.Since(begin); unknown == nil || !unknown.Sent || took > 2*time.Second {
		t.Errorf("after %s: %v", took, unknown)
	}
	if _, unknown = w.login(t, s.target(time.Second, 0), "olga", "x"); unknown == nil || unknown.Sent {
		t.Errorf("afterwards: %v", unknown)
	}
	if down := w.Down(); len(down) != 0 {
		t.Errorf("marked down: %q", down)
	}
}

// One secret is wrong: that says nothing of the address, and the two are never mixed up.
func TestOneAddressTwoSecrets(t *testing.T) {
	w := newWorld(t)
	s := newServer(t, func(s *server, d datagram) {
		if user, password := d.read(t, s.secret); password == "password of "+user {
			s.send(d.from, unsigned(d.octets, s.secret, accessAccept))
			s.answer(d, accessReject)
		}
	})
	strict, wrong, lax := s.target(2*time.Second, 0), s.target(50*time.Millisecond, 0), s.target(2*time.Second, 0)
	wrong.Servers[0].Secret = text("another secret")
	lax.Servers[0].AllowUnsigned = true
	each(30, func(i int) {
		for range 5 {
			r := radius.Request{User: "olga", Password: text("password of olga")}
			switch i % 3 {
			case 0: // the unsigned answer is junk
				w.want(t, radius.Rejected, strict, r)
			case 1:
				w.want(t, radius.Accepted, lax, r)
			default:
				if _, unknown := w.ask(t, wrong, r); unknown == nil {
					t.Error("an answer under the wrong secret counts")
				}
			}
		}
	})
}
