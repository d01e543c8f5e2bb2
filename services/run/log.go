package run

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/estuary-pki/estuary/services/config"
)

// maxLogValue is how many octets of one value a line of log keeps. A stack is longer than
// what anybody else may write into a log.
const (
	maxLogValue = 2 << 10
	maxLogStack = 16 << 10
)

// LogConfig is the [log] table.
type LogConfig struct {
	// Level is the least level that is written.
	Level string `toml:"level" doc:"Least level that is logged: debug, info, warn or error."`
}

// Check reports a level that does not exist.
func (c *LogConfig) Check(r *config.Report) {
	if _, ok := levels[c.Level]; !ok {
		r.Add("level", "has to be debug, info, warn or error, not %q", c.Level)
	}
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// NewLogger returns a logger that writes a JSON object a line to w. No value can forge a line
// or steer a terminal: control and invisible formatting characters are written as \u{…}, and
// long values are cut. A level that Check would refuse counts as info.
func NewLogger(c LogConfig, w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: levels[c.Level], // info is zero
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch v := a.Value.Any().(type) {
			case string:
				a.Value = slog.StringValue(clean(a.Key, v))
			case error:
				a.Value = slog.StringValue(clean(a.Key, v.Error()))
			}
			return a
		},
	}))
}

// clean returns s as it may stand in a log.
func clean(key, s string) string {
	limit := maxLogValue
	if key == "stack" {
		limit = maxLogStack
	}
	if len(s) <= limit && !strings.ContainsFunc(s, hostile) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		piece := string(r)
		if hostile(r) {
			piece = fmt.Sprintf(`\u{%x}`, r)
		}
		if b.Len()+len(piece) > limit {
			b.WriteString("…")
			break
		}
		b.WriteString(piece)
	}
	return b.String()
}

// hostile tells whether a terminal or a reader could be misled by r: controls but the
// newline and tab of a stack, which JSON escapes, bidirectional and other format characters,
// and what is not UTF-8.
func hostile(r rune) bool {
	switch r {
	case '\n', '\t':
		return false
	case utf8.RuneError:
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
