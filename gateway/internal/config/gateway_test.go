package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	gatewayconfig "github.com/estuary-pki/estuary/gateway/internal/config"
	"github.com/estuary-pki/estuary/gateway/internal/est"
	"github.com/estuary-pki/estuary/services/config"
)

// smallest is a gateway.toml with what has no default.
const smallest = `
[tls]
certificate = "tls.crt"
key = "tls.key"
[mesh]
certificate = "mesh.crt"
key = "mesh.key"
ca = "ca.crt"
[validator]
target = "127.0.0.1:9501"
[signer]
target = "127.0.0.1:9502"
`

// loadGateway loads smallest with lines in front (keys of tables it does not have) and changes.
func loadGateway(t *testing.T, more string, changes ...string) (*gatewayconfig.Gateway, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway.toml")
	text := strings.NewReplacer(changes...).Replace(smallest) + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := gatewayconfig.DefaultGateway()
	return g, config.Load(path, g)
}

func TestGatewayDefaults(t *testing.T) {
	g, err := loadGateway(t, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []est.Label{{Name: "device", Layout: est.LayoutAuto}}
	if diff := cmp.Diff(want, g.Labels()); diff != "" {
		t.Error(diff)
	}
	limits := accept.Limits{Connections: 3072, PerAddress: 256, Read: 5 * time.Second, Request: 20 * time.Second, Idle: 30 * time.Second}
	if diff := cmp.Diff(limits, g.Limits.Accept()); diff != "" {
		t.Error(diff)
	}
	if !filepath.IsAbs(string(g.TLS.Key)) || time.Duration(g.Refusal.Floor) != 1500*time.Millisecond {
		t.Errorf("key %s, floor %s", g.TLS.Key, g.Refusal.Floor)
	}
}

func TestGatewayKeys(t *testing.T) {
	g, err := loadGateway(t, `
[est]
default_label = "phones"
[[label]]
name = "phones"
base64 = "oneline"
[[label]]
name = "servers"
[refusal]
floor = "2s"
[limits]
connections = 10
connections_per_address = 5
read_header_timeout = "2s"
request_timeout = "15s"
idle_timeout = "3s"
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []est.Label{{Name: "phones", Layout: est.LayoutOneline}, {Name: "servers", Layout: est.LayoutAuto}}
	if diff := cmp.Diff(want, g.Labels()); diff != "" {
		t.Error(diff)
	}
	limits := accept.Limits{Connections: 10, PerAddress: 5, Read: 2 * time.Second, Request: 15 * time.Second, Idle: 3 * time.Second}
	if diff := cmp.Diff(limits, g.Limits.Accept()); diff != "" {
		t.Error(diff)
	}
	if time.Duration(g.Refusal.Floor) != 2*time.Second {
		t.Errorf("floor %s", g.Refusal.Floor)
	}
}

func TestClientAuth(t *testing.T) {
	g, err := loadGateway(t, "[tls.client_auth]\nmode = \"required\"\ntrust_anchors = \"a.pem\"\n")
	if err != nil || g.TLS.ClientAuth.Mode != accept.ModeRequired || filepath.Base(string(g.TLS.ClientAuth.TrustAnchors)) != "a.pem" || !filepath.IsAbs(string(g.TLS.ClientAuth.TrustAnchors)) {
		t.Errorf("%+v, %v", g.TLS.ClientAuth, err)
	}
	if g, err = loadGateway(t, ""); err != nil || g.TLS.ClientAuth.Mode != accept.ModeOptional {
		t.Errorf("by default %+v, %v", g.TLS.ClientAuth, err)
	}
}

func TestGatewayRefuses(t *testing.T) {
	cases := []struct{ more, want string }{
		{"[est]\ndefault_label = \"cacerts\"\n", "est.default_label: is the name of an EST operation"},
		{"[[label]]\nname = \"a/b\"\n", "label[0].name: may hold letters"},
		{"[[label]]\nbase64 = \"auto\"\n", "label[0].name: is missing"},
		{"[[label]]\nname = \"a\"\nbase64 = \"wide\"\n", "label[0].base64: has to be auto, lines or oneline"},
		{"[[label]]\nname = \"a\"\n[[label]]\nname = \"a\"\n", "a stands there twice"},
		{"[refusal]\nfloor = \"11s\"\n", "refusal.floor: is 11s, but has to be at most 10s"},
		{"[limits]\nconnections = 0\n", "limits.connections: is 0"},
		{"[limits]\nconnections_per_address = 5000\n", "limits.connections_per_address: is 5000"},
		{"[limits]\nread_header_timeout = \"2m\"\n", "limits.read_header_timeout: is 2m"},
		{"[limits]\nrequest_timeout = \"500ms\"\n", "limits.request_timeout: is 500ms"},
		{"[limits]\nrequest_timeout = \"9s\"\n", "timeouts of validator and signer take 10s together"},
		{"[limits]\nidle_timeout = \"1h\"\n", "limits.idle_timeout: is 1h"},
		{"[ops]\nlisten = \":8443\"\n", "ops.listen"},
		{"[tls.client_auth]\nmode = \"sometimes\"\n", "tls.client_auth.mode: has to be optional, required_for_reenroll, required or none"},
		{"[tls.client_auth]\nmode = \"none\"\ntrust_anchors = \"a.pem\"\n", "tls.client_auth.trust_anchors: means nothing"},
	}
	for _, c := range cases {
		if _, err := loadGateway(t, c.more); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.more, err, c.want)
		}
	}
	for _, line := range []string{`certificate = "tls.crt"`, `key = "tls.key"`, `target = "127.0.0.1:9501"`} {
		if _, err := loadGateway(t, "", line, ""); err == nil {
			t.Errorf("a file without %s was accepted", line)
		}
	}
	for target, want := range map[string]string{
		"127.0.0.1":                   `validator.target: has to be an address and a port, such as "127.0.0.1:9501", or several, comma-separated: "127.0.0.1" is not`,
		"127.0.0.1:9501,":             `validator.target: has to be an address and a port, such as "127.0.0.1:9501", or several, comma-separated: "" is not`,
		"127.0.0.1:9501,a.test:0":     `"a.test:0" has no port between 1 and 65535`,
		"a.test:1, b.test:1,a.test:1": `"a.test:1" stands there twice`,
	} {
		if _, err := loadGateway(t, "", "127.0.0.1:9501", target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("target %q: %v, want %s", target, err, want)
		}
	}
	if _, err := loadGateway(t, "", "127.0.0.1:9502", "127.0.0.1:9502, signer-2.test:9502,[::1]:9502"); err != nil {
		t.Errorf("several targets: %v", err)
	}
	if _, err := loadGateway(t, "", "[tls]", "[tls]\nlisten = \"localhost\""); err == nil || !strings.Contains(err.Error(), "tls.listen") {
		t.Errorf("a listener without a port: %v", err)
	}
}

// The file that is shipped loads.
func TestGatewayExample(t *testing.T) {
	g := gatewayconfig.DefaultGateway()
	if err := config.Load("../../../deploy/config/gateway.toml", g); err != nil {
		t.Error(err)
	}
}
