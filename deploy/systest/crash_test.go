package systest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/failpoint"
)

// recovery is how long after it is ready again a signer may take to finish what the process
// before it had begun.
const recovery = 2 * time.Second

// random is a kill at any moment instead of at a point.
const random failpoint.Point = ""

// TestReliabilityCrashes: with 8 clients working, a process is killed at each of its points
// and at random moments, and started again. No certificate is without its row, none is
// there twice, clients get what they asked for, and the signer finishes what it had begun.
func TestReliabilityCrashes(t *testing.T) {
	c := planCluster(t, shape{gateways: 1, validators: 1, signers: 1, crashing: true})
	k := &killer{c: c, notes: filepath.Join(t.TempDir(), "notes")}
	l := c.startLoad(loadConfig{clients: 8})
	for _, n := range c.nodes {
		n.env = append(n.env, "ESTUARY_FAILPOINT_LOG="+k.notes)
	}
	c.start()
	for _, victim := range []struct {
		node   *node
		points []failpoint.Point
	}{
		{c.node("signer-1"), []failpoint.Point{
			failpoint.SignerIntent, failpoint.SignerSigned, failpoint.SignerIssued, failpoint.SignerReply, random,
		}},
		{c.node("validator-1"), []failpoint.Point{
			failpoint.ValidatorAnswered, failpoint.ValidatorAccepted, failpoint.ValidatorReply, random,
		}},
		{c.node("gateway-1"), []failpoint.Point{failpoint.GatewayReply}},
	} {
		k.kill(t, victim.node, victim.points, full(300)*len(victim.points)/10)
	}
	l.progress(t, 8, 20*time.Second)
	l.stop(t)
	v := c.look()
	l.check(t, v)
	signed := k.signatures(t, v)
	for point, times := range k.open {
		if point == failpoint.SignerSigned && times == 0 {
			t.Error("no intent was open after the kills between signature and record")
		}
	}
	if n := v.count(stateIntent); n > 0 {
		t.Errorf("%d intents are still open", n)
	}
	tell(t, "%d kills under load of 8 clients, %d requests, %d of them repeated: %d signatures, %d without a row; %d certificates, %d more than tokens; %d intents were open, all finished at most %v after the signer was ready",
		k.kills, l.requests.Load(), l.errors.Load(), signed, k.unrecorded, v.count(stateIssued), v.count(stateIssued)-len(l.names), k.found, k.slowest.Round(time.Millisecond))
}

// killer kills processes and looks at what they left.
type killer struct {
	c          *cluster
	notes      string
	kills      int
	found      int // open intents that killed processes left
	open       map[failpoint.Point]int
	slowest    time.Duration
	unrecorded int
}

// kill has a process die so often, at the points in turn.
func (k *killer) kill(t *testing.T, n *node, points []failpoint.Point, times int) {
	t.Helper()
	if k.open == nil {
		k.open = map[failpoint.Point]int{}
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range times {
		point := points[i%len(points)]
		var env []string
		if point != random {
			env = []string{fmt.Sprintf("ESTUARY_FAILPOINTS=%s=kill@%d", point, 1+rand.IntN(10))}
		}
		n.start(t, env...)
		k.afterwards(t, n, point)
		if point == random {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			n.signal(t, syscall.SIGKILL)
		}
		n.awaitEnd(t)
		k.kills++
		if n.service == "signer" {
			left := k.c.look().count(stateIntent)
			k.found += left
			k.open[point] += left
		}
	}
	n.start(t)
	n.awaitReady(t)
	k.afterwards(t, n, random)
}

// afterwards waits until nothing that was begun before this moment is open, and demands
// that it does not take too long from when the process is ready. A process that has a point
// to die at may do so before: then the next one is asked.
func (k *killer) afterwards(t *testing.T, n *node, point failpoint.Point) {
	t.Helper()
	before := time.Now().UnixMicro()
	var ready time.Time
	for {
		switch {
		case n.hasEnded() && point != random:
			return
		case n.hasEnded():
			t.Fatalf("%s has ended: %v\n%s", n.name, n.err, n.said())
		case ready.IsZero():
			if ok, _ := n.ready(); !ok {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			ready = time.Now()
		}
		left := 0
		for _, r := range k.c.look().rows {
			if r.state == stateIntent && r.created < before {
				left++
			}
		}
		took := time.Since(ready)
		if left == 0 {
			k.slowest = max(k.slowest, took)
			return
		}
		if took > recovery {
			t.Fatalf("%v after %s was ready, %d intents that were begun before are open\n%s", took, n.name, left, n.said())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// hasEnded tells whether the process has ended.
func (n *node) hasEnded() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

var note = regexp.MustCompile(`^signer\.signed ([0-9a-f]{40})$`)

// signatures reads what signers noted when they had used the key: every serial needs a row.
func (k *killer) signatures(t *testing.T, v *ledgerView) (count int) {
	t.Helper()
	text, err := os.ReadFile(k.notes)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		m := note.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Errorf("the notes say %q", line)
			continue
		}
		count++
		if _, ok := v.serials[m[1]]; !ok {
			t.Errorf("serial %s was signed and has no row", m[1])
			k.unrecorded++
		}
	}
	if n := v.count(stateIssued); count < n {
		t.Errorf("%d signatures were noted for %d certificates", count, n)
	}
	return count
}

// TestReliabilityStoppedSigner: of two signers on one ledger, one is stopped between
// signature and record. Once its lease is over the other one serves the request; what the
// first had signed is thrown away when it goes on.
func TestReliabilityStoppedSigner(t *testing.T) {
	t.Parallel()
	c := planCluster(t, shape{gateways: 2, validators: 1, signers: 2, postgres: true, crashing: true})
	notes := filepath.Join(t.TempDir(), "notes")
	stopping := c.node("signer-1")
	stopping.env = append(stopping.env, "ESTUARY_FAILPOINT_LOG="+notes)
	for i, signer := range c.addresses("signer") {
		c.rewrite(c.node(fmt.Sprintf("gateway-%d", i+1)), func(text string) string {
			text = retarget(text, "signer", signer) + "\n[limits]\nrequest_timeout = \"40s\"\n"
			return strings.Replace(text, "[signer]\n", "[signer]\ntimeout = \"30s\"\n", 1)
		})
	}
	var held [][]byte
	var waited time.Duration
	told, rounds := 0, full(20)
	for i := range rounds {
		if i > 0 {
			if err := stopping.stop(); err != nil {
				t.Fatal(err)
			}
		}
		stopping.start(t, "ESTUARY_FAILPOINTS="+string(failpoint.SignerSigned)+"=stop")
		c.start()
		r := stopSigner(t, c, stopping)
		if r.first.status == http.StatusOK && r.first.err == nil {
			told++
			held = append(held, r.first.der)
		}
		held, waited = append(held, r.der), max(waited, r.waited)
	}
	v := c.look()
	v.judge(t, held)
	k := killer{c: c, notes: notes}
	text, err := os.ReadFile(notes)
	if err != nil || strings.Count(string(text), "\n") < rounds {
		t.Errorf("the stopped signer noted %q, error %v", text, err)
	}
	for line := range strings.Lines(string(text)) {
		if m := note.FindStringSubmatch(strings.TrimSpace(line)); m == nil || v.serials[m[1]].serial == "" {
			t.Errorf("%q has no row", line)
			k.unrecorded++
		}
	}
	tell(t, "%d times a signer stopped between signature and record: %d certificates for as many tokens, %d signatures without a row, the other signer served the repeat after at most %v; %d of the first requests were answered once it went on, with the same certificate",
		rounds, v.count(stateIssued), k.unrecorded, waited.Round(100*time.Millisecond), told)
}

// stopped is what came of a request whose signer was stopped.
type stopped struct {
	first  answer // what the client that had asked first got
	der    []byte // what it got from the other signer
	waited time.Duration
}

func stopSigner(t *testing.T, c *cluster, n *node) stopped {
	t.Helper()
	a := c.applicants(1)[0]
	urls := c.est()
	var r stopped
	var asking sync.WaitGroup
	// It ends with its answer, at the latest with the gateway's time-out.
	asking.Go(func() { r.first = c.enrol(context.WithoutCancel(t.Context()), urls[0], a) })
	n.awaitStop(t)
	start := time.Now()
	var err error
	if r.der, _, err = c.persist(t.Context(), a, urls[1]); err != nil {
		t.Error(err)
	}
	r.waited = time.Since(start)
	n.signal(t, syscall.SIGCONT)
	asking.Wait()
	switch {
	case r.first.retriable():
	case r.first.status != http.StatusOK:
		t.Errorf("the first request: %v", r.first)
	case !same(r.first.der, r.der):
		t.Errorf("%s has two certificates", a.name)
	}
	rows := c.look().of(a.name)
	if len(rows) != 1 || rows[0].state != stateIssued || !same(rows[0].certificate, r.der) {
		t.Errorf("%s has %d rows, or another certificate than the ledger", a.name, len(rows))
	}
	other, err := a.withKey()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.enrol(t.Context(), urls[1], other); got.status != http.StatusUnauthorized {
		t.Errorf("another key with the token: %v", got)
	}
	return r
}
