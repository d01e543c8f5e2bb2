package mesh_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

func TestWhoMayCall(t *testing.T) {
	ca := meshtest.New(t)
	var peer, id string
	var told calls
	set, log := metrics.NewSet(), &logText{}
	s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		peer, id = mesh.PeerName(ctx), mesh.RequestID(ctx)
		return answer(ctx, r)
	}, func(c *meshtest.ServeConfig) { c.Audit, c.Metrics, c.Log = told.add, set, log.logger() })

	ctx := mesh.WithRequestID(t.Context(), "REQUEST-1")
	admin := validatorv1.NewTokenAdminClient(s.Dial(t, meshtest.Admin))
	if r, err := admin.ListTokens(ctx, &validatorv1.ListTokensRequest{}); err != nil || r.GetNextPageToken() != "answered" {
		t.Fatalf("%v, %v", r, err)
	}
	if peer != meshtest.Admin || id != "REQUEST-1" {
		t.Errorf("handler saw peer %q, request %q", peer, id)
	}
	if all := told.take(); all != nil {
		t.Errorf("audit of a good call: %v", all)
	}

	peer = ""
	const method = "/" + tokenAdmin + "/ListTokens"
	gateway := s.Dial(t, meshtest.Gateway)
	_, err := validatorv1.NewTokenAdminClient(gateway).ListTokens(ctx, &validatorv1.ListTokensRequest{})
	if !meshtest.Refused(err) || errors.Is(err, fault.Forbidden) {
		t.Errorf("the gateway: %v", err)
	}
	for _, m := range []string{"/" + tokenAdmin + "/Nothing", "/no.Service/X", "/" + tokenAdmin + "/listTokens", "/x/" + tokenAdmin + "/ListTokens"} {
		if err := s.Dial(t, meshtest.Admin).Invoke(ctx, m, &emptypb.Empty{}, &emptypb.Empty{}); !meshtest.Refused(err) {
			t.Errorf("%s: %v", m, err)
		}
	}
	// A path without its slash once went past rules about paths (CVE-2026-33186).
	if err := s.Dial(t, meshtest.Gateway).Invoke(ctx, method[1:], &validatorv1.ListTokensRequest{}, &emptypb.Empty{}); err == nil {
		t.Error("a path without slash was served")
	}
	if peer != "" {
		t.Errorf("the handler ran for %s", peer)
	}
	refused := mesh.Call{Kind: fault.Forbidden, Peer: meshtest.Admin, Address: "127.0.0.1", RequestID: "REQUEST-1", Reason: "there is no such method"}
	with := func(c mesh.Call, method string) mesh.Call { c.Method = method; return c }
	want := []mesh.Call{
		{Kind: fault.Forbidden, Peer: meshtest.Gateway, Address: "127.0.0.1", RequestID: "REQUEST-1", Method: method, Reason: "the peer is not in the service's allow-list"},
		with(refused, "/"+tokenAdmin+"/Nothing"), with(refused, "/no.Service/X"),
		with(refused, "/"+tokenAdmin+"/listTokens"), with(refused, "/x/"+tokenAdmin+"/ListTokens"),
	}
	if diff := cmp.Diff(want, told.take()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		`estuary_mesh_calls_total{method="` + method + `",outcome="OK"}`:        "1",
		`estuary_mesh_calls_total{method="` + method + `",outcome="FORBIDDEN"}`: "1",
		`estuary_mesh_calls_total{method="unknown",outcome="FORBIDDEN"}`:        "4",
	} {
		if got := metric(set, name); got != want {
			t.Errorf("%s is %q, not %s", name, got, want)
		}
	}
	if n := log.count(`"request_id":"REQUEST-1"`); n != 6 {
		t.Errorf("%d lines of log for 6 calls", n)
	}
}

// An id that could forge a line of log is replaced.
func TestRequestID(t *testing.T) {
	ca := meshtest.New(t)
	var seen string
	s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		seen = mesh.RequestID(ctx)
		return answer(ctx, r)
	})
	client := validatorv1.NewTokenAdminClient(s.Dial(t, meshtest.Admin))
	for _, id := range []string{"", "a b", "a\"b", strings.Repeat("a", 65)} {
		if mesh.ValidRequestID(id) {
			t.Errorf("%q is valid", id)
		}
		if _, err := client.ListTokens(mesh.WithRequestID(t.Context(), id), &validatorv1.ListTokensRequest{}); err != nil {
			t.Fatal(err)
		}
		if seen == id || !mesh.ValidRequestID(seen) {
			t.Errorf("%q arrived as %q", id, seen)
		}
	}
	// Two ids cannot both be meant.
	ctx := metadata.AppendToOutgoingContext(mesh.WithRequestID(t.Context(), "one"), "estuary-request-id", "two")
	if _, err := client.ListTokens(ctx, &validatorv1.ListTokensRequest{}); err != nil || seen == "one" || seen == "two" {
		t.Errorf("of two ids %q was taken, %v", seen, err)
	}
	if a, b := mesh.NewRequestID(), mesh.NewRequestID(); a == b || !mesh.ValidRequestID(a) || len(a) < 26 {
		t.Errorf("new ids %q, %q", a, b)
	}
	if mesh.PeerName(t.Context()) != "" || mesh.RequestID(t.Context()) != "" {
		t.Error("a peer or an id outside a call")
	}
}

func TestPanicSurvives(t *testing.T) {
	ca := meshtest.New(t)
	set, log := metrics.NewSet(), &logText{}
	bad := true
	s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		if bad {
			var none *meshtest.Server
			_ = none.Addr
		}
		return answer(ctx, r)
	}, func(c *meshtest.ServeConfig) { c.Metrics, c.Log = set, log.logger() })
	conn := s.Dial(t, meshtest.Admin)
	err := call(t, conn)
	if !errors.Is(err, fault.Internal) || strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("a panic came back as %v", err)
	}
	bad = false
	if err := call(t, conn); err != nil {
		t.Errorf("after the panic: %v", err)
	}
	if metric(set, "estuary_mesh_panics_total") != "1" || log.count("chain_test.go") == 0 {
		t.Error("the panic is not counted, or its stack not logged")
	}
}

// Every kind crosses with its public text and retry time, and without its cause.
func TestFaultsCross(t *testing.T) {
	ca := meshtest.New(t)
	var fails error
	s := serve(t, ca, func(context.Context, *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		return nil, fails
	})
	conn := s.Dial(t, meshtest.Admin)
	for kind := fault.Malformed; kind <= fault.NotFound; kind++ {
		fails = &fault.Error{Kind: kind, Op: "x", Public: "said " + kind.String(), RetryAfter: 3 * time.Second, Err: errors.New("hunter2")}
		err := call(t, conn)
		if !errors.Is(err, kind) || fault.Public(err) != "said "+kind.String() || fault.RetryAfter(err) != 3*time.Second {
			t.Errorf("%s: %v", kind, err)
		}
		if strings.Contains(err.Error(), "hunter2") || meshtest.Refused(err) {
			t.Errorf("%s: the cause crossed, or it looks like the mesh refusing: %v", kind, err)
		}
	}
	fails = errors.New("hunter2")
	if err := call(t, conn); !errors.Is(err, fault.Internal) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an error without kind: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	ca := meshtest.New(t)
	var left time.Duration
	var wait bool
	ran := 0
	s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		ran++
		end, _ := ctx.Deadline()
		left = time.Until(end)
		if wait {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return answer(ctx, r)
	})
	conn := s.Dial(t, meshtest.Admin)
	within := func(d time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		_, err := validatorv1.NewTokenAdminClient(conn).ListTokens(ctx, &validatorv1.ListTokensRequest{})
		return err
	}
	if err := within(time.Minute); err != nil || left > 10*time.Second || left < 8*time.Second {
		t.Errorf("connection's time-out of 10 s: handler has %v, error %v", left, err)
	}
	if err := within(2 * time.Second); err != nil || left > 2*time.Second-mesh.Reserve {
		t.Errorf("caller's 2 s: handler has %v, error %v", left, err)
	}
	before := ran
	if err := within(mesh.MinLeft - 10*time.Millisecond); !errors.Is(err, fault.Unavailable) || ran != before {
		t.Errorf("caller's 90 ms: %v, the handler ran %d times", err, ran-before)
	}
	wait = true
	// The reserve lets the server's own answer arrive before the caller gives up.
	if err := within(400 * time.Millisecond); !errors.Is(err, fault.Unavailable) || status.Code(err) == codes.DeadlineExceeded {
		t.Errorf("a handler that takes too long: %v", err)
	}
	wait = false
	// Without our client there may be no deadline at all.
	left = 0
	raw := rawClient(t, ca, s.Addr, meshtest.Admin)
	raw.request("/"+tokenAdmin+"/ListTokens", nil)
	if got := raw.grpcStatus(); got != "0" || left > mesh.MaxCall || left < mesh.MaxCall-2*time.Second {
		t.Errorf("no deadline: handler has %v, status %s", left, got)
	}
}

// A field from the future may be the one that forbids.
func TestUnknownFields(t *testing.T) {
	ca := meshtest.New(t)
	ran := 0
	var told calls
	s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		ran++
		return answer(ctx, r)
	}, func(c *meshtest.ServeConfig) { c.Audit = told.add })
	conn := s.Dial(t, meshtest.Admin)
	request := &validatorv1.ListTokensRequest{}
	request.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	_, err := validatorv1.NewTokenAdminClient(conn).ListTokens(t.Context(), request)
	if !errors.Is(err, fault.Malformed) || !strings.Contains(fault.Public(err), "ListTokensRequest carries an unknown field") || ran != 0 {
		t.Errorf("unknown field: %v, ran %d", err, ran)
	}
	if all := told.take(); len(all) != 1 || all[0].Kind != fault.Malformed || all[0].Peer != meshtest.Admin {
		t.Errorf("audit: %v", all)
	}
}

func TestMessageSize(t *testing.T) {
	ca := meshtest.New(t)
	s := serve(t, ca, func(_ context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		return &validatorv1.ListTokensResponse{NextPageToken: strings.Repeat("x", int(r.GetPageSize()))}, nil
	})
	client := validatorv1.NewTokenAdminClient(s.Dial(t, meshtest.Admin))
	fits := mesh.MaxMessage - proto.Size(&validatorv1.ListTokensRequest{ClientId: strings.Repeat("x", mesh.MaxMessage)}) + mesh.MaxMessage
	for _, c := range []struct {
		name string
		r    *validatorv1.ListTokensRequest
		ok   bool
	}{
		{"request that fits", &validatorv1.ListTokensRequest{ClientId: strings.Repeat("x", fits)}, true},
		{"request too large", &validatorv1.ListTokensRequest{ClientId: strings.Repeat("x", fits+1)}, false},
		{"answer that fits", &validatorv1.ListTokensRequest{PageSize: uint32(fits)}, true},
		{"answer too large", &validatorv1.ListTokensRequest{PageSize: uint32(fits + 1)}, false},
	} {
		if _, err := client.ListTokens(t.Context(), c.r); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// The server has the limit too, whatever its client keeps to.
	raw := rawClient(t, ca, s.Addr, meshtest.Admin)
	message, err := proto.Marshal(&validatorv1.ListTokensRequest{ClientId: strings.Repeat("x", fits+1)})
	if err != nil {
		t.Fatal(err)
	}
	raw.request("/"+tokenAdmin+"/ListTokens", message)
	if got := raw.grpcStatus(); got != "8" {
		t.Errorf("too large for the server: status %s, not RESOURCE_EXHAUSTED", got)
	}
}
