package mesh_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

// tokens is a service whose calls run list.
type tokens struct {
	validatorv1.UnimplementedTokenAdminServer
	list func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error)
}

func (s tokens) ListTokens(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
	return s.list(ctx, r)
}

const tokenAdmin = "estuary.validator.v1.TokenAdmin"

type listFunc = func(context.Context, *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error)

func answer(context.Context, *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
	return &validatorv1.ListTokensResponse{NextPageToken: "answered"}, nil
}

// serve runs a validator whose ListTokens is f, which only the admin may call.
func serve(t *testing.T, ca *meshtest.CA, f listFunc, change ...func(*meshtest.ServeConfig)) *meshtest.Server {
	t.Helper()
	c := meshtest.ServeConfig{
		Name:     meshtest.Validator,
		Allow:    map[string][]string{tokenAdmin: {meshtest.Admin}},
		Register: func(r grpc.ServiceRegistrar) { validatorv1.RegisterTokenAdminServer(r, tokens{list: f}) },
	}
	for _, ch := range change {
		ch(&c)
	}
	return ca.Serve(t, c)
}

// calls collects what the audit is told.
type calls struct {
	mu  sync.Mutex
	all []mesh.Call // guarded by mu
}

func (c *calls) add(_ context.Context, call mesh.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, call)
}

func (c *calls) take() []mesh.Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

// logText is a log that a test reads while the server writes it.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func (l *logText) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// metric returns the value of the metric in set, as text, or "".
func metric(set *metrics.Set, name string) string {
	var b bytes.Buffer
	set.WritePrometheus(&b)
	for line := range strings.Lines(b.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// eventually waits until ok, which the other end of a connection brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 5 s", what)
		}
	}
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
