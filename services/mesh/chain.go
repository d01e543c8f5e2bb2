package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/strict"
)

const (
	// minLeft is what a caller's deadline must leave for a call to be begun at all.
	minLeft = 100 * time.Millisecond
	// reserve is kept of it for the way back: an answer beats the caller's own time-out.
	reserve = 20 * time.Millisecond
	// auditTime is how long a refusal may take to be recorded, also after its caller left.
	auditTime = 5 * time.Second
)

// call is one call on its way through the chain.
type call struct {
	method    string
	requestID string
	message   any // of a unary call
	// refusal is why the mesh, not the handler, says no, for the audit; empty when it does not.
	refusal string
	// barred tells that the refusal is of the peer itself.
	barred bool
}

// A step does something before and after the rest of the chain.
type step func(ctx context.Context, c *call, rest func(context.Context) error) error

// chain is the one order of the steps, outermost first.
func (s *Server) chain() []step {
	return []step{s.identify, s.record, s.measure, s.survive, s.authorise, s.limit, s.check}
}

// through runs handle inside the chain and turns its error into what crosses the wire.
//
// A refused peer gets a bare PermissionDenied: it is the mesh that is set up wrongly, or a
// peer that oversteps, and must not look like a refusal of the peer's own client.
func (s *Server) through(ctx context.Context, c *call, handle func(context.Context) error) error {
	next := handle
	for _, st := range slices.Backward(s.steps) {
		rest := next
		next = func(ctx context.Context) error { return st(ctx, c, rest) }
	}
	err := next(ctx)
	switch {
	case err == nil:
		return nil
	case c.barred:
		return status.Error(codes.PermissionDenied, "this peer may not make this call")
	case errors.Is(ctx.Err(), context.Canceled):
		return status.FromContextError(ctx.Err()).Err() // nobody listens any more; guard counts it
	}
	return fault.ToStatus(err)
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	var reply any
	err := s.through(ctx, &call{method: info.FullMethod, message: req}, func(ctx context.Context) (err error) {
		reply, err = handler(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := &call{method: info.FullMethod}
	return s.through(ss.Context(), c, func(ctx context.Context) error {
		return handler(srv, &checkedStream{ServerStream: ss, ctx: ctx, call: c})
	})
}

// identify gives the call the id under which every process logs this request.
func (s *Server) identify(ctx context.Context, c *call, rest func(context.Context) error) error {
	c.requestID = incomingRequestID(ctx)
	return rest(WithRequestID(ctx, c.requestID))
}

// record hands a refusal to the audit.
func (s *Server) record(ctx context.Context, c *call, rest func(context.Context) error) error {
	err := rest(ctx)
	if c.refusal != "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
		defer cancel()
		s.config.Audit(ctx, Call{
			Kind: fault.KindOf(err), Peer: PeerName(ctx), Address: addressOf(ctx),
			Method: c.method, RequestID: c.requestID, Reason: c.refusal,
		})
	}
	return err
}

// measure counts the call and writes its line of log.
func (s *Server) measure(ctx context.Context, c *call, rest func(context.Context) error) error {
	start := time.Now()
	err := rest(ctx)
	took := time.Since(start)
	outcome, method := "OK", c.method
	if _, known := s.allowed[c.method]; !known {
		method = "unknown" // what a peer writes must not become a metric
	}
	if err != nil {
		outcome = fault.KindOf(err).String()
	}
	s.config.Metrics.GetOrCreateCounter(fmt.Sprintf("estuary_mesh_calls_total{method=%q,outcome=%q}", method, outcome)).Inc()
	level, attrs := slog.LevelInfo, []slog.Attr{
		slog.String("method", c.method), slog.String("peer", PeerName(ctx)), slog.String("address", addressOf(ctx)),
		slog.String("request_id", c.requestID), slog.String("outcome", outcome), slog.Duration("took", took),
	}
	switch {
	case c.method == healthpb.Health_Watch_FullMethodName:
		level = slog.LevelDebug // lives and ends with its connection
	case c.refusal != "":
		level = slog.LevelWarn
	case outcome == fault.Internal.String():
		level = slog.LevelError
	case err == nil && c.method == healthpb.Health_Check_FullMethodName:
		level = slog.LevelDebug
	}
	if c.method != healthpb.Health_Watch_FullMethodName {
		s.config.Metrics.GetOrCreateHistogram(fmt.Sprintf("estuary_mesh_call_seconds{method=%q}", method)).Update(took.Seconds())
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.config.Log.LogAttrs(ctx, level, "call", attrs...)
	return err
}

// survive turns a panic into an error: gRPC does not, and one bad request would end the
// process for everybody.
func (s *Server) survive(ctx context.Context, c *call, rest func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.panics.Inc()
			s.config.Log.LogAttrs(ctx, slog.LevelError, "panic in a call", slog.String("method", c.method),
				slog.String("request_id", c.requestID), slog.String("stack", string(debug.Stack())))
			err = fault.New(fault.Internal, "mesh.survive", "", fmt.Errorf("panic: %v", v))
		}
	}()
	return rest(ctx)
}

// authorise refuses every call that the allow-list does not name, and every method that no
// service has.
func (s *Server) authorise(ctx context.Context, c *call, rest func(context.Context) error) error {
	peers, known := s.allowed[c.method]
	switch {
	case !known:
		c.refusal = "there is no such method"
	case !peers[PeerName(ctx)]:
		c.refusal = "the peer is not in the service's allow-list"
	default:
		return rest(ctx)
	}
	c.barred = true
	return fault.New(fault.Forbidden, "mesh.authorise", "", errors.New(c.refusal))
}

// limit gives every call an end before its caller stops waiting, and at most MaxCall. The
// one call without end is the client's own health watch.
func (s *Server) limit(ctx context.Context, c *call, rest func(context.Context) error) error {
	if c.method == healthpb.Health_Watch_FullMethodName {
		return rest(ctx)
	}
	end := time.Now().Add(MaxCall)
	if asked, ok := ctx.Deadline(); ok {
		if left := time.Until(asked); left < minLeft {
			return fault.New(fault.Unavailable, "mesh.limit", "", fmt.Errorf("%v left of the caller's deadline", left))
		}
		if asked = asked.Add(-reserve); asked.Before(end) {
			end = asked
		}
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return rest(ctx)
}

// check refuses a message with a field that this version does not know: what cannot be
// understood cannot be authorised.
func (s *Server) check(ctx context.Context, c *call, rest func(context.Context) error) error {
	if m, ok := c.message.(proto.Message); ok {
		if err := c.known(m); err != nil {
			return err
		}
	}
	return rest(ctx)
}

// known returns Malformed when m, or a message within it, carries unknown fields.
func (c *call) known(m proto.Message) error {
	name := strict.Unknown(m.ProtoReflect())
	if name == "" {
		return nil
	}
	c.refusal = fmt.Sprintf("message %s carries an unknown field", name)
	return fault.New(fault.Malformed, "mesh.check", c.refusal, nil)
}

// checkedStream is a stream under the chain's context whose messages are checked as they come.
type checkedStream struct {
	grpc.ServerStream
	ctx  context.Context
	call *call
}

// Context implements grpc.ServerStream.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if m, ok := m.(proto.Message); ok {
		return s.call.known(m)
	}
	return nil
}

// clientChain is the calling side: request id, deadline, and the error as package fault
// made it on the other side.
type clientChain struct {
	timeout time.Duration
}

func (c clientChain) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	ctx, cancel := context.WithTimeout(outgoing(ctx), c.timeout)
	defer cancel()
	return fault.FromStatus(invoke(ctx, method, req, reply, conn, opts...))
}

// stream sets no deadline: a stream ends with its context, and on the server with MaxCall.
func (c clientChain) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	st, err := open(outgoing(ctx), desc, conn, method, opts...)
	if err != nil {
		return nil, fault.FromStatus(err)
	}
	return faultStream{st}, nil
}

// faultStream is a client's stream whose errors are package fault's.
type faultStream struct{ grpc.ClientStream }

// RecvMsg implements grpc.ClientStream.
func (s faultStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fault.FromStatus(err)
}
