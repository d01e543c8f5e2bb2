package systest_test

import (
	"fmt"
	"testing"
	"time"
)

// TestReliabilityReplicasKilled: two gateways, two validators and two signers at half of
// what they can do; each process in turn is killed and comes back two seconds later. At
// most one enrolment in a hundred sees an error, every one of them is served when the client
// asks again, and no token buys two certificates.
//
// Clients do as a load balancer in front of the gateways does: a gateway that does not
// answer gets nothing for three seconds.
func TestReliabilityReplicasKilled(t *testing.T) {
	c := newCluster(t, shape{gateways: 2, validators: 2, signers: 2, postgres: true})
	const clients, down = 8, 2 * time.Second

	// What the machine can do, with the same clients.
	l := c.startLoad(loadConfig{clients: clients})
	l.progress(t, clients, 20*time.Second)
	before, start := l.certificates.Load(), time.Now()
	time.Sleep(time.Second)
	rate := float64(l.certificates.Load()-before) / time.Since(start).Seconds()
	l.stop(t)
	if n := l.errors.Load(); n > 0 {
		t.Errorf("%d requests failed before anything was killed", n)
	}
	held, names := l.held, l.names

	l = c.startLoad(loadConfig{
		clients: clients, every: time.Duration(float64(time.Second) * clients / (rate / 2)), avoid: 3 * time.Second, patient: true,
	})
	start = time.Now()
	var by []string
	for range full(10) {
		for _, n := range c.nodes {
			if n.service == "admin" {
				continue
			}
			l.progress(t, clients, 20*time.Second)
			failed := l.errors.Load()
			n.kill(t)
			time.Sleep(down)
			n.start(t)
			n.awaitReady(t)
			l.progress(t, int64(rate/2), 20*time.Second) // about a second with everybody there
			by = append(by, fmt.Sprintf("%s %d", n.name, l.errors.Load()-failed))
		}
	}
	kills, took := len(by), time.Since(start)
	l.stop(t)
	issued := len(l.held)
	share := 100 * float64(l.disturbed.Load()) / float64(issued)
	// A short run has too few enrolments for a percentage: one for each client, then.
	if share > 1 && (*soak || l.disturbed.Load() > clients) {
		t.Errorf("%.2f %% of the enrolments saw an error: %v, by what was killed: %v", share, l.lost, by)
	}
	l.held, l.names = append(l.held, held...), append(l.names, names...)
	v := c.look()
	l.check(t, v)
	tell(t, "%d kills of six processes, 2 s each, at %.0f enrolments/s of %.0f: %d enrolments, %d of them saw an error (%.2f %%), %d errors in all, every one served when repeated; %d certificates for %d tokens",
		kills, float64(issued)/took.Seconds(), rate, issued, l.disturbed.Load(), share, l.errors.Load(), issued, len(l.names)-len(names))
	t.Logf("errors %v, by what was killed: %v", l.lost, by)
}
