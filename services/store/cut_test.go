package store_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// line is a way to a server that can be cut: both ends of every connection get a reset.
type line struct {
	net.Listener
	target string

	mu    sync.Mutex
	conns []*net.TCPConn // guarded by mu
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: listener, target: target}
	var serving sync.WaitGroup
	serving.Go(l.serve)
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
		l.cut()
	})
	return l
}

func (l *line) serve() {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, near.(*net.TCPConn), far.(*net.TCPConn))
		l.mu.Unlock()
		go func() { _, _ = io.Copy(near, far) }()
		go func() { _, _ = io.Copy(far, near) }()
	}
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
	l.conns = nil
}

// TestCutLine: whatever moment a connection breaks at, the error says that the store cannot be
// used just then, and not that something is wrong with what was asked.
func TestCutLine(t *testing.T) {
	u, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	way := newLine(t, u.Host)
	u.Host = way.Addr().String()
	db := items(t, func() *store.DB { return storetest.Open(t, u.String()) })
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var (
		working      sync.WaitGroup
		done         = make(chan struct{})
		mu           sync.Mutex
		errs, passed int
	)
	for who := range 8 {
		working.Go(func() {
			for id := who; ; id += 8 {
				select {
				case <-done:
					return
				default:
				}
				err := db.Write(ctx, func(ctx context.Context, tx store.Tx) error {
					var n int
					if err := tx.QueryRow(ctx, `SELECT count(*) FROM item WHERE id = $1`, id).Scan(&n); err != nil {
						return err
					}
					return insert(id)(ctx, tx)
				})
				mu.Lock()
				switch {
				case err == nil:
					passed++
				case fault.KindOf(err) == fault.Unavailable:
					errs++
				default:
					t.Errorf("the line is cut: %v, want Unavailable", err)
				}
				mu.Unlock()
			}
		})
	}
	for range 100 {
		time.Sleep(10 * time.Millisecond)
		way.cut()
	}
	close(done)
	working.Wait()
	if errs == 0 || passed == 0 {
		t.Errorf("%d writes failed and %d did not: this shows nothing", errs, passed)
	}
}
