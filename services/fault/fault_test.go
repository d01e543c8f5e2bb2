package fault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/estuary-pki/estuary/services/fault"
)

// The numbers stand in stored rows and travel between versions.
func TestNumbers(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Malformed: 1, fault.Unauthenticated: 2, fault.Forbidden: 3, fault.Conflict: 4,
		fault.Busy: 5, fault.Unavailable: 6, fault.Internal: 7, fault.NotFound: 8,
	}
	for k, n := range want {
		if int(k) != n {
			t.Errorf("%s is %d, not %d", k, k, n)
		}
	}
}

func TestKindSurvivesTheWire(t *testing.T) {
	for k := fault.Malformed; k <= fault.NotFound; k++ {
		cause := errors.New("password of alice is hunter2")
		sent := fmt.Errorf("serving: %w", &fault.Error{
			Kind: k, Op: "x.Y", Public: "public " + k.String(), RetryAfter: 7 * time.Second, Err: cause,
		})
		onWire := fault.ToStatus(sent)
		if strings.Contains(fmt.Sprintf("%+v", status.Convert(onWire).Proto()), "hunter2") {
			t.Errorf("%s: the cause left the process", k)
		}
		got := fault.FromStatus(onWire)
		if !errors.Is(got, k) || fault.KindOf(got) != k {
			t.Errorf("%s came back as %v", k, got)
		}
		if fault.Public(got) != "public "+k.String() || fault.RetryAfter(got) != 7*time.Second {
			t.Errorf("%s: public %q, retry %v", k, fault.Public(got), fault.RetryAfter(got))
		}
		for other := fault.Malformed; other <= fault.NotFound; other++ {
			if other != k && errors.Is(got, other) {
				t.Errorf("%s is also %s", k, other)
			}
		}
	}
}

func TestErrorsWithoutKind(t *testing.T) {
	cases := []struct {
		err  error
		want fault.Kind
	}{
		{errors.New("boom"), fault.Internal},
		{context.DeadlineExceeded, fault.Unavailable},
		{fmt.Errorf("dialling: %w", context.Canceled), fault.Unavailable},
	}
	for _, c := range cases {
		if got := fault.KindOf(c.err); got != c.want {
			t.Errorf("%v is %s, not %s", c.err, got, c.want)
		}
		back := fault.FromStatus(fault.ToStatus(c.err))
		if !errors.Is(back, c.want) || strings.Contains(fault.Public(back), "boom") {
			t.Errorf("%v came back as %v", c.err, back)
		}
	}
	if fault.ToStatus(nil) != nil || fault.FromStatus(nil) != nil || fault.KindOf(nil) != 0 {
		t.Error("nil is an error")
	}
}

// A refusal by the mesh itself must not look like a refused credential.
func TestBareStatus(t *testing.T) {
	cases := map[codes.Code]fault.Kind{
		codes.Unavailable: fault.Unavailable, codes.DeadlineExceeded: fault.Unavailable,
		codes.PermissionDenied: fault.Internal, codes.Unauthenticated: fault.Internal,
		codes.Unimplemented: fault.Internal, codes.ResourceExhausted: fault.Busy,
	}
	for code, want := range cases {
		err := fault.FromStatus(status.Error(code, "detail of the transport"))
		if !errors.Is(err, want) || strings.Contains(fault.Public(err), "transport") {
			t.Errorf("%s became %v, public %q", code, err, fault.Public(err))
		}
	}
	// Another domain's ErrorInfo is not ours.
	err := status.Error(codes.NotFound, "x")
	if fault.ToStatus(err).Error() != err.Error() {
		t.Error("a status error was changed")
	}
}
