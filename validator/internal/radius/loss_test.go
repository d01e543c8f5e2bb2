package radius_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// lossy is a server behind a bad network. It takes what has the same port, identifier and
// authenticator for a copy, and answers it from its memory; users with an even number are
// accepted. What is lost is chosen by chance that is the same in every run.
type lossy struct {
	loss  float64 // of each packet, each way
	twice bool    // every packet comes two times
	stale bool    // every answer comes behind those to others, and they are in disorder

	mu       sync.Mutex
	memory   map[string][]byte // guarded by mu; answers
	copies   map[string]int    // guarded by mu; that were sent, by user
	distinct map[string]int    // guarded by mu; requests that arrived, by user
	last     [][]byte          // guarded by mu; answers to others
}

func newLossy(l *lossy) *lossy {
	l.memory, l.copies, l.distinct = map[string][]byte{}, map[string]int{}, map[string]int{}
	return l
}

// lost tells whether the network loses a user's nth packet.
func (l *lossy) lost(user string, n int, way string) bool {
	sum := sha256.Sum256(fmt.Appendf(nil, "loss %s %d %s", user, n, way))
	return float64(binary.BigEndian.Uint32(sum[:4])) < l.loss*(1<<32)
}

// gets tells whether a user gets an answer with so many sends.
func (l *lossy) gets(user string, sends int) bool {
	for n := range sends {
		if !l.lost(user, n, "there") && !l.lost(user, n, "back") {
			return true
		}
	}
	return false
}

func (l *lossy) handle(t *testing.T) func(s *server, d datagram) {
	return func(s *server, d datagram) {
		user, password := d.read(t, s.secret)
		l.mu.Lock()
		defer l.mu.Unlock()
		n := l.copies[user]
		l.copies[user]++
		if l.lost(user, n, "there") {
			return
		}
		l.arrive(s, d, user, password, n)
		if l.twice {
			l.arrive(s, d, user, password, n)
		}
	}
}

// arrive is called with mu held.
func (l *lossy) arrive(s *server, d datagram, user, password string, n int) {
	k := fmt.Sprintf("%s %x", d.from, d.octets[:20])
	reply := l.memory[k]
	if reply == nil {
		l.distinct[user]++
		code := byte(accessReject)
		if number(user)%2 == 0 && password == "password of "+user {
			code = accessAccept
		}
		reply = signed(d.octets, s.secret, code)
		l.memory[k] = reply
	}
	if l.lost(user, n, "back") {
		return
	}
	if l.stale {
		for i := range l.last {
			s.send(d.from, l.last[len(l.last)-1-i])
		}
		l.last = append(l.last, reply)
		l.last = l.last[max(0, len(l.last)-8):]
	}
	s.send(d.from, reply)
	if l.twice {
		s.send(d.from, reply)
	}
}

// through sends n logins, some at once; it returns how many had an answer, and how many the
// network let have one.
func (l *lossy) through(t *testing.T, n, atOnce int) (got, possible int) {
	t.Helper()
	w, s := newWorld(t), newServer(t, l.handle(t))
	target := s.target(320*time.Millisecond, 3)
	var answered, next atomic.Int64
	each(atOnce, func(int) {
		for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
			user := fmt.Sprint("user-", i)
			answer, unknown := w.login(t, target, user, "password of "+user)
			switch want := radius.Result(1 - i%2); {
			case unknown != nil && !unknown.Sent:
				t.Errorf("%s: nothing was sent: %v", user, unknown)
			case unknown == nil && answer.Result != want:
				t.Errorf("%s: result %d instead of %d", user, answer.Result, want)
			case unknown == nil:
				answered.Add(1)
			}
		}
	})
	w.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 1; i <= n; i++ {
		user := fmt.Sprint("user-", i)
		if l.gets(user, 4) {
			possible++
		}
		if c := l.copies[user]; c > 4 || l.distinct[user] > 1 {
			t.Errorf("%s: %d packets, %d requests", user, c, l.distinct[user])
		}
	}
	if len(w.Down()) != 0 {
		t.Error("the server is marked down")
	}
	return int(answered.Load()), possible
}

// With four sends, 1-(1-(1-p)²)⁴ of the logins can have an answer: 99.913 % where 9 % are lost
// each way, 93.23 % at 30 %. How many do in one run is the network's chance, three standard
// deviations either way; that the client misses none of them is what is exact here.
func TestLoss(t *testing.T) {
	for loss, logins := range map[float64]int{0: 1000, 0.09: 20000, 0.30: 2000} {
		t.Run(fmt.Sprintf("%.0f%%", loss*100), func(t *testing.T) {
			got, possible := newLossy(&lossy{loss: loss}).through(t, logins, 200)
			part, due := float64(got)/float64(logins), 1-math.Pow(1-(1-loss)*(1-loss), 4)
			t.Logf("reliability: %.0f %% lost each way, 4 sends: %d of %d logins have an answer (%.3f %%; %.3f %% are expected), the network let %d have one",
				loss*100, got, logins, 100*part, 100*due, possible)
			if off := 3 * math.Sqrt(due*(1-due)/float64(logins)); math.Abs(part-due) > off {
				t.Errorf("%.3f %% is more than %.3f points off", 100*part, 100*off)
			}
			if got > possible || got < possible-2 { // one may come too late on a busy machine
				t.Errorf("%d logins have an answer, the network let %d have one", got, possible)
			}
		})
	}
}

func TestCopiesAndDisorder(t *testing.T) {
	const n = 1000
	for name, l := range map[string]*lossy{
		"all twice":          {twice: true},
		"disorder":           {stale: true},
		"all twice and loss": {twice: true, stale: true, loss: 0.09},
	} {
		t.Run(name, func(t *testing.T) {
			got, possible := newLossy(l).through(t, n, 50) // more would fill the ports
			t.Logf("reliability: %s: %d of %d logins have the right answer, %d could have, none a wrong one", name, got, n, possible)
			if got < possible-2 {
				t.Errorf("%d of %d logins have an answer, %d could have", got, n, possible)
			}
		})
	}
}
