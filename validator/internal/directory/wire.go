package directory

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// maxAnswer is the most octets that one exchange may bring in: for a single element (the
// library's own bound) as for all of them. The largest honest answer, a host with thousands
// of managed hosts, has a few hundred KiB.
const maxAnswer = 4 << 20

var errTooMuch = errors.New("the answer has more than 4 MiB")

// wire is a network connection under TLS and LDAP. Whatever the library waits for, it waits in
// Read or Write of a wire, and both end with the exchange's context.
type wire struct {
	net.Conn
	left  atomic.Int64 // octets that the current exchange may still read
	wrote atomic.Bool  // something may have been sent since somebody set it back
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	w.left.Store(maxAnswer)
	return w
}

// Read reads what the exchange may still have.
func (w *wire) Read(p []byte) (int, error) {
	left := w.left.Load()
	if left <= 0 {
		return 0, errTooMuch
	}
	n, err := w.Conn.Read(p[:min(int64(len(p)), left)])
	w.left.Add(-int64(n))
	return n, err
}

// Write writes and remembers that it has.
func (w *wire) Write(p []byte) (int, error) {
	w.wrote.Store(true)
	return w.Conn.Write(p)
}

// begin starts an exchange: reads and writes end with ctx, also those that already wait. The
// function that it returns ends the exchange and tells whether the connection is still open.
func (w *wire) begin(ctx context.Context) (end func() bool) {
	w.left.Store(maxAnswer)
	deadline, _ := ctx.Deadline()
	_ = w.SetDeadline(deadline) // an error means that it is closed: reading says so
	// An ended context needs no deadline: it closes. The deadline is for the time in which
	// nobody runs the function.
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	return func() bool {
		if !stop() {
			return false
		}
		return w.SetDeadline(time.Time{}) == nil
	}
}
