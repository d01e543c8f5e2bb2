package fault

import (
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

const domain = "estuary"

var toCode = map[Kind]codes.Code{
	Malformed:       codes.InvalidArgument,
	Unauthenticated: codes.Unauthenticated,
	Forbidden:       codes.PermissionDenied,
	Conflict:        codes.Aborted,
	Busy:            codes.ResourceExhausted,
	Unavailable:     codes.Unavailable,
	Internal:        codes.Internal,
	NotFound:        codes.NotFound,
}

// ToStatus turns err into a gRPC status error that carries kind, public text and retry
// time as google.rpc.ErrorInfo and RetryInfo. The cause stays behind. A status error that
// gRPC itself made, and nil, come back unchanged.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		if _, ok := status.FromError(err); ok {
			return err
		}
		e = &Error{Kind: KindOf(err)}
	}
	code, ok := toCode[e.Kind]
	if !ok {
		code = codes.Internal
	}
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{
		Reason: e.Kind.String(), Domain: domain, Metadata: map[string]string{"public": Public(e)},
	})}
	if e.RetryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}))
	}
	st, err := status.New(code, Public(e)).WithDetails(details...)
	if err != nil {
		return status.Error(code, Public(e))
	}
	return st.Err()
}

// FromStatus turns the error of a gRPC call back into an *Error. What another Estuary
// service said keeps its kind and public text; what gRPC itself says (no connection,
// deadline, message too large) becomes Unavailable, or Internal where only a mistake of
// ours can be the reason; its text is the cause, never public.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return &Error{Kind: KindOf(err), Op: "grpc", Err: err}
	}
	out := &Error{Kind: kindOfCode(st.Code()), Op: "grpc", Err: err}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if k, ok := kindByReason(d.GetReason()); ok && d.GetDomain() == domain {
				out.Kind, out.Public, out.Op, out.Err = k, d.GetMetadata()["public"], "peer", nil
			}
		case *errdetails.RetryInfo:
			out.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return out
}

// kindOfCode says what a status without our details means. A bare PermissionDenied or
// Unauthenticated is the mesh refusing this service, not a client's credential: Internal.
func kindOfCode(c codes.Code) Kind {
	switch c {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return Unavailable
	case codes.ResourceExhausted:
		return Busy
	default:
		return Internal
	}
}

func kindByReason(reason string) (Kind, bool) {
	for k, v := range kinds {
		if v.reason == reason {
			return k, true
		}
	}
	return 0, false
}
