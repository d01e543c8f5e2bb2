package systest_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReliabilityTicketReplayed: one header that somebody captured is sent a thousand times at
// once through three gateways to three validators, each time with another key: one gets a
// certificate. With one key all get the same. Altered, dated into the future, and after a
// restart of everybody, nobody gets anything.
func TestReliabilityTicketReplayed(t *testing.T) {
	t.Parallel()
	kdc := lab(t, "kdc")
	c := planCluster(t, shape{gateways: 3, validators: 3, signers: 2, postgres: true})
	c.useTickets(labTickets(t, kdc, t.TempDir()))
	c.start()
	alice := ticketOf(t, kdc, "alice", kdc["PASSWORD"])
	times := full(1000)

	header := alice.mustHeader(t, time.Now())
	good, serials := c.replay(t, header, times, false)
	if good != 1 {
		t.Errorf("%d of %d with other keys got a certificate", good, times)
	}
	other := alice.mustHeader(t, time.Now())
	again, same := c.replay(t, other, times, true)
	if again != times || len(same) != 1 {
		t.Errorf("%d of %d with one key got %d certificates", again, times, len(same))
	}
	// A moment in the future, for which nobody is to wait.
	future := alice.mustHeader(t, time.Now().Add(2*time.Minute+3*time.Second))
	if n, _ := c.replay(t, future, 3, false); n != 0 {
		t.Errorf("%d from the future got a certificate", n)
	}
	bad := c.spoiled(t, header, full(500))
	time.Sleep(4 * time.Second)
	for _, n := range c.nodes {
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
	c.start()
	for name, captured := range map[string]string{"accepted": header, "accepted with one key": other, "from the future, which has come": future} {
		if n, _ := c.replay(t, captured, full(100), false); n != 0 {
			t.Errorf("%d of those %s got a certificate after a restart", n, name)
		}
	}
	v := c.look()
	if n := v.count(stateIssued); n != 2 {
		t.Errorf("%d certificates in the ledger", n)
	}
	tell(t, "one header %d times at once with as many keys: %d certificate; with one key: %d answers, %d serial; %d altered, dated into the future, after a restart: %d",
		times, len(serials), again, len(same), full(500), bad)
}

func (k ticket) mustHeader(t testing.TB, at time.Time) string {
	t.Helper()
	header, err := k.header(at)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// replay sends a header so many times at once, with one key or many, through every gateway.
func (c *cluster) replay(t *testing.T, header string, times int, oneKey bool) (good int, certificates map[string]bool) {
	t.Helper()
	shared, err := applicant{name: "alice"}.withKey()
	if err != nil {
		t.Fatal(err)
	}
	urls, certificates := c.est(), map[string]bool{}
	var mu sync.Mutex // guards what is returned
	inLanes(64, times, func(i int) {
		a := shared
		if !oneKey {
			if a, err = a.withKey(); err != nil {
				t.Error(err)
				return
			}
		}
		got := c.enrolByTicket(context.WithoutCancel(t.Context()), urls[i%len(urls)], header, a)
		for tries := 0; got.status == http.StatusServiceUnavailable && tries < 10; tries++ {
			time.Sleep(200 * time.Millisecond) // the same request is being worked on
			got = c.enrolByTicket(context.WithoutCancel(t.Context()), urls[i%len(urls)], header, a)
		}
		mu.Lock()
		defer mu.Unlock()
		switch got.status {
		case http.StatusOK:
			good++
			certificates[string(got.der)] = true
		case http.StatusUnauthorized:
		default:
			t.Errorf("%v", got)
		}
	})
	return good, certificates
}

// spoiled sends a header with one bit changed, each time another, and returns how many got a
// certificate.
func (c *cluster) spoiled(t *testing.T, header string, times int) int {
	t.Helper()
	token, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Negotiate "))
	if err != nil {
		t.Fatal(err)
	}
	var good atomic.Int64
	inLanes(16, times, func(i int) {
		altered := slices.Clone(token)
		bit := i * 8 * len(token) / times
		altered[bit/8] ^= 1 << (bit % 8)
		a, err := applicant{name: "alice"}.withKey()
		if err != nil {
			t.Error(err)
			return
		}
		text := "Negotiate " + base64.StdEncoding.EncodeToString(altered)
		if got := c.enrolByTicket(context.WithoutCancel(t.Context()), c.est()[0], text, a); got.status == http.StatusOK {
			good.Add(1)
			t.Errorf("bit %d changed: a certificate", bit)
		}
	})
	return int(good.Load())
}

// TestReliabilityKeytabRotation rotates the service's key every two seconds under load, with damaged files in
// between: no request fails, and nobody's output holds a key.
func TestReliabilityKeytabRotation(t *testing.T) {
	t.Parallel()
	kdc := besideKDC(t)
	c := planCluster(t, shape{gateways: 1, validators: 1, signers: 1})
	s := labTickets(t, kdc, t.TempDir())
	c.useTickets(s)
	c.start()
	rotations := full(30)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	var good atomic.Int64
	var loading sync.WaitGroup
	for lane := range 3 {
		loading.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				good.Add(int64(c.useTicket(t, kdc, lane, 20)))
			}
		})
	}
	secrets := rotate(t, kdc, s.keytab, rotations)
	cancel()
	loading.Wait()
	c.keepsSecret(t, secrets)
	tell(t, "%d new versions of the key, %d enrolments meanwhile, none failed", rotations, good.Load())
	if good.Load() < int64(20*rotations/10) {
		t.Errorf("%d enrolments are no load", good.Load())
	}
}

// useTicket gets a ticket of now, which may be under the newest key, and enrols by it so many
// times. It returns how often that went well, and ends with the first that does not.
func (c *cluster) useTicket(t *testing.T, kdc map[string]string, lane, times int) (good int) {
	k, err := newTicket(t, kdc, "alice", kdc["PASSWORD"])
	if err != nil {
		t.Errorf("lane %d: %v", lane, err)
		return 0
	}
	for range times {
		a, err := applicant{name: "alice"}.withKey()
		header, failed := k.header(time.Now())
		if err := errors.Join(err, failed); err != nil {
			t.Error(err)
			return good
		}
		if got := c.enrolByTicket(context.WithoutCancel(t.Context()), c.est()[0], header, a); got.status != http.StatusOK {
			t.Errorf("lane %d: %v", lane, got)
			return good
		}
		good++
	}
	return good
}

// TestTicketRepeats: whoever asks again with the same key gets the same certificate, by the
// same header or by a new one, from SQLite and through another signer.
func TestTicketRepeats(t *testing.T) {
	t.Parallel()
	kdc := lab(t, "kdc")
	c := planCluster(t, shape{gateways: 2, validators: 2, signers: 2, postgres: true})
	c.useTickets(labTickets(t, kdc, t.TempDir()))
	c.start()
	bob := ticketOf(t, kdc, "bob", kdc["PASSWORD"])
	a, err := applicant{name: "bob"}.withKey()
	if err != nil {
		t.Fatal(err)
	}
	var first answer
	old := bob.mustHeader(t, time.Now())
	for i := range 12 {
		header := old
		if i%2 == 1 {
			header = bob.mustHeader(t, time.Now())
		}
		got := c.enrolByTicket(t.Context(), c.est()[i%2], header, a)
		if i == 0 {
			first = got
		}
		if got.status != http.StatusOK || !slices.Equal(got.der, first.der) {
			t.Errorf("attempt %d: %v", i, got)
		}
	}
	if n := c.look().count(stateIssued); n != 1 {
		t.Errorf("%d certificates in the ledger", n)
	}
	// The ticket itself is good for more: with another key it gets another certificate.
	if a, err = a.withKey(); err != nil {
		t.Fatal(err)
	}
	if got := c.enrolByTicket(t.Context(), c.est()[0], bob.mustHeader(t, time.Now()), a); got.status != http.StatusOK || slices.Equal(got.der, first.der) {
		t.Errorf("another key: %v", got)
	}
}
