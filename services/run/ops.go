package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/net/netutil"

	"github.com/estuary-pki/estuary/services/config"
)

const (
	// checkTime bounds one readiness check; all run at once.
	checkTime = 2 * time.Second
	// keepTime is how long a readiness answer is given again, so that whoever asks often
	// does not keep a database busy.
	keepTime = time.Second
	// maxOps is the number of connections at once.
	maxOps = 32
)

// OpsConfig is the [ops] table.
type OpsConfig struct {
	// Listen is the address of the operations listener.
	Listen string `toml:"listen" doc:"Address of the plain HTTP listener with /healthz, /readyz and /metrics, host:port. Has to be on the loopback interface unless allow_remote is true."`
	// AllowRemote permits another address than loopback.
	AllowRemote bool `toml:"allow_remote" doc:"Permits listen to be an address that other machines can reach: whoever reaches it reads metrics and the state of every part."`
}

// Check reports an address that cannot be, or that others could reach.
func (c *OpsConfig) Check(r *config.Report) {
	if wrong := checkAddress(c.Listen); wrong != "" {
		r.Add("listen", "%s", wrong)
	} else if !c.AllowRemote && !isLoopback(c.Listen) {
		r.Add("listen", "%s can be reached from other machines: take 127.0.0.1 or [::1], or set allow_remote = true", c.Listen)
	}
}

// Ops answers those who watch over the process: /healthz tells that it lives, /readyz whether
// it can do its work, /metrics how much it does.
type Ops struct {
	config  OpsConfig
	metrics *metrics.Set
	started time.Time
	checks  []check // filled before Run

	mu    sync.Mutex
	last  Readiness // guarded by mu
	asked time.Time // guarded by mu; when last was found out
}

type check struct {
	name     string
	critical bool
	run      func(ctx context.Context) error
}

// Readiness is the answer of /readyz.
type Readiness struct {
	// Status is "ready", "degraded" when a part that is not critical fails, or "unready".
	Status string `json:"status"`
	// Parts are the checks in the order of their making.
	Parts []PartState `json:"parts"`
}

// PartState is the result of one readiness check.
type PartState struct {
	// Name of the part.
	Name string `json:"name"`
	// Critical parts make the process unready when they fail.
	Critical bool `json:"critical"`
	// Error is why the part fails; empty when it does not.
	Error string `json:"error,omitempty"`
}

// The values of Readiness.Status.
const (
	statusReady    = "ready"
	statusDegraded = "degraded"
	statusUnready  = "unready"
)

// NewOps returns the operations server of a process. Its own mistakes go to slog's default
// logger.
func NewOps(c OpsConfig, set *metrics.Set) *Ops {
	return &Ops{config: c, metrics: set, started: time.Now()}
}

// Check adds a readiness check: f says why the part cannot do its work, within 2 s. Checks are
// to be added before Run; f is called by several goroutines, though never twice at a time.
func (o *Ops) Check(name string, critical bool, f func(ctx context.Context) error) {
	o.checks = append(o.checks, check{name: name, critical: critical, run: f})
}

// Run listens and answers until ctx ends, then returns nil.
func (o *Ops) Run(ctx context.Context) error {
	ln, err := Listen(ctx, "[ops] listen", o.config.Listen)
	if err != nil {
		return err
	}
	return o.serve(ctx, ln)
}

// serve answers on ln, which it closes.
func (o *Ops) serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           o.handler(),
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       4 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		// Answers are found out under the caller's context, and end with the process.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(netutil.LimitListener(ln, maxOps)) }() // ends with Close, below
	select {
	case err := <-served:
		return fmt.Errorf("serving operations on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	err := server.Close()
	if end := <-served; err == nil && !errors.Is(end, http.ErrServerClosed) {
		err = end
	}
	if err != nil {
		return fmt.Errorf("closing operations listener: %w", err)
	}
	return nil
}

func (o *Ops) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("alive\n")) // the reader has gone: nobody to tell
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		state := o.readiness(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if state.Status == statusUnready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(state) // as above
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		o.metrics.WritePrometheus(w)
		writeProcess(w, o.started)
	})
	return mux
}

// readiness runs all checks, or repeats an answer that is younger than a second. A caller who
// leaves ends the checks for nobody else: they run under their own time alone.
func (o *Ops) readiness(ctx context.Context) Readiness {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.asked.IsZero() && time.Since(o.asked) < keepTime {
		return o.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	defer cancel()
	state := Readiness{Status: statusReady, Parts: make([]PartState, len(o.checks))}
	var wait sync.WaitGroup
	for i, c := range o.checks {
		state.Parts[i] = PartState{Name: c.name, Critical: c.critical}
		wait.Go(func() {
			if err := guarded(func() error { return c.run(ctx) }); err != nil {
				state.Parts[i].Error = err.Error()
			}
		})
	}
	wait.Wait()
	for _, p := range state.Parts {
		switch {
		case p.Error == "":
		case p.Critical:
			state.Status = statusUnready
		case state.Status == statusReady:
			state.Status = statusDegraded
		}
	}
	o.last, o.asked = state, time.Now()
	return state
}

// Health asks the process whose operations listener is at addr, "host:port", whether it is
// ready; a degraded one is. The error names the parts that fail. It is the health
// sub-command of every service.
func Health(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime+time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(addr)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("asking %s for its health: %w", addr, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking %s for its health: %w", addr, errors.Unwrap(err))
	}
	defer func() { _ = response.Body.Close() }() // only read from
	var state Readiness
	if err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, 64<<10)).Decode(&state); err != nil {
		return fmt.Errorf("reading the health of %s (%s): %w", addr, response.Status, err)
	}
	if response.StatusCode == http.StatusOK {
		return nil
	}
	reason := ""
	for _, p := range state.Parts {
		if p.Critical && p.Error != "" {
			reason += "; " + p.Name + ": " + p.Error
		}
	}
	return fmt.Errorf("the process at %s is %s%s", addr, state.Status, reason)
}

// reachable returns addr with loopback in place of "every address of this machine".
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return addr
	}
	return net.JoinHostPort("localhost", port)
}
