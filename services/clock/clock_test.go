package clock_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/clock"
)

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// machine is a clock that can be set, beside one that cannot.
type machine struct {
	wall    time.Time
	elapsed time.Duration
	mark    time.Time
	err     error
	log     bytes.Buffer
	metrics *metrics.Set
}

func (m *machine) pass(d time.Duration) { m.wall, m.elapsed = m.wall.Add(d), m.elapsed+d }

func (m *machine) clock(t *testing.T) *clock.Clock {
	t.Helper()
	m.metrics = metrics.NewSet()
	c, err := clock.New(t.Context(), clock.Config{
		Mark: func(context.Context) (time.Time, error) { return m.mark, m.err },
		Log:  slog.New(slog.NewTextHandler(&m.log, nil)), Metrics: m.metrics,
		Now: func() time.Time { return m.wall }, Elapsed: func() time.Duration { return m.elapsed },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (m *machine) measured() string {
	var b strings.Builder
	m.metrics.WritePrometheus(&b)
	return b.String()
}

// A clock that is set back stands still until the machine's has caught up.
func TestNeverBack(t *testing.T) {
	m := &machine{wall: at}
	c := m.clock(t)
	for _, s := range []struct {
		step, pass time.Duration
		want       time.Time
	}{
		{0, 0, at},
		{0, time.Second, at.Add(time.Second)},
		{-time.Hour, time.Second, at.Add(time.Second)},
		{0, time.Hour - time.Minute, at.Add(time.Second)},
		{0, time.Minute + time.Second, at.Add(3 * time.Second)},
		{time.Hour, 0, at.Add(time.Hour + 3*time.Second)},
		{-time.Hour, time.Second, at.Add(time.Hour + 3*time.Second)},
	} {
		m.wall = m.wall.Add(s.step)
		m.pass(s.pass)
		if got := c.Now(); !got.Equal(s.want) {
			t.Errorf("after %v and %v: %v, not %v", s.step, s.pass, got, s.want)
		}
	}
}

// Times with a monotonic part would compare as if nobody had set the clock.
func TestNoMonotonicPart(t *testing.T) {
	c, err := clock.New(t.Context(), clock.Config{
		Mark: func(context.Context) (time.Time, error) { return time.Time{}, nil }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := c.Now(); strings.Contains(now.String(), "m=") || time.Since(now) > time.Minute {
		t.Error(now)
	}
}

// What is on record stands above the machine's clock, at the start and later.
func TestMark(t *testing.T) {
	m := &machine{wall: at, mark: at.Add(time.Hour)}
	c := m.clock(t)
	if got := c.Now(); !got.Equal(m.mark) || c.Steady() {
		t.Errorf("%v, steady %v", got, c.Steady())
	}
	const way = "the newest record: time stands still until it is set right. If it is the record that is wrong, stop every process of this database and run 'clock reset'"
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "1h0m0s behind "+way) {
		t.Error(err)
	}
	if !strings.Contains(m.log.String(), "the clock is behind "+way) {
		t.Errorf("the log does not name the way out: %s", m.log.String())
	}
	if got := m.measured(); !strings.Contains(got, "estuary_clock_behind_seconds 3600\n") || strings.Count(m.log.String(), "level=WARN") != 1 {
		t.Errorf("%s\n%s", got, m.log.String())
	}
	m.pass(59 * time.Minute)
	if err := c.Check(t.Context()); err != nil || !c.Steady() {
		t.Errorf("a minute behind: %v, steady %v", err, c.Steady())
	}
	m.pass(time.Hour)
	if got := m.measured(); !strings.Contains(got, "estuary_clock_behind_seconds 0\n") || !c.Now().Equal(m.wall) {
		t.Errorf("caught up: %s", got)
	}
	m.err = errors.New("no store")
	if _, err := clock.New(t.Context(), clock.Config{Mark: func(context.Context) (time.Time, error) { return at, m.err }, Log: slog.Default()}); !errors.Is(err, m.err) {
		t.Errorf("without a mark: %v", err)
	}
	if _, err := clock.New(t.Context(), clock.Config{}); err == nil {
		t.Error("without anything")
	}
}

// A jump either way makes the clock unsteady for ten minutes; a minute is none.
func TestSteps(t *testing.T) {
	for name, s := range map[string]struct {
		step time.Duration
		want bool
	}{
		"none":             {0, true},
		"a minute ahead":   {time.Minute, true},
		"a minute back":    {-time.Minute, true},
		"more ahead":       {time.Minute + 1, false},
		"more back":        {-time.Minute - 1, false},
		"ten minutes back": {-10 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{wall: at}
			c := m.clock(t)
			m.pass(time.Hour)
			m.wall = m.wall.Add(s.step)
			c.Now()
			steps := map[bool]string{true: "estuary_clock_steps_total 0\n", false: "estuary_clock_steps_total 1\n"}[s.want]
			if c.Steady() != s.want || !strings.Contains(m.measured(), steps) || s.want != !strings.Contains(m.log.String(), "the clock jumped") {
				t.Errorf("steady %v\n%s%s", c.Steady(), m.measured(), m.log.String())
			}
			m.pass(10*time.Minute - time.Second)
			if c.Steady() != s.want {
				t.Errorf("steady %v before ten minutes", c.Steady())
			}
			m.pass(time.Second)
			if !c.Steady() {
				t.Error("not steady after ten minutes")
			}
		})
	}
}

// Run follows the mark that other processes move, and lives through a store that is down.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var mark time.Time
		down := errors.New("no store")
		set := func(to time.Time, err error) {
			mu.Lock()
			defer mu.Unlock()
			mark, down = to, err
		}
		set(time.Time{}, nil)
		var log bytes.Buffer
		c, err := clock.New(t.Context(), clock.Config{
			Mark: func(context.Context) (time.Time, error) { mu.Lock(); defer mu.Unlock(); return mark, down },
			Log:  slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }() // ends with cancel
		ahead := time.Now().Add(5 * time.Minute).Round(0)
		set(ahead, nil)
		time.Sleep(9 * time.Second)
		if c.Now().Equal(ahead) {
			t.Error("the mark was read early")
		}
		time.Sleep(2 * time.Second)
		if !c.Now().Equal(ahead) || c.Steady() || c.Check(ctx) == nil {
			t.Errorf("%v, not %v", c.Now(), ahead)
		}
		set(time.Time{}, errors.New("no store"))
		time.Sleep(time.Minute)
		if !c.Now().Equal(ahead) {
			t.Error("a store that is down moved the clock")
		}
		time.Sleep(4 * time.Minute)
		if !c.Now().Equal(time.Now().Round(0)) || !c.Steady() {
			t.Errorf("%v, not %v", c.Now(), time.Now())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, text := range []string{"time stands still", "no store"} {
			if !strings.Contains(log.String(), text) {
				t.Errorf("the log does not say %q:\n%s", text, log.String())
			}
		}
	})
}
