package mesh

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// guard cuts the connection of a peer that opens calls only to cancel them. It listens to
// gRPC's statistics because such a call ends before the interceptors see it.
type guard struct {
	log *slog.Logger
	cut *metrics.Counter
	now func() time.Time
}

// HandleRPC implements stats.Handler.
func (g *guard) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	if !ok || status.Code(end.Error) != codes.Canceled {
		return
	}
	l := linkOf(ctx)
	if l == nil || !l.resets.over(g.now(), maxResets) {
		return
	}
	g.cut.Inc()
	g.log.LogAttrs(ctx, slog.LevelWarn, "mesh connection cut: too many cancelled calls",
		slog.String("peer", l.name), slog.String("address", addressOf(ctx)))
	_ = l.conn.Close() // it is of no use either way
}

// TagRPC implements stats.Handler.
func (*guard) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (*guard) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*guard) HandleConn(context.Context, stats.ConnStats) {}

// window counts events within a second.
type window struct {
	mu    sync.Mutex
	start time.Time // guarded by mu
	count int       // guarded by mu
}

// over counts one event and tells, once a window, that there were more than limit.
func (w *window) over(now time.Time, limit int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.start) >= time.Second {
		w.start, w.count = now, 0
	}
	w.count++
	return w.count == limit+1
}
