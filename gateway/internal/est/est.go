// Package est turns HTTP requests into EST operations and their results into replies.
//
// accept's server calls it; it asks facts for what is the same for everybody and enroll for
// certificates, and writes what problem makes of an error. What can be refused without
// looking at the credential is refused first, so that a bad request never costs one
// (RFC 7030 sections 3 and 4, RFC 8951).
package est

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	"github.com/estuary-pki/estuary/gateway/internal/facts"
	"github.com/estuary-pki/estuary/gateway/internal/problem"
	"github.com/estuary-pki/estuary/services/mesh"
)

// Label is a label that is served.
type Label struct {
	// Name as in the URL.
	Name string
	// Layout of base64 in replies.
	Layout Layout
}

// Config is what a Handler is made of. Every field is required.
type Config struct {
	// Labels are all that are served.
	Labels []Label
	// DefaultLabel is one of them, for requests without a label.
	DefaultLabel string
	// Facts are the signer's.
	Facts *facts.Cache
	// Enroller makes the journey.
	Enroller *enroll.Enroller
	// Refusals delays refused credentials.
	Refusals *problem.Refusals
	// CRLs returns the DER of the newest revocation lists, or a *fault.Error.
	CRLs func(context.Context) ([][]byte, error)
	// ClientAuth is what accept does about client certificates.
	ClientAuth accept.Mode
	// Revoked tells whether a certificate is on the newest revocation list, and why.
	Revoked func(*x509.Certificate) (reason int, revoked bool)
	// Timeout is how long an answer may take, a refusal's delay aside.
	Timeout time.Duration
	// Log gets one line a request.
	Log *slog.Logger
	// Metrics counts requests and their time.
	Metrics *metrics.Set
	// Now is the clock.
	Now func() time.Time
}

// Handler answers EST requests.
type Handler struct {
	layouts      map[string]Layout // by label
	defaultLabel string
	facts        *facts.Cache
	enroller     *enroll.Enroller
	refusals     *problem.Refusals
	crls         func(context.Context) ([][]byte, error)
	clientAuth   accept.Mode
	revoked      func(*x509.Certificate) (int, bool)
	timeout      time.Duration
	log          *slog.Logger
	metrics      *metrics.Set
	now          func() time.Time
	// verifying holds an element for each request whose signature is being verified: one
	// core less than there are, and one at least.
	verifying chan struct{}
}

// New returns a Handler. The error names what is missing, or the label that cannot be served.
func New(c Config) (*Handler, error) {
	if !slices.Contains(accept.Modes, c.ClientAuth) {
		return nil, fmt.Errorf("%q is no mode of client authentication", c.ClientAuth)
	}
	if c.CRLs == nil || c.Revoked == nil || c.Facts == nil || c.Enroller == nil || c.Refusals == nil || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("serving EST needs facts, an enroller, refusals, a revocation list, a log, metrics and a clock")
	}
	if c.Timeout <= 0 {
		return nil, fmt.Errorf("serving EST needs a positive timeout, not %s", c.Timeout)
	}
	layouts := map[string]Layout{}
	for _, l := range c.Labels {
		if err := CheckLabel(l.Name); err != nil {
			return nil, fmt.Errorf("label %q: %w", l.Name, err)
		}
		if !l.Layout.Valid() {
			return nil, fmt.Errorf("label %q: %q is not a layout of base64", l.Name, l.Layout)
		}
		layouts[l.Name] = l.Layout
	}
	if _, ok := layouts[c.DefaultLabel]; !ok {
		return nil, fmt.Errorf("the default label %q is not among the labels", c.DefaultLabel)
	}
	return &Handler{
		layouts: layouts, defaultLabel: c.DefaultLabel, facts: c.Facts, enroller: c.Enroller,
		refusals: c.Refusals, crls: c.CRLs, clientAuth: c.ClientAuth, revoked: c.Revoked, timeout: c.Timeout, log: c.Log, metrics: c.Metrics, now: c.Now,
		verifying: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)),
	}, nil
}

// call is one request on its way.
type call struct {
	writer  http.ResponseWriter // for limits on the body alone
	http    *http.Request
	label   string // as routed, "" where there is no such label
	op      string // as routed, "" where there is no such operation
	renewal bool   // the operation takes a certificate alone
	layout  Layout
	offered bool // a credential went to the validator, which judged it
	// negotiate is the token that goes on with a negotiation, proof the one by which the client
	// knows the validator; nil where there is none.
	negotiate, proof []byte
}

// ServeHTTP answers one request and writes its log line.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, id := h.now(), mesh.NewRequestID()
	ctx, cancel := context.WithTimeout(mesh.WithRequestID(r.Context(), id), h.timeout)
	defer cancel()
	c := &call{writer: w, http: r}
	answer, err := h.answer(ctx, c)
	if err != nil {
		p := problem.Of(err)
		if c.offered && p.Status == http.StatusUnauthorized {
			// Under the connection's context: it ends with the client, not with the timeout.
			h.refusals.Hold(r.Context(), start)
		}
		if p.Status == http.StatusUnauthorized {
			p = &problem.Problem{Status: p.Status, Challenges: h.challenges(ctx, c)}
		}
		answer = reply{status: p.Status}
		answer.header, answer.body = p.Reply(id)
	}
	if len(c.proof) > 0 && answer.status != http.StatusUnauthorized {
		// RFC 4559 speaks of 200 alone, but requests-gssapi, told to insist on the proof, hides
		// the body of a 403 without one. A 401 stays like every other.
		answer.header[problem.Authenticate] = []string{negotiate(c.proof)}
	}
	answer.header.Set(problem.RequestIDHeader, id)
	sent := send(w, r, answer)
	h.record(ctx, c, outcome{id: id, status: answer.status, bytes: len(answer.body), took: h.now().Sub(start), err: err, sent: sent})
}

// answer routes and runs. A panic becomes an internal error: net/http would only cut the
// connection.
func (h *Handler) answer(ctx context.Context, c *call) (answer reply, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			h.log.LogAttrs(ctx, slog.LevelError, "EST handler panicked",
				slog.String("request_id", mesh.RequestID(ctx)), slog.Any("cause", cause),
				slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("handler panicked: %v", cause)
		}
	}()
	do, err := h.route(c)
	if err != nil {
		return reply{}, err
	}
	return do.run(h, ctx, c)
}

// outcome is how a request ended.
type outcome struct {
	id     string
	status int
	bytes  int
	took   time.Duration
	err    error // why it was refused
	sent   error // why the reply did not reach the client
}

// record writes the log line and counts. It holds no header's value: one could be a credential.
func (h *Handler) record(ctx context.Context, c *call, o outcome) {
	op := c.op
	if op == "" {
		op = "unknown"
	}
	h.metrics.GetOrCreateCounter(fmt.Sprintf(`estuary_gateway_requests_total{op=%q,status="%d"}`, op, o.status)).Inc()
	h.metrics.GetOrCreateHistogram(fmt.Sprintf(`estuary_gateway_request_seconds{op=%q}`, op)).Update(o.took.Seconds())
	level := slog.LevelInfo
	if o.status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	attrs := []slog.Attr{
		slog.String("request_id", o.id), slog.Int("status", o.status), slog.String("op", op),
		slog.String("label", c.label), slog.String("method", cut(c.http.Method)),
		slog.String("address", accept.Address(c.http)), slog.Duration("took", o.took), slog.Int("bytes", o.bytes),
	}
	if o.err != nil {
		attrs = append(attrs, slog.Any("err", o.err))
	}
	if o.sent != nil {
		attrs = append(attrs, slog.Any("sent", o.sent))
	}
	h.log.LogAttrs(ctx, level, "EST request", attrs...)
}

// cut bounds what a client chose: a method can be as long as a header.
func cut(s string) string { return s[:min(len(s), 16)] }
