package systest_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// loadConfig says how a load is made.
type loadConfig struct {
	// clients work at once.
	clients int
	// every is the time from one enrolment of a client to its next; 0 has it not wait.
	every time.Duration
	// avoid is how long all clients keep away from a gateway that did not answer, as a load
	// balancer does; 0 has them not care.
	avoid time.Duration
	// patient clients come again when Retry-After says; others at once.
	patient bool
}

// load is clients that enrol one applicant after another, each until it has its certificate.
type load struct {
	c      *cluster
	config loadConfig
	fresh  chan applicant
	done   chan struct{} // closed to end the load
	finish func()        // closes it
	ending sync.WaitGroup
	turn   atomic.Int64

	// requests counts enrolments sent, errors those that were to be repeated, certificates
	// those that succeeded, disturbed those who got theirs after an error or several.
	requests, errors, certificates, disturbed atomic.Int64

	mu       sync.Mutex
	shunned  map[string]time.Time // guarded by mu
	held     [][]byte             // guarded by mu
	names    []string             // guarded by mu; of those who have their certificate
	problems []error              // guarded by mu
	lost     map[string]int       // guarded by mu; errors by what they say
}

// startLoad lets clients work until stop.
func (c *cluster) startLoad(config loadConfig) *load {
	l := &load{
		c: c, config: config, fresh: make(chan applicant, 256), done: make(chan struct{}),
		shunned: map[string]time.Time{}, lost: map[string]int{},
	}
	l.finish = sync.OnceFunc(func() { close(l.done) })
	// What has begun is ended, but for a test that has failed.
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	c.t.Cleanup(func() {
		cancel()
		l.finish()
		l.ending.Wait()
	})
	for range 2 {
		l.ending.Go(func() { l.supply(ctx) })
	}
	for i := range config.clients {
		l.ending.Go(func() { l.work(ctx, config.every*time.Duration(i)/time.Duration(config.clients)) })
	}
	return l
}

// stop ends the load once every client has what it asked for. Clients that were refused, or
// were without a certificate for too long, fail the test.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.finish()
	l.ending.Wait()
	for _, err := range l.problems {
		t.Error(err)
	}
}

// supply makes applicants ahead; the admin may be without a validator for a while.
func (l *load) supply(ctx context.Context) {
	for {
		a, err := l.c.applicant(ctx, 1)
		if err != nil {
			select {
			case <-l.done:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		select {
		case <-l.done:
			return
		case l.fresh <- a:
		}
	}
}

func (l *load) work(ctx context.Context, wait time.Duration) {
	next := time.Now().Add(wait)
	for {
		select {
		case <-l.done:
			return
		case <-time.After(time.Until(next)):
		}
		next = next.Add(l.config.every)
		if late := time.Now(); next.Before(late) {
			next = late
		}
		select {
		case <-l.done:
			return
		case a := <-l.fresh:
			der, err := l.persist(ctx, a)
			l.mu.Lock()
			if err != nil {
				l.problems = append(l.problems, err)
			} else {
				l.held, l.names = append(l.held, der), append(l.names, a.name)
			}
			l.mu.Unlock()
		}
	}
}

// persist asks until there is a certificate.
func (l *load) persist(ctx context.Context, a applicant) ([]byte, error) {
	deadline := time.Now().Add(40 * time.Second)
	for tries := 1; ; tries++ {
		url := l.gateway()
		l.requests.Add(1)
		got := l.c.enrol(ctx, url, a)
		if got.err == nil && got.status == http.StatusOK {
			l.certificates.Add(1)
			if tries > 1 {
				l.disturbed.Add(1)
			}
			return got.der, nil
		}
		if !got.retriable() || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("%s, try %d: %v", a.name, tries, got)
		}
		l.fail(url, got)
		pause := 50 * time.Millisecond
		if l.config.patient && got.err == nil {
			pause = got.after
		}
		time.Sleep(pause)
	}
}

// fail counts an error that is to be repeated.
func (l *load) fail(url string, got answer) {
	l.errors.Add(1)
	what := fmt.Sprint(got.status)
	if got.err != nil {
		what = "connection"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost[what]++
	if got.err != nil && l.config.avoid > 0 {
		l.shunned[url] = time.Now().Add(l.config.avoid)
	}
}

// gateway returns the URL whose turn it is.
func (l *load) gateway() string {
	urls := l.c.est()
	l.mu.Lock()
	defer l.mu.Unlock()
	for range urls {
		url := urls[int(l.turn.Add(1))%len(urls)]
		if time.Now().After(l.shunned[url]) {
			return url
		}
	}
	clear(l.shunned) // nobody is left: everybody gets another chance
	return urls[0]
}

// progress waits until so many more certificates have been issued.
func (l *load) progress(t *testing.T, more int64, limit time.Duration) {
	t.Helper()
	want := l.certificates.Load() + more
	within(t, limit, func() string { return fmt.Sprintf("%d certificates are missing", want-l.certificates.Load()) },
		func() bool { return l.certificates.Load() >= want })
}

// check demands of the ledger that every client has one certificate for its token.
func (l *load) check(t *testing.T, v *ledgerView) {
	t.Helper()
	v.judge(t, l.held)
	rows := map[string]int{}
	for _, r := range v.rows {
		if r.state != stateFailed {
			rows[r.principal]++
		}
	}
	for _, name := range l.names {
		if rows[name] != 1 {
			t.Errorf("%s has a certificate and %d rows in the ledger", name, rows[name])
		}
	}
	if len(rows) != len(l.names) && len(l.problems) == 0 {
		t.Errorf("%d applicants have rows, %d have a certificate", len(rows), len(l.names))
	}
}
