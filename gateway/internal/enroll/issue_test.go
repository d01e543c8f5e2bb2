package enroll_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

// again runs one enrolment of which the signer answers attempt N with answer(N), and returns
// when each attempt was made, since the start.
func again(ctx context.Context, t *testing.T, request *csr.Request, answer func(n int) (*signerv1.IssueResponse, error)) (at []time.Duration, der []byte, err error) {
	t.Helper()
	sealed := &assertionv1.SealedAssertion{Payload: []byte("p"), Signature: []byte("s"), KeyId: "k"}
	want := &signerv1.IssueRequest{Assertion: sealed, CsrDer: request.DER()}
	authenticated := 0
	start := time.Now()
	e, err := enroll.New(enroll.Config{
		Validator: validator(func(*validatorv1.AuthenticateRequest) (*validatorv1.AuthenticateResponse, error) {
			authenticated++
			return &validatorv1.AuthenticateResponse{Outcome: &validatorv1.AuthenticateResponse_Assertion{Assertion: sealed}}, nil
		}),
		Signer: signer(func(r *signerv1.IssueRequest) (*signerv1.IssueResponse, error) {
			at = append(at, time.Since(start))
			if diff := cmp.Diff(want, r, protocmp.Transform()); diff != "" {
				t.Errorf("attempt %d: %s", len(at), diff)
			}
			return answer(len(at))
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Enroll(ctx, enroll.Request{CSR: request, Label: "device"})
	if authenticated != 1 {
		t.Errorf("authenticated %d times: a one-time password would be used up", authenticated)
	}
	return at, got.Certificate, err
}

func TestIssueAgain(t *testing.T) {
	request, certificate := material(t)
	issued := &signerv1.IssueResponse{CertificateDer: certificate}
	unavailable := fault.New(fault.Unavailable, "x", "", nil)
	later := &fault.Error{Kind: fault.Unavailable, Op: "x", RetryAfter: time.Second}
	cases := []struct {
		name  string
		fails []error // of the first attempts; then the certificate is issued
		asked int
		want  fault.Kind // 0 for success
	}{
		{name: "at once", asked: 1},
		{name: "the second time", fails: []error{unavailable}, asked: 2},
		{name: "the third time", fails: []error{unavailable, unavailable}, asked: 3},
		{name: "after a time-out", fails: []error{context.DeadlineExceeded}, asked: 2},
		{name: "never", fails: []error{unavailable, unavailable, unavailable}, asked: 3, want: fault.Unavailable},
		{name: "refused the second time", fails: []error{unavailable, fault.New(fault.Forbidden, "x", "", nil)}, asked: 2, want: fault.Forbidden},
		{name: "busy", fails: []error{fault.New(fault.Busy, "x", "", nil)}, asked: 1, want: fault.Busy},
		{name: "told when to come again", fails: []error{unavailable, later}, asked: 2, want: fault.Unavailable},
		{name: "busy the second time", fails: []error{unavailable, fault.New(fault.Busy, "x", "", nil)}, asked: 2, want: fault.Busy},
		{name: "used up", fails: []error{fault.New(fault.Unauthenticated, "x", "", nil)}, asked: 1, want: fault.Unauthenticated},
		{name: "conflict", fails: []error{fault.New(fault.Conflict, "x", "", nil)}, asked: 1, want: fault.Conflict},
		{name: "malformed", fails: []error{fault.New(fault.Malformed, "x", "", nil)}, asked: 1, want: fault.Malformed},
		{name: "no kind", fails: []error{errors.New("x")}, asked: 1, want: fault.Internal},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			at, der, err := again(t.Context(), t, request, func(n int) (*signerv1.IssueResponse, error) {
				if n <= len(c.fails) {
					return nil, c.fails[n-1]
				}
				return issued, nil
			})
			if len(at) != c.asked || fault.KindOf(err) != c.want || (c.want == 0) != (string(der) == string(certificate)) {
				t.Errorf("%s: asked at %v, %v", c.name, at, err)
			}
			for i := 1; i < len(at); i++ {
				if pause := at[i] - at[i-1]; pause < 50*time.Millisecond || pause > 150*time.Millisecond {
					t.Errorf("%s: a pause of %v", c.name, pause)
				}
			}
		})
	}
}

// Pauses differ: the requests that a dead signer failed would else all come back at once.
func TestPausesDiffer(t *testing.T) {
	request, _ := material(t)
	synctest.Test(t, func(t *testing.T) {
		pauses := map[time.Duration]bool{}
		for range 20 {
			at, _, _ := again(t.Context(), t, request, func(int) (*signerv1.IssueResponse, error) {
				return nil, fault.New(fault.Unavailable, "x", "", nil)
			})
			pauses[at[1]-at[0]], pauses[at[2]-at[1]] = true, true
		}
		if len(pauses) < 30 {
			t.Errorf("only %d of 40 pauses differ", len(pauses))
		}
	})
}

// An attempt for which there is no time only keeps the client waiting.
func TestIssueWithinTheContext(t *testing.T) {
	request, _ := material(t)
	cases := []struct {
		name   string
		within time.Duration // of the whole
		takes  time.Duration // each attempt
		asked  int
	}{
		{"time enough", 10 * time.Second, time.Second, 3},
		{"for two", 4500 * time.Millisecond, 2 * time.Second, 2},
		{"for one", 1040 * time.Millisecond, 0, 1},
		{"a second and the longest pause, once", 1260 * time.Millisecond, 100 * time.Millisecond, 2},
		{"none left", time.Second, time.Second, 1},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.within)
			defer cancel()
			start := time.Now()
			at, _, err := again(ctx, t, request, func(int) (*signerv1.IssueResponse, error) {
				time.Sleep(c.takes)
				return nil, fault.New(fault.Unavailable, "x", "", nil)
			})
			if len(at) != c.asked {
				t.Errorf("%s: asked at %v", c.name, at)
			}
			if took := time.Since(start); !errors.Is(err, fault.Unavailable) || took > c.within {
				t.Errorf("%s: %v after %v", c.name, err, took)
			}
		})
	}
}

// A client that has left ends the pause.
func TestIssueEndsWithTheClient(t *testing.T) {
	request, _ := material(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		at, _, err := again(ctx, t, request, func(int) (*signerv1.IssueResponse, error) {
			time.AfterFunc(10*time.Millisecond, cancel)
			return nil, fault.New(fault.Unavailable, "x", "", nil)
		})
		if took := time.Since(start); len(at) != 1 || took != 10*time.Millisecond {
			t.Errorf("asked at %v, %v after %v", at, err, took)
		}
		if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "attempt 1") {
			t.Errorf("%v", err)
		}
	})
}
