package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	shared "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/validator/internal/authn"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

const good = `[mesh]
listen = "127.0.0.1:9544"
certificate = "mesh.crt"
key = "mesh.key"
ca = "ca.crt"
[mesh.allow]
"estuary.validator.v1.Authenticator" = ["gateway.estuary.internal"]
"estuary.validator.v1.TokenAdmin" = ["admin.estuary.internal"]
"grpc.health.v1.Health" = ["gateway.estuary.internal", "admin.estuary.internal"]
[assertion]
key = "assertion.pem"
key_id = "validator-1"
audience = "Lab CA"
[state]
url = "sqlite:state.db"
mac_key = "mac.hex"
checkpoint_file = "checkpoint"
[otp]
enabled = true
hash_algorithm = "argon2id"
token_length = 32
max_uses = 2
validity = "90d"
realm = "LAB.TEST"
index_key = "index.hex"
match_username = "required"
[[label]]
name = "devices"
basic = "token"
[[label]]
name = "v1.devices_x~"
basic = "token"
[ops]
listen = "127.0.0.1:9555"
allow_remote = false
[log]
level = "debug"
`

func load(t *testing.T, text string) (*config.Config, string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "validator.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	return c, dir, shared.Load(path, c)
}

func TestEveryKeyIsRead(t *testing.T) {
	got, dir, err := load(t, good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) shared.Path { return shared.Path(filepath.Join(dir, name)) }
	want := &config.Config{
		Mesh: config.Mesh{
			Config: mesh.Config{Certificate: file("mesh.crt"), Key: file("mesh.key"), CA: file("ca.crt")},
			Listen: "127.0.0.1:9544",
			Allow: map[string][]string{
				"estuary.validator.v1.Authenticator": {"gateway.estuary.internal"},
				"estuary.validator.v1.TokenAdmin":    {"admin.estuary.internal"},
				"grpc.health.v1.Health":              {"gateway.estuary.internal", "admin.estuary.internal"},
			},
		},
		Assertion: config.Assertion{Key: file("assertion.pem"), KeyID: "validator-1", Audience: "Lab CA"},
		State:     config.State{URL: "sqlite:" + shared.Database(file("state.db")), MACKey: file("mac.hex"), CheckpointFile: file("checkpoint")},
		OTP: config.OTP{
			Enabled: true, HashAlgorithm: token.Argon2id, TokenLength: 32, MaxUses: 2,
			Validity: shared.Duration(90 * 24 * time.Hour), Realm: "LAB.TEST", IndexKey: file("index.hex"),
			MatchUsername: token.MatchRequired,
		},
		Labels: []config.Label{{Name: "devices", Basic: "token"}, {Name: "v1.devices_x~", Basic: "token"}},
		Ops:    run.OpsConfig{Listen: "127.0.0.1:9555"},
		Log:    run.LogConfig{Level: "debug"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rules := map[string]authn.Basic{"devices": authn.BasicToken, "v1.devices_x~": authn.BasicToken}
	if diff := cmp.Diff(rules, got.LabelRules()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	for _, row := range shared.Describe(config.Default()) {
		last := row.Key[strings.LastIndexByte(row.Key, '.')+1:]
		if !strings.Contains(good, last) && last != "*" {
			t.Errorf("the key %s is not tried", row.Key)
		}
	}
}

func TestStructs(t *testing.T) {
	for _, wrong := range shared.Lint(config.Default()) {
		t.Error(wrong)
	}
}

// The least that has to be said: everything else has a default, and it is a good one.
func TestDefaults(t *testing.T) {
	text := good
	for _, key := range []string{
		"listen", "enabled", "hash_algorithm", "token_length", "max_uses", "validity", "match_username", "allow_remote", "level",
	} {
		text = without(text, key)
	}
	c, _, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	o := c.OTP
	if !o.Enabled || o.HashAlgorithm != token.SHA256HMAC || o.TokenLength != 20 || o.MaxUses != 1 ||
		time.Duration(o.Validity) != 7*24*time.Hour || o.MatchUsername != token.MatchIfPresent {
		t.Errorf("[otp] %+v", o)
	}
	if c.Mesh.Listen != "127.0.0.1:9501" || c.Ops.Listen != "127.0.0.1:9602" || c.Log.Level != "info" {
		t.Errorf("%+v", c)
	}
}

// without drops every line that sets the key.
func without(text, key string) string {
	var kept []string
	for _, line := range strings.SplitAfter(text, "\n") {
		if !strings.HasPrefix(line, key+" =") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestTokensSwitchedOff(t *testing.T) {
	text := without(without(strings.Replace(good, "enabled = true", "enabled = false", 1), "realm"), "index_key")
	if _, _, err := load(t, text); err != nil {
		t.Error(err)
	}
}

var badFiles = []struct {
	name, old, replacement string // replacement for old, once
	want                   []string
}{
	{"empty file", good, "", []string{
		"mesh.certificate: names no file", "mesh.key: names no file", "mesh.ca: names no file",
		`mesh.allow: "estuary.validator.v1.Authenticator" is missing`, "assertion.key: names no file", "assertion.key_id: is missing",
		"assertion.audience: is missing", "state.url: is missing", "state.mac_key: names no file", "state.checkpoint_file: names no file", "otp.realm: is missing",
		"otp.index_key: names no file", "label: is missing: no credential would be accepted",
	}},
	{"unknown key", "max_uses", "max_use", []string{":22: otp.max_use"}},
	{"wrong case", "realm =", "Realm =", []string{":24: otp.Realm"}},
	{"key of a later time", "realm =", "lockout_duration = 900\nrealm =", []string{":24: otp.lockout_duration"}},
	{"repeated key", "max_uses = 2", "max_uses = 2\nmax_uses = 3", []string{":23:"}},
	{"no certificate", `"mesh.crt"`, `""`, []string{":3: mesh.certificate: names no file"}},
	{"no mesh key", `"mesh.key"`, `""`, []string{":4: mesh.key: names no file"}},
	{"no authority", `"ca.crt"`, `""`, []string{":5: mesh.ca: names no file"}},
	{"listen without port", `"127.0.0.1:9544"`, `"127.0.0.1"`, []string{`:2: mesh.listen: "127.0.0.1" is not an address and port`}},
	{"listen on no port", "9544", "70000", []string{":2: mesh.listen:"}},
	{"unknown service", "v1.TokenAdmin", "v1.TokenAdmins", []string{
		`mesh.allow: there is no service "estuary.validator.v1.TokenAdmins"`, `mesh.allow: "estuary.validator.v1.TokenAdmin" is missing`,
	}},
	{"health without list", `"grpc.health.v1.Health" = ["gateway.estuary.internal", "admin.estuary.internal"]`, "", []string{
		`mesh.allow: "grpc.health.v1.Health" is missing`,
	}},
	{"gateway may administer", `["admin.estuary.internal"]`, `["admin.estuary.internal", "gateway.estuary.internal"]`, []string{
		`mesh.allow: "gateway.estuary.internal" may call both Authenticator and TokenAdmin`,
	}},
	{"no assertion key", `"assertion.pem"`, `""`, []string{":11: assertion.key: names no file"}},
	{"no key id", `"validator-1"`, `""`, []string{":12: assertion.key_id: is missing"}},
	{"key id with line end", `"validator-1"`, `"validator\n1"`, []string{":12: assertion.key_id: has to be 1 to 255 printable octets"}},
	{"audience too long", `"Lab CA"`, `"` + strings.Repeat("a", 256) + `"`, []string{":13: assertion.audience: has to be"}},
	{"other database", `"sqlite:state.db"`, `"mysql://x"`, []string{":15: state.url: has to begin with"}},
	{"no checkpoint", `"checkpoint"`, `""`, []string{":17: state.checkpoint_file: names no file"}},
	{"no MAC key", `"mac.hex"`, `""`, []string{":16: state.mac_key: names no file"}},
	{"enabled is a string", "enabled = true", `enabled = "yes"`, []string{":19: otp.enabled"}},
	{"unknown hash", `"argon2id"`, `"md5"`, []string{`:20: otp.hash_algorithm: has to be sha256-hmac, argon2id or bcrypt, not "md5"`}},
	{"token too short", "token_length = 32", "token_length = 15", []string{":21: otp.token_length: has to be between 16 and 64, not 15"}},
	{"token too long", "token_length = 32", "token_length = 65", []string{":21: otp.token_length: has to be between 16 and 64, not 65"}},
	{"no uses", "max_uses = 2", "max_uses = 0", []string{":22: otp.max_uses: has to be between 1 and 10000, not 0"}},
	{"too many uses", "max_uses = 2", "max_uses = 10001", []string{":22: otp.max_uses: has to be between 1 and 10000, not 10001"}},
	{"uses below nothing", "max_uses = 2", "max_uses = -1", []string{":22: otp.max_uses"}},
	{"validity without unit", `"90d"`, "90", []string{":23: otp.validity"}},
	{"validity too short", `"90d"`, `"59s"`, []string{":23: otp.validity: has to be between 1m and 3653d, not 59s"}},
	{"validity too long", `"90d"`, `"3653d1s"`, []string{":23: otp.validity: has to be between 1m and 3653d, not 3653d1s"}},
	{"no realm", `"LAB.TEST"`, `""`, []string{":24: otp.realm: is missing"}},
	{"no index key", `"index.hex"`, `""`, []string{":25: otp.index_key: names no file"}},
	{"unknown match", `"required"`, `"sometimes"`, []string{`:26: otp.match_username: has to be if-present, required or ignored, not "sometimes"`}},
	{"label without name", `"devices"`, `""`, []string{":28: label[0].name: is missing"}},
	{"label with slash", `"devices"`, `"a/b"`, []string{":28: label[0].name: has to be 1 to 64"}},
	{"label too long", `"devices"`, `"` + strings.Repeat("a", 65) + `"`, []string{":28: label[0].name: has to be 1 to 64"}},
	{"label twice", `"v1.devices_x~"`, `"devices"`, []string{":31: label[1].name: another label has this name"}},
	{"label without rule", "basic = \"token\"\n[ops]", "[ops]", []string{`label[1].basic: has to be "token", not ""`}},
	{"rule that is not built", "basic = \"token\"\n[ops]", "basic = \"directory\"\n[ops]", []string{`:32: label[1].basic: has to be "token", not "directory"`}},
	{"operators' listener open", `"127.0.0.1:9555"`, `"0.0.0.0:9555"`, []string{":34: ops.listen: 0.0.0.0:9555 can be reached from other machines"}},
	{"unknown level", `"debug"`, `"loud"`, []string{":37: log.level: has to be debug, info, warn or error"}},
}

func TestBadFiles(t *testing.T) {
	for _, c := range badFiles {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.replacement, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			_, _, err := load(t, text)
			var report *shared.Report
			if !errors.As(err, &report) {
				t.Fatalf("no report but %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in:\n%v", want, err)
				}
			}
		})
	}
}
