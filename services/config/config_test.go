package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/config"
)

type realm string

type service struct {
	TLS      tlsSection          `toml:"tls" doc:"Network side."`
	Mesh     meshSection         `toml:"mesh" doc:"Inner side."`
	Profiles []profile           `toml:"profile" doc:"Rules of the labels."`
	Enabled  bool                `toml:"enabled" doc:"Whether it runs."`
	Size     uint8               `toml:"size" doc:"How large, in octets."`
	Offset   int                 `toml:"offset" doc:"How far."`
	Age      config.Seconds      `toml:"age" doc:"How old."`
	URL      config.Database     `toml:"url" doc:"Where rows live."`
	Until    time.Time           `toml:"until" doc:"When it ends."`
	Allow    map[string][]string `toml:"allow" doc:"Who may call what."`
	Derived  string              `toml:"-"`
}

type tlsSection struct {
	Listen      string        `toml:"listen" doc:"Address."`
	Certificate config.Path   `toml:"certificate" doc:"Chain."`
	Anchors     []config.Path `toml:"anchors" doc:"Roots."`
}

func (s tlsSection) Check(r *config.Report) {
	if s.Listen == "" {
		r.Add("listen", "is missing")
	}
}

type files struct {
	Key config.Path `toml:"key" doc:"Private key."`
}

type meshSection struct {
	files
	Timeout config.Duration `toml:"timeout" doc:"Patience."`
}

type profile struct {
	Label  string   `toml:"label" doc:"EST label."`
	Realms []realm  `toml:"realms" doc:"Realms."`
	Rule   ruleKeys `toml:"rule" doc:"Rule."`
}

func (p *profile) SetDefaults() { p.Realms = []realm{"LAB.TEST"} }

func (p profile) Check(r *config.Report) {
	if p.Label == "" {
		r.Add("label", "is missing")
	}
	if len(p.Realms) > 2 {
		r.Add("realms[2]", "is one too many")
	}
}

type ruleKeys struct {
	Depth int `toml:"depth" doc:"Depth."`
}

func (k ruleKeys) Check(r *config.Report) {
	if k.Depth < 0 {
		r.Add("depth", "is %d, less than 0", k.Depth)
	}
}

func defaults() *service {
	return &service{
		TLS:     tlsSection{Listen: "localhost:1", Certificate: "tls.pem"},
		Mesh:    meshSection{files: files{Key: "/etc/key"}, Timeout: config.Duration(2 * time.Second)},
		Allow:   map[string][]string{"a": {"b"}},
		URL:     "sqlite:state/rows",
		Enabled: true,
	}
}

// write returns the path of a file with this content.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := write(t, `
age = 90
enabled = false
size = 0xff
offset = -1_000
until = 2030-01-31 10:00:00Z
[tls]
listen = "localhost:2"
anchors = ["a.pem", "/b.pem"]
[mesh]
timeout = "1h30m"
key = "key.pem"
[allow]
"estuary.v1.A" = ["x", "y"]
none = []
[[profile]]
label = "one"
realms = ["A", "B"]
rule.depth = 3
[[profile]]
label = "two"
`)
	folder := filepath.Dir(path)
	got := defaults()
	if err := config.Load(path, got); err != nil {
		t.Fatal(err)
	}
	want := &service{
		TLS: tlsSection{
			Listen:      "localhost:2",
			Certificate: config.Path(filepath.Join(folder, "tls.pem")),
			Anchors:     []config.Path{config.Path(filepath.Join(folder, "a.pem")), "/b.pem"},
		},
		Mesh: meshSection{
			files:   files{Key: config.Path(filepath.Join(folder, "key.pem"))},
			Timeout: config.Duration(90 * time.Minute),
		},
		Profiles: []profile{
			{Label: "one", Realms: []realm{"A", "B"}, Rule: ruleKeys{Depth: 3}},
			{Label: "two", Realms: []realm{"LAB.TEST"}},
		},
		Size:   255,
		Offset: -1000,
		Age:    90,
		URL:    config.Database("sqlite:" + filepath.Join(folder, "state/rows")),
		Until:  time.Date(2030, 1, 31, 10, 0, 0, 0, time.UTC),
		Allow:  map[string][]string{"estuary.v1.A": {"x", "y"}, "none": {}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(meshSection{})); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

// TestLoadReportsEverything has one file with a mistake of each kind: all of them are told.
func TestLoadReportsEverything(t *testing.T) {
	path := write(t, `enabled = "yes"
Size = 1
sise = 1
size = 256
timeout = "3s"
age = -1
offset = 1.5
until = "2030-01-31T00:00:00Z"
url = "mysql://x"
nonsense_of_another_kind = { a = 1 }

[tls]
listen = ""
listen = "twice"
certificate = ["x"]
anchors = "x"

[mesh]
timeout = 90

[tls]
listen = "again"

[allow]
"estuary.v1.A" = ["x", 3]

[[profile]]
label = "a"
realms = ["A", "B", "C"]
[profile.rule]
depth = -2
[[profile]]
labell = "b"
`)
	err := config.Load(path, defaults())
	want := strings.TrimSpace(strings.ReplaceAll(`
F:1: enabled: has to be true or false, not a string
F:2: Size: keys are in lower case: write "size"
F:3: sise: there is no such key; did you mean "size"?
F:4: size: has to be between 0 and 255
F:5: timeout: there is no such key here; did you mean "mesh.timeout"?
F:6: age: has to be between 0 and 9223372036
F:7: offset: has to be a whole number, not the fraction 1.5
F:8: until: has to be a time such as 2030-01-31T00:00:00Z, without quotation marks, not a string
F:9: url: has to begin with "sqlite:" or "postgres://"
F:10: nonsense_of_another_kind: there is no such key
F:14: tls.listen: stands twice: the first is on line 13
F:15: tls.certificate: has to be a string naming a file or folder, not a list
F:16: tls.anchors: has to be a list, each a string naming a file or folder, not a string
F:19: mesh.timeout: has to be a string with a unit, such as "90s", not the bare number 90
F:21: tls: stands twice: the first is on line 12
F:25: allow."estuary.v1.A"[1]: has to be a string, not the bare number 3
F:29: profile[0].realms[2]: is one too many
F:31: profile[0].rule.depth: is -2, less than 0
F:32: profile[1].label: is missing
F:33: profile[1].labell: there is no such key; did you mean "profile[1].label"?
`, "F:", path+":"))
	if err == nil {
		t.Fatal("loaded")
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestLoadRefusesFiles(t *testing.T) {
	folder := t.TempDir()
	for name, test := range map[string]struct{ path, want string }{
		"missing":     {filepath.Join(folder, "none.toml"), "there is no such file"},
		"folder":      {folder, "not a regular file"},
		"large":       {write(t, strings.Repeat("#\n", config.MaxFile/2)+"#"), "larger than 262144 octets"},
		"not UTF-8":   {write(t, "# a\nenabled = \"\xff\""), "x.toml:2: the file is not UTF-8"},
		"not TOML":    {write(t, "# a\n\nenabled = \n"), "x.toml:3: this is not TOML: "},
		"no value":    {write(t, "enabled\n"), "x.toml:1: this is not TOML: expected '=' after key"},
		"inline grow": {write(t, "tls = {listen = 'x'}\n[tls.more]\n"), "x.toml:2: this is not TOML: "},
		"dotted grow": {write(t, "[mesh.timeout]\n[mesh]\ntimeout.a = 1\n"), "x.toml:3: this is not TOML: "},
		"huge number": {write(t, "offset = 99999999999999999999\n"), "x.toml:1: "},
		"table twice": {write(t, "[[profile]]\n[profile]\n"), "x.toml:2: profile: stands twice: the first is on line 1"},
		"list twice":  {write(t, "[tls]\n[[tls]]\n"), "x.toml:2: tls: stands twice: the first is on line 1"},
		"in a value":  {write(t, "tls = 1\n[tls.more]\nx = 1\n"), "x.toml:2: tls.more: tls is a value already, on line 1"},
		"control":     {write(t, "\"a\\u001b[0m\" = 1\n"), `x.toml:1: "a\x1b[0m": there is no such key`},
		"NUL in path": {write(t, "[tls]\ncertificate = \"a\\u0000\"\n"), "x.toml:2: tls.certificate: is not a path"},
	} {
		t.Run(name, func(t *testing.T) {
			err := config.Load(test.path, defaults())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if err := config.Load(write(t, ""), service{}); err == nil {
		t.Error("loaded into a struct that is not a pointer")
	}
}

func TestLoadKeepsDefaults(t *testing.T) {
	got := defaults()
	if err := config.Load(write(t, "# nothing\n"), got); err != nil {
		t.Fatal(err)
	}
	if got.TLS.Listen != "localhost:1" || !got.Enabled || got.Mesh.Key != "/etc/key" || got.Allow["a"] == nil {
		t.Errorf("defaults changed: %+v", got)
	}
}

// TestReportEnds has more mistakes than a report keeps.
func TestReportEnds(t *testing.T) {
	err := config.Load(write(t, strings.Repeat("enabled = true\n", 5000)), defaults())
	if err == nil {
		t.Fatal("loaded")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 101 || lines[100] != "there may be more: the rest is not shown" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}
