package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
)

// full is how many lines a stream keeps for its reader.
const full = 4096

func entry(n int) audit.Entry {
	return audit.Entry{Seq: int64(n), JSON: []byte(`{"event":"x.y"}`)}
}

// start runs s, and returns what ends it and gives its error.
func start(t *testing.T, s *audit.Stream) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // ends with stop
	return func() error { cancel(); return <-ended }
}

// lost returns what the metrics say.
func lost(set *metrics.Set) string {
	var b strings.Builder
	set.WritePrometheus(&b)
	return strings.TrimSpace(b.String())
}

func TestStream(t *testing.T) {
	var out bytes.Buffer
	s := audit.NewStream(&out)
	stop := start(t, s)
	if err := s.Emit(audit.Entry{Seq: 7, JSON: []byte(`{"event":"x.y"}`)}); err != nil {
		t.Fatal(err)
	}
	evil := "a\nb\u2028\x1b" + strings.Repeat("x", 1<<20)
	if err := s.Tell(audit.Record{Time: at, Event: evil, Reason: evil, Detail: map[string]string{evil: evil}}); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != 2 {
		t.Fatalf("%d lines, not 2", len(lines))
	}
	for _, l := range lines {
		if !json.Valid(l) || bytes.ContainsAny(l, "\x1b\r") || len(l) > 4096 {
			t.Errorf("line %.200q", l)
		}
	}
	if !bytes.HasPrefix(lines[0], []byte(`{"seq":7,"hash":"00`)) {
		t.Errorf("line %s", lines[0])
	}
}

// Nobody who hands a record over waits for the reader; who has to know is told, in time.
func TestReaderDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		s, set := audit.NewStream(w), metrics.NewSet()
		s.Measure(set)
		stop := start(t, s)
		begin := time.Now()
		for n := range full {
			if err := s.Emit(entry(n)); err != nil {
				t.Fatal(n, err)
			}
		}
		synctest.Wait() // the writer has taken up the first line, which stays in the queue
		if err := s.Check(t.Context()); err != nil {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(5*time.Second + 1)
		if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "4096 lines") {
			t.Errorf("after 5 s: %v", err)
		}
		for range 3 {
			if err := s.Emit(entry(0)); err == nil {
				t.Error("a full queue took a line")
			}
		}
		if err := s.Tell(audit.Record{}); err == nil {
			t.Error("told into a full queue")
		}
		if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "4 lines") {
			t.Errorf("with lost lines: %v", err)
		}
		if got := lost(set); got != "estuary_audit_lost_total 4" {
			t.Errorf("metrics: %s", got)
		}
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("somebody waited: %v", took)
		}
		begin = time.Now()
		if err := stop(); err == nil || time.Since(begin) != 2*time.Second || !strings.Contains(err.Error(), "4096 lines") {
			t.Errorf("stopped after %v: %v", time.Since(begin), err)
		}
		_ = r.Close() // lets the writer go
		synctest.Wait()
	})
}

// Tell waits for its own line: a line written is an answer, 5 s without are one too.
func TestTellWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		s := audit.NewStream(w)
		stop := start(t, s)
		begin := time.Now()
		if err := s.Tell(audit.Record{}); err == nil || time.Since(begin) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		go func() { // ends with w
			time.Sleep(3 * time.Second)
			_, _ = io.Copy(io.Discard, r)
		}()
		begin = time.Now()
		if err := s.Tell(audit.Record{}); err != nil || time.Since(begin) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Errorf("read again: %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		_ = w.Close()
	})
}

// A reader that has gone is an error of the line, not the end of the stream.
func TestReaderIsGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s, set := audit.NewStream(w), metrics.NewSet()
	s.Measure(set)
	stop := start(t, s)
	for range 2 {
		if err := s.Tell(audit.Record{}); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("told to nobody: %v", err)
		}
	}
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "2 lines") || lost(set) != "estuary_audit_lost_total 2" {
		t.Errorf("ready: %v; %s", err, lost(set))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// failing fails as often as it says, and writes then.
type failing struct {
	bytes.Buffer
	times int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.times--; f.times >= 0 {
		return 0, syscall.ENOSPC
	}
	return f.Buffer.Write(p)
}

// A good write ends the complaint; the count of what was lost stays.
func TestGoodWriteEndsComplaint(t *testing.T) {
	s, set := audit.NewStream(&failing{times: 2}), metrics.NewSet()
	s.Measure(set)
	stop := start(t, s)
	first, second, third := s.Tell(audit.Record{}), s.Tell(audit.Record{}), s.Tell(audit.Record{})
	if !errors.Is(first, syscall.ENOSPC) || !errors.Is(second, syscall.ENOSPC) || third != nil {
		t.Error(first, second, third)
	}
	if err := s.Check(t.Context()); err != nil || lost(set) != "estuary_audit_lost_total 2" {
		t.Errorf("%v; %s", err, lost(set))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Lines keep their order, and those that wait at the end are written.
func TestOrderAndDrain(t *testing.T) {
	var out bytes.Buffer
	s := audit.NewStream(&out)
	var want strings.Builder
	for n := 1; n <= full; n++ {
		if err := s.Emit(entry(n)); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(&want, "{\"seq\":%d,\"hash\":\"%064x\",\"audit\":{\"event\":\"x.y\"}}\n", n, 0)
	}
	if err := audittest.Flush(s); err != nil {
		t.Fatal(err)
	}
	if out.String() != want.String() {
		t.Errorf("%d octets, not %d", out.Len(), want.Len())
	}
	if err := s.Emit(entry(1)); err != nil {
		t.Errorf("an emptied queue: %v", err)
	}
}

func TestOneRunAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := audit.NewStream(io.Discard)
		stop := start(t, s)
		synctest.Wait()
		if err := s.Run(t.Context()); err == nil {
			t.Error("two at once")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := audittest.Flush(s); err != nil {
			t.Errorf("one after the other: %v", err)
		}
	})
}

func TestStreamForMany(t *testing.T) {
	var out bytes.Buffer
	s := audit.NewStream(&out)
	stop := start(t, s)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for n := range 50 {
				if err := errors.Join(s.Emit(entry(n+1)), s.Tell(audit.Record{}), s.Check(t.Context())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 800 {
		t.Errorf("%d lines, not 800", n)
	}
}
