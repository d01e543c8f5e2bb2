package config_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/pelletier/go-toml/v2"

	"github.com/estuary-pki/estuary/services/config"
)

// FuzzLoad holds that whatever the file, Load ends with a report whose lines exist and whose
// text is harmless on a terminal, or with values that the decoder of the library finds in it
// as well.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "\ufeffenabled = true\n", "enabled = true\r\nsize = 0b11\r\n",
		"[tls]\nlisten = \"\"\"\nx\"\"\"\n", "[a]\nb.c.d = {e = [1, [2], {f = 3}]}\n",
		"[[profile]]\nlabel = 'x'\n[profile.rule]\ndepth = 1\n[[profile]]\n",
		"profile = [{label = 'a'}, {label = 'b', rule = {depth = +1}}]\n",
		"allow.\"a.b\" = []\nallow.'' = ['\\']\n", "mesh.timeout = '1d'\n[mesh]\n",
		"until = 2030-01-31t00:00:00.5+01:00\n", "age = 1e3\n", "offset = -0x1\n", "\x00", "a = '\x7f'",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := defaults()
		err := config.Parse("f.toml", "/folder", data, got)
		if err == nil {
			var library struct {
				Enabled *bool
				Size    *uint8
				TLS     struct{ Listen *string }
				Profile []struct{ Label string }
			}
			if err := toml.Unmarshal(data, &library); err != nil {
				t.Fatalf("the library refuses what was loaded: %v", err)
			}
			if library.Enabled != nil && *library.Enabled != got.Enabled ||
				library.Size != nil && *library.Size != got.Size ||
				library.TLS.Listen != nil && *library.TLS.Listen != got.TLS.Listen ||
				len(library.Profile) != len(got.Profiles) {
				t.Fatalf("loaded %+v, the library has %+v", got, library)
			}
			return
		}
		report := (*config.Report)(nil)
		if !errors.As(err, &report) {
			t.Fatalf("not a report: %v", err)
		}
		if len(report.Problems()) == 0 {
			t.Fatal("an empty report")
		}
		for _, p := range report.Problems() {
			if p.Line < 1 || p.Line > 1+bytes.Count(data, []byte("\n")) {
				t.Fatalf("no such line: %v", p)
			}
			if strings.ContainsFunc(p.String(), func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Fatalf("not harmless: %q", p.String())
			}
		}
	})
}
