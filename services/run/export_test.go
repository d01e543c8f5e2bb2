package run

import (
	"context"
	"io"
	"net"
	"os"
	"time"
)

// StopTime is how long a command may take to end.
const StopTime = stopTime

// KeepTime is how long a readiness answer is given again.
const KeepTime = keepTime

// Supervise is supervise.
func Supervise(name string, out io.Writer, cancel context.CancelFunc, done <-chan error, signals <-chan os.Signal) int {
	return supervise(name, out, cancel, done, signals)
}

// Serve is Run on a listener of the test's.
func (o *Ops) Serve(ctx context.Context, ln net.Listener) error { return o.serve(ctx, ln) }

// Readiness is what /readyz answers.
func (o *Ops) Readiness(ctx context.Context) Readiness { return o.readiness(ctx) }

// CheckTime bounds one readiness check.
const CheckTime = checkTime

// Started is when the process began.
func (o *Ops) Started() time.Time { return o.started }
