package run_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"github.com/estuary-pki/estuary/services/run"
)

func TestLogLevels(t *testing.T) {
	for level, lines := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1, "": 3} {
		var b bytes.Buffer
		log := run.NewLogger(run.LogConfig{Level: level}, &b)
		log.Debug("m")
		log.Info("m")
		log.Warn("m")
		log.Error("m")
		if n := strings.Count(b.String(), "\n"); n != lines {
			t.Errorf("%q writes %d lines", level, n)
		}
	}
}

// Whatever a client sends, a record is one line, of bounded length, that steers no terminal.
func TestLogInjection(t *testing.T) {
	hostile := []string{
		"a\nb", "a\r\nb", "\x1b[31mred", "nul\x00", "\x7f", "\u009b31m", "\u202eevil", "\u2066x\u2069", "zero\u200bwidth",
		"\u2028line", "\xff\xfe", strings.Repeat("x", 1<<20), strings.Repeat("\u202e", 1<<18),
	}
	for _, s := range hostile {
		var b bytes.Buffer
		log := run.NewLogger(run.LogConfig{Level: "info"}, &b)
		log.Info("m", slog.String("s", s), slog.Any("e", errors.New(s)), slog.Group("g", slog.String("s", s)))
		line := b.String()
		if strings.Count(line, "\n") != 1 || len(line) > 16<<10 {
			t.Errorf("%.20q: %d lines, %d octets", s, strings.Count(line, "\n"), len(line))
		}
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool {
			return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl) || r == unicode.ReplacementChar
		}); i >= 0 {
			t.Errorf("%.20q: raw %q", s, line[i:i+4])
		}
		if !json.Valid([]byte(line)) {
			t.Errorf("%.20q: not JSON", s)
		}
	}
	var b bytes.Buffer
	run.NewLogger(run.LogConfig{}, &b).Info("m", slog.String("s", "plain ä"), slog.Int("n", 5), slog.String("stack", strings.Repeat("f\n", 5000)))
	if !strings.Contains(b.String(), `"s":"plain ä","n":5`) || strings.Contains(b.String(), "…") {
		t.Errorf("plain values changed: %.200s", b.String())
	}
}
