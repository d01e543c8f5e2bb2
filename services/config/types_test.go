package config_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/config"
)

func TestDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0s":            0,
		"90d":           90 * day,
		"1d12h":         36 * time.Hour,
		"1h30m":         90 * time.Minute,
		"15m":           15 * time.Minute,
		"250ms":         250 * time.Millisecond,
		"1d2h3m4s5ms":   day + 2*time.Hour + 3*time.Minute + 4*time.Second + 5*time.Millisecond,
		"106751d23h47m": 106751*day + 23*time.Hour + 47*time.Minute,
	} {
		var got config.Duration
		if err := got.UnmarshalText([]byte(text)); err != nil || time.Duration(got) != want {
			t.Errorf("%s: %v, %v; want %v", text, time.Duration(got), err, want)
		}
		if got.String() != text {
			t.Errorf("%s prints %s", text, got)
		}
	}
	for text, want := range map[string]string{"90s": "1m30s", "0d": "0s", "1000ms": "1s", "0h5s": "5s"} {
		var got config.Duration
		if err := got.UnmarshalText([]byte(text)); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	if got := config.Duration(-time.Hour).String(); got != "-1h" {
		t.Errorf("an hour less than nothing prints %s", got)
	}
	for _, text := range []string{
		"", "90", "s", "d5", "-5s", "+5s", "1.5h", "5 s", " 5s", "5s ", "5S", "5us", "5ns", "1w",
		"5m1h", "5s5s", "5hm", "5msm", "106752d", "99999999999999999999s", "200000d", "106751d24h",
	} {
		got := config.Duration(7)
		if err := got.UnmarshalText([]byte(text)); err == nil || got != 7 {
			t.Errorf("%q: read as %v", text, got)
		}
	}
}

func TestSeconds(t *testing.T) {
	if got := config.Seconds(90).Duration(); got != 90*time.Second {
		t.Errorf("90 are %v", got)
	}
}

func TestDescribe(t *testing.T) {
	want := []config.KeyDoc{
		{"tls", "a table", "", "Network side."},
		{"tls.listen", "a string", `"localhost:1"`, "Address."},
		{"tls.certificate", "a string naming a file or folder", `"tls.pem"`, "Chain."},
		{"tls.anchors", "a list, each a string naming a file or folder", "[]", "Roots."},
		{"mesh", "a table", "", "Inner side."},
		{"mesh.key", "a string naming a file or folder", `"/etc/key"`, "Private key."},
		{"mesh.timeout", `a string with a unit, such as "90s"`, `"2s"`, "Patience."},
		{"profile", "a list of tables", "", "Rules of the labels."},
		{"profile[].label", "a string", "", "EST label."},
		{"profile[].realms", "a list, each a string", `["LAB.TEST"]`, "Realms."},
		{"profile[].rule", "a table", "", "Rule."},
		{"profile[].rule.depth", "a whole number", "0", "Depth."},
		{"enabled", "true or false", "true", "Whether it runs."},
		{"size", "a whole number", "0", "How large, in octets."},
		{"offset", "a whole number", "0", "How far."},
		{"age", "a whole number of seconds", "0", "How old."},
		{"url", "a string", `"sqlite:state/rows"`, "Where rows live."},
		{"until", "a time such as 2030-01-31T00:00:00Z, without quotation marks", "", "When it ends."},
		{"allow", "a table", "", "Who may call what."},
	}
	if diff := cmp.Diff(want, config.Describe(defaults())); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestLint(t *testing.T) {
	if wrong := config.Lint(defaults()); wrong != nil {
		t.Errorf("a good struct: %q", wrong)
	}
	type inner struct {
		Bare string
	}
	bad := struct {
		NoDoc  string           `toml:"no_doc"`
		Upper  string           `toml:"Upper" doc:"x"`
		First  string           `toml:"twice" doc:"x"`
		Second string           `toml:"twice" doc:"x"`
		Time   time.Duration    `toml:"time" doc:"x"`
		Any    any              `toml:"any" doc:"x"`
		Maps   map[int]string   `toml:"maps" doc:"x"`
		Inner  map[string]inner `toml:"inner" doc:"x"`
	}{}
	want := []string{
		"no_doc: no doc tag",
		"Upper: not lower case with underscores",
		"twice: stands twice",
		"time: time.Duration cannot be read from a file",
		"any: interface {} cannot be read from a file",
		"maps: map[int]string cannot be read from a file",
		"inner.*.Bare: no toml tag",
	}
	if diff := cmp.Diff(want, config.Lint(&bad)); diff != "" {
		t.Errorf("wrong (-want +got):\n%s", diff)
	}
}
