package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/config"
	services "github.com/estuary-pki/estuary/services/config"
)

const (
	hashA = "sha256:0a00000000000000000000000000000000000000000000000000000000000000"
	hashB = "sha256:0b00000000000000000000000000000000000000000000000000000000000000"
)

// adminFile has every key of admin.toml.
const adminFile = `[admin]
listen = "127.0.0.1:1"
[admin.tls]
certificate = "tls.crt"
key = "tls.key"
client_ca = "ca.crt"
client_names = ["alice.test"]
[admin.bearer_token]
tokens = [
  { token_hash = "` + hashA + `", description = "ci", scopes = ["otp:write", "otp:read"] },
  { token_hash = "` + hashB + `", description = "auditor", scopes = ["certs:read"] },
]
[mesh]
certificate = "m.crt"
key = "m.key"
ca = "m-ca.crt"
[validator]
target = "127.0.0.1:2"
name = "v.test"
timeout = "3s"
[signer]
target = "127.0.0.1:3"
name = "s.test"
timeout = "250ms"
[ops]
listen = "127.0.0.1:4"
[log]
level = "debug"
`

func load(t *testing.T, content string) (*config.Admin, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	a := config.DefaultAdmin()
	return a, filepath.Dir(path), services.Load(path, a)
}

func TestAdminTags(t *testing.T) {
	if wrong := services.Lint(config.DefaultAdmin()); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
}

func TestAdminLoads(t *testing.T) {
	got, folder, err := load(t, adminFile)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) services.Path { return services.Path(filepath.Join(folder, name)) }
	want := config.DefaultAdmin()
	want.API = config.AdminAPI{
		Listen: "127.0.0.1:1",
		TLS:    config.AdminTLS{Certificate: in("tls.crt"), Key: in("tls.key"), ClientCA: in("ca.crt"), ClientNames: []string{"alice.test"}},
		BearerToken: config.AdminBearer{Tokens: []config.AdminToken{
			{TokenHash: config.TokenHash{10}, Description: "ci", Scopes: []config.Scope{config.ScopeOTPWrite, config.ScopeOTPRead}},
			{TokenHash: config.TokenHash{11}, Description: "auditor", Scopes: []config.Scope{config.ScopeCertsRead}},
		}},
	}
	want.Mesh.Certificate, want.Mesh.Key, want.Mesh.CA = in("m.crt"), in("m.key"), in("m-ca.crt")
	want.Validator = config.Peer{Target: "127.0.0.1:2", Name: "v.test", Timeout: services.Duration(3 * time.Second)}
	want.Signer = config.Peer{Target: "127.0.0.1:3", Name: "s.test", Timeout: services.Duration(250 * time.Millisecond)}
	want.Ops.Listen, want.Log.Level = "127.0.0.1:4", "debug"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestAdminDefaults(t *testing.T) {
	got, _, err := load(t, `[admin.tls]
certificate = "tls.crt"
key = "tls.key"
[admin.bearer_token]
tokens = [{ token_hash = "`+hashA+`", description = "ci", scopes = ["otp:read"] }]
[mesh]
certificate = "m.crt"
key = "m.key"
ca = "m-ca.crt"
[validator]
target = "v:1"
[signer]
target = "s:1"
`)
	if err != nil {
		t.Fatal(err)
	}
	if got.API.Listen != "localhost:9443" || got.Validator.Name != "validator.estuary.internal" ||
		got.Signer.Timeout != services.Duration(5*time.Second) || got.Log.Level != "info" {
		t.Errorf("%+v", got)
	}
}

// TestAdminRules changes one thing of a good file, and expects one problem.
func TestAdminRules(t *testing.T) {
	const clients = "client_ca = \"ca.crt\"\nclient_names = [\"alice.test\"]\n"
	tokens := adminFile[strings.Index(adminFile, "tokens = ["):strings.Index(adminFile, "[mesh]")]
	for name, test := range map[string]struct{ old, with, want string }{
		"nobody":             {clients + "[admin.bearer_token]\n" + tokens, "", "1: admin: lets nobody in: "},
		"nobody, empty list": {clients + "[admin.bearer_token]\n" + tokens, "[admin.bearer_token]\ntokens = []\n", "1: admin: lets nobody in: "},
		"names missing":      {`client_names = ["alice.test"]`, "", "3: admin.tls.client_names: is missing"},
		"names alone":        {`client_ca = "ca.crt"`, "", "7: admin.tls.client_names: does nothing"},
		"name empty":         {`"alice.test"`, `""`, "7: admin.tls.client_names: has \"\""},
		"wildcard":           {"alice.test", "*.test", "7: admin.tls.client_names: has \"*.test\""},
		"no certificate":     {`certificate = "tls.crt"`, "", "3: admin.tls.certificate: is missing"},
		"no key":             {`key = "tls.key"`, "", "3: admin.tls.key: is missing"},
		"listen":             {"127.0.0.1:1\"", "localhost\"", "2: admin.listen: has to be an address and a port"},
		"hash in base64":     {hashA, "sha256:CgAAAA==", "10: admin.bearer_token.tokens[0].token_hash: has to be \"sha256:\""},
		"hash alone":         {hashA, hashA[7:], "10: admin.bearer_token.tokens[0].token_hash: has to be \"sha256:\""},
		"no hash":            {`token_hash = "` + hashA + `", `, "", "10: admin.bearer_token.tokens[0].token_hash: is missing"},
		"hash and its file":  {`token_hash = "` + hashA, `token_hash_file = "token.hash", token_hash = "` + hashA, "10: admin.bearer_token.tokens[0].token_hash_file: goes without token_hash"},
		"hash twice":         {hashB, hashA, "9: admin.bearer_token.tokens: has the token hash " + hashA + " twice"},
		"no description":     {`description = "ci", `, "", "10: admin.bearer_token.tokens[0].description: has to be"},
		"description twice":  {`"auditor"`, `"ci"`, "9: admin.bearer_token.tokens: has the description \"ci\""},
		"description a name": {`"auditor"`, `"alice.test"`, "9: admin.bearer_token.tokens: has the description \"alice.test\""},
		"scope unknown":      {`"certs:read"`, `"certs:shred"`, "11: admin.bearer_token.tokens[1].scopes: has \"certs:shred\"; there are"},
		"scope twice":        {`"otp:write", "otp:read"`, `"otp:read", "otp:read"`, "10: admin.bearer_token.tokens[0].scopes: has \"otp:read\" twice"},
		"no scope":           {`["certs:read"]`, `[]`, "11: admin.bearer_token.tokens[1].scopes: is missing"},
		"no target":          {`target = "127.0.0.1:2"`, "", "17: validator.target: has to be"},
		"target, no host":    {"127.0.0.1:3", ":3", "22: signer.target: has to be"},
		"no name":            {`"v.test"`, `""`, "19: validator.name: is missing"},
		"timeout":            {`"3s"`, `"31s"`, "20: validator.timeout: is 31s, but has to be between 200ms and 30s"},
		"timeout zero":       {`"250ms"`, `"0s"`, "24: signer.timeout: is 0s"},
		"ports":              {"127.0.0.1:4", "127.0.0.1:1", "26: ops.listen: is the address of the admin API"},
		"ops for all":        {"127.0.0.1:4", "0.0.0.0:4", "26: ops.listen: "},
		"level":              {"debug", "loud", "28: log.level: "},
		"mesh":               {`ca = "m-ca.crt"`, "", "13: mesh.ca: "},
		"misspelt":           {"client_names", "client_name", "7: admin.tls.client_name: there is no such key; did you mean \"admin.tls.client_names\"?"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(adminFile, test.old) {
				t.Fatalf("%q is not in the file", test.old)
			}
			_, folder, err := load(t, strings.Replace(adminFile, test.old, test.with, 1))
			report := (*services.Report)(nil)
			if !errors.As(err, &report) {
				t.Fatalf("error %v", err)
			}
			want := filepath.Join(folder, "admin.toml") + ":" + test.want
			found := false
			for _, p := range report.Problems() {
				found = found || strings.HasPrefix(p.String(), want)
			}
			if !found || len(report.Problems()) > 1 && name != "misspelt" {
				t.Errorf("%v\nwant one that begins %s", err, want)
			}
		})
	}
}
