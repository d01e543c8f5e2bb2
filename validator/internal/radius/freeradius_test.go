package radius_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

// lab is the FreeRADIUS that deploy/lab/freeradius starts: it says what there is.
type lab map[string]string

func freeRADIUS(t *testing.T) lab {
	t.Helper()
	path := os.Getenv("ESTUARY_TEST_FREERADIUS")
	if path == "" {
		t.Fatal("ESTUARY_TEST_FREERADIUS is not set: scripts/lab up starts the server, $ESTUARY_LAB/env sets it")
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l := lab{}
	for line := range strings.Lines(string(file)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		l[k] = strings.Trim(v, "'")
	}
	return l
}

// target is one server with FreeIPA's number of retries.
func (l lab) target(address, secret string) radius.Target {
	return radius.Target{Timeout: 6 * time.Second, Retries: 3, Servers: []radius.Server{
		{Name: "freeradius", Address: l[address], Secret: text(l[secret])},
	}}
}

func (l lab) radsec(t *testing.T) radius.Target {
	t.Helper()
	pem, err := os.ReadFile(l["CA"])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(l["CERT"], l["KEY"])
	if err != nil {
		t.Fatal(err)
	}
	target := l.target("RADSEC", "SECRET")
	target.Timeout = 15 * time.Second
	target.Servers[0].TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}
	return target
}

// worked returns how many requests of a user the server has worked on, from ports.
func (l lab) worked(t *testing.T, ports []int, user string) int {
	t.Helper()
	file, err := os.ReadFile(l["LOG"])
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range ports {
		n += strings.Count(string(file), fmt.Sprintf(" %d signed %s\n", p, user))
	}
	return n
}

// code is six digits that have not been used before.
func code(t *testing.T) string {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%06d", n)
}

func TestFreeRADIUS(t *testing.T) {
	l, w := freeRADIUS(t), newWorld(t)
	target := l.target("AUTH", "SECRET")
	once := radius.Request{User: "once1", Password: text(l["PASSWORD"] + code(t))}
	w.want(t, radius.Accepted, target, once)
	cases := []struct {
		r    radius.Request
		want radius.Result
	}{
		{once, radius.Rejected},
		{radius.Request{User: "olga", Password: text(l["PASSWORD"])}, radius.Accepted},
		{radius.Request{User: "olga", Password: text(l["PASSWORD"] + "123456")}, radius.Accepted},
		{radius.Request{User: "olga", Password: text("wrong")}, radius.Rejected},
		{radius.Request{User: "nobody", Password: text("wrong")}, radius.Rejected},
		{radius.Request{User: "chaim", Password: text(l["PASSWORD"])}, radius.Challenged},
		{radius.Request{User: "chaim", Password: text(l["PASSWORD"]), Answer: text("123456")}, radius.Accepted},
		{radius.Request{User: "chaim", Password: text(l["PASSWORD"]), Answer: text("none")}, radius.Rejected},
	}
	each(len(cases), func(i int) { w.want(t, cases[i].want, target, cases[i].r) })
	begin := time.Now()
	w.want(t, radius.Rejected, target, radius.Request{User: "otto", Password: text("wrong")})
	if took := time.Since(begin); took < 900*time.Millisecond || took > 2*time.Second {
		t.Errorf("a rejection took %s", took)
	}
	wrong := target
	wrong.Servers = []radius.Server{{Name: "wrong", Address: l["AUTH"], Secret: text("another secret")}}
	wrong.Timeout = 200 * time.Millisecond
	if answer, unknown := w.ask(t, wrong, olga); unknown == nil || !unknown.Sent {
		t.Errorf("under a wrong secret: %+v", answer)
	}
	if n := w.metric(t, "estuary_validator_radius_junk_total"); n != 0 {
		t.Errorf("%d answers were junk", n)
	}
}

func TestFreeRADIUSWithoutSignatures(t *testing.T) {
	l, w := freeRADIUS(t), newWorld(t)
	target := l.target("LEGACY", "LEGACY_SECRET")
	r := radius.Request{User: "olga", Password: text(l["PASSWORD"])}
	target.Timeout = time.Second
	if answer, unknown := w.ask(t, target, r); unknown == nil || !unknown.Sent {
		t.Errorf("%+v", answer)
	}
	target.Servers[0].AllowUnsigned = true
	for range 3 {
		w.want(t, radius.Accepted, target, r)
	}
	if w.metric(t, "estuary_validator_radius_unsigned_total") != 3 || w.log.count("answers without Message-Authenticator") != 1 {
		t.Error("the missing signatures are not told of")
	}
}

// The server sees the relay's address, and has a secret for it that is not ASCII.
func TestFreeRADIUSBeyondASCII(t *testing.T) {
	l, w := freeRADIUS(t), newWorld(t)
	target := l.target("AUTH", "UMLAUT_SECRET")
	target.Servers[0].Address = newRelay(t, l["AUTH"], "127.0.0.2", 0).address()
	w.want(t, radius.Accepted, target, radius.Request{User: "jürgen", Password: text(l["UMLAUT_PASSWORD"])})
	w.want(t, radius.Rejected, target, radius.Request{User: "jürgen", Password: text("Geheim-U.123")})
}

// Lost answers cost more packets, and the code counts: the server answers copies from its
// memory.
func TestFreeRADIUSAnswersAreLost(t *testing.T) {
	l, w := freeRADIUS(t), newWorld(t)
	const n = 40
	r := newRelay(t, l["AUTH"], "127.0.0.1", 2)
	target := l.target("AUTH", "SECRET")
	target.Servers[0].Address = r.address()
	target.Timeout = 2 * time.Second
	used := map[string]bool{}
	for len(used) < n {
		used[code(t)] = true
	}
	codes := slices.Collect(maps.Keys(used))
	each(n, func(i int) {
		w.want(t, radius.Accepted, target, radius.Request{User: "once2", Password: text(l["PASSWORD"] + codes[i])})
	})
	worked := l.worked(t, r.ports(), "once2")
	all, different := r.answers()
	t.Logf("reliability: FreeRADIUS, two of three answers lost: %d one-time codes accepted with %d answers, the server worked on %d requests", n, all, worked)
	if worked != n || all != 3*n || different != n {
		t.Errorf("the server worked on %d requests and sent %d answers, %d different", worked, all, different)
	}
}

func TestFreeRADIUSOverTLS(t *testing.T) {
	l, w := freeRADIUS(t), newWorld(t)
	target := l.radsec(t)
	// Rejections are held back for a second: 256 are in flight at once.
	each(256, func(i int) {
		user := fmt.Sprint("load", 1+i%40)
		if i%2 == 0 {
			w.want(t, radius.Accepted, target, radius.Request{User: user, Password: text(l["PASSWORD"])})
		}
		w.want(t, radius.Rejected, target, radius.Request{User: user, Password: text("wrong")})
		w.want(t, radius.Result(1-i%2), target, radius.Request{User: user, Password: text(l["PASSWORD"] + strings.Repeat("x", i%2))})
	})
	if n := w.Sockets(); n != 1 {
		t.Errorf("%d connections", n)
	}
	w.want(t, radius.Accepted, target, radius.Request{User: "chaim", Password: text(l["PASSWORD"]), Answer: text("123456")})

	const n = 6000
	var next atomic.Int64
	begin := time.Now()
	each(256, func(int) {
		for i := next.Add(1); i <= n; i = next.Add(1) {
			w.want(t, radius.Accepted, target, radius.Request{User: fmt.Sprint("load", 1+i%40), Password: text(l["PASSWORD"] + code(t))})
		}
	})
	took := time.Since(begin)
	t.Logf("reliability: FreeRADIUS over TLS, one connection, 256 in flight: %d logins in %s, %.0f a second, none mixed up",
		n, took.Round(time.Millisecond), n/took.Seconds())
	if junk := w.metric(t, "estuary_validator_radius_junk_total"); junk != 0 || w.Sockets() != 1 {
		t.Errorf("%d answers were junk, %d connections", junk, w.Sockets())
	}
}
