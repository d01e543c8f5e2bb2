package systest_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReliabilityOneTokenManyRequests: of 64 requests at once for 64 keys with one token,
// through every gateway, as many get a certificate as the token has uses, and the others
// 401. Every second token has three uses.
func TestReliabilityOneTokenManyRequests(t *testing.T) {
	t.Parallel()
	for name, sh := range map[string]shape{
		"postgres": {gateways: 2, validators: 3, signers: 2, postgres: true},
		"sqlite":   {gateways: 1, validators: 1, signers: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, sh)
			var rounds, good atomic.Int64
			var mu sync.Mutex
			var held [][]byte // guarded by mu
			inLanes(2, full(200), func(i int) {
				uses := 1 + i%2*2
				got, err := c.crowd(t.Context(), 64, uses)
				if err != nil {
					t.Errorf("round %d: %v", i, err)
					return
				}
				rounds.Add(1)
				good.Add(int64(len(got)))
				mu.Lock()
				defer mu.Unlock()
				held = append(held, got...)
			})
			v := c.look()
			v.judge(t, held)
			if n := v.count(stateIssued); n != len(held) || n != len(v.rows) {
				t.Errorf("%d rows, %d of them issued, for %d certificates", len(v.rows), n, len(held))
			}
			tell(t, "%d rounds of 64 requests with one token of one or three uses: %d certificates for %d uses, %d more than there are uses",
				rounds.Load(), len(v.rows), good.Load(), int64(v.count(stateIssued))-good.Load())
		})
	}
}

// crowd lets so many applicants with one token ask at once and returns the certificates; an
// error says that they are not as many as the token has uses, or that the others did not
// get 401. Who is told to come again, does.
func (c *cluster) crowd(ctx context.Context, size, uses int) (certificates [][]byte, err error) {
	a, err := c.applicant(ctx, uses)
	if err != nil {
		return nil, err
	}
	all := make([]applicant, size)
	for i := range all {
		if all[i], err = a.withKey(); err != nil {
			return nil, err
		}
	}
	urls, answers := c.est(), make([]answer, size)
	var asking sync.WaitGroup
	for i, a := range all {
		asking.Go(func() {
			for range 40 {
				if answers[i] = c.enrol(ctx, urls[i%len(urls)], a); !answers[i].retriable() {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	asking.Wait()
	for _, got := range answers {
		switch {
		case got.status == http.StatusOK && got.err == nil:
			certificates = append(certificates, got.der)
		case got.status != http.StatusUnauthorized:
			return nil, fmt.Errorf("%s: %v", a.name, got)
		}
	}
	if len(certificates) != uses {
		return nil, fmt.Errorf("%s has %d uses and got %d certificates", a.name, uses, len(certificates))
	}
	v, err := readLedger(ctx, c.ledger)
	if err != nil {
		return nil, err
	}
	if rows := v.of(a.name); len(rows) != uses {
		return nil, fmt.Errorf("%s has %d uses and %d rows", a.name, uses, len(rows))
	}
	return certificates, nil
}

// inLanes calls f with every number below count, a few at once.
func inLanes(lanes, count int, f func(i int)) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range lanes {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	running.Wait()
}

// same tells whether all certificates are the same one.
func same(all ...[]byte) bool {
	for _, der := range all {
		if !bytes.Equal(der, all[0]) {
			return false
		}
	}
	return true
}
