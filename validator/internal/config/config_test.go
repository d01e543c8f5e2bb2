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
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
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
max_failures = 5
failure_window = 60
lockout_duration = 120
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

// accounts is what a directory needs beside that.
const accounts = `
[directory]
servers = ["ldaps://ipa1.lab.test", "ldap://ipa2.lab.test:1389"]
realm = "LAB.TEST"
base_dn = "dc=lab,dc=test"
ca = "ipa.crt"
certificate = "ldap.crt"
key = "ldap.key"
bind_dn = "uid=estuary,cn=sysaccounts,cn=etc,dc=lab,dc=test"
password_file = "ldap.password"
principal_attribute = "uid"
otp_required_control = false
otp_evidence = "(objectClass=oathTOTPUser)"
check_password_expiration = true
groups = ["vpn"]
timeout = "3s"
pool = 4
[one_time]
spend_keys = ["spend.hex"]
[[radius]]
servers = ["radius1", "radius2:1645"]
filter = "(objectClass=person)"
secret = "radius.secret"
transport = "udp"
allow_unsigned = true
timeout = "5s"
retries = 2
[[radius]]
servers = ["radius3"]
transport = "tls"
ca = "radius.ca"
certificate = "radius.crt"
key = "radius.key"
[radius_client]
nas_identifier = "est.lab.test"
challenge_separator = "//"
[gssapi]
enabled = true
keytab = "http.keytab"
service_principal = "HTTP/est.lab.test@LAB.TEST"
aliases = ["HTTP/est-1.lab.test@LAB.TEST"]
realms = ["LAB.TEST", "OTHER.TEST"]
clock_skew = "90s"
channel_bindings = "required"
keep_removed_keys = "12h"
[otpd]
listen = "unix:/run/estuary/otpd"
timeout = "9s"
[throttle]
account_max_failures = 3
account_interval = "2m"
ignore_policy = true
network_max_failures = 30
network_window = "1m"
network_lockout = "3m"
global_max_failures = 300
global_window = "4m"
global_lockout = "10s"
ipv4_prefix = 24
ipv6_prefix = 56
[[label]]
name = "users"
basic = "token-then-directory"
accept_password = true
directory_check = "if-reachable"
[[label]]
name = "tickets"
basic = "none"
negotiate = true
certificate = true
renew_expired = "7d"
manufacturers = ["acme"]
[certificates]
trust_anchors = "own.pem"
[[manufacturer]]
name = "acme"
trust_anchors = "acme.pem"
realm = "ACME.TEST"
principal = "commonName"
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
	got, dir, err := load(t, good+accounts)
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
			MatchUsername: token.MatchRequired, MaxFailures: 5, FailureWindow: 60, LockoutDuration: 120,
		},
		Directory: config.Directory{
			Servers: []string{"ldaps://ipa1.lab.test", "ldap://ipa2.lab.test:1389"}, Realm: "LAB.TEST", BaseDN: "dc=lab,dc=test",
			CA: file("ipa.crt"), Certificate: file("ldap.crt"), Key: file("ldap.key"),
			BindDN: "uid=estuary,cn=sysaccounts,cn=etc,dc=lab,dc=test", PasswordFile: file("ldap.password"),
			PrincipalAttribute: "uid", OTPEvidence: "(objectClass=oathTOTPUser)", CheckPasswordExpiration: true,
			Groups: []string{"vpn"}, Timeout: shared.Duration(3 * time.Second), Pool: 4,
		},
		OneTime: config.OneTime{SpendKeys: []shared.Path{file("spend.hex")}},
		RADIUS: []config.RADIUS{
			{
				Servers: []string{"radius1", "radius2:1645"}, Filter: "(objectClass=person)", Secret: file("radius.secret"), Transport: "udp",
				AllowUnsigned: true, Timeout: shared.Duration(5 * time.Second), Retries: 2,
			},
			{
				Servers: []string{"radius3"}, Transport: "tls", CA: file("radius.ca"), Certificate: file("radius.crt"), Key: file("radius.key"),
				Timeout: shared.Duration(15 * time.Second), Retries: 3,
			},
		},
		Client: config.RADIUSClient{NASIdentifier: "est.lab.test", Separator: "//"},
		GSSAPI: config.GSSAPI{
			Enabled: true, Keytab: file("http.keytab"), ServicePrincipal: "HTTP/est.lab.test@LAB.TEST",
			Aliases: []string{"HTTP/est-1.lab.test@LAB.TEST"}, Realms: []string{"LAB.TEST", "OTHER.TEST"},
			ClockSkew: shared.Duration(90 * time.Second), ChannelBindings: kerberos.BindingsRequired, KeepRemovedKeys: shared.Duration(12 * time.Hour),
		},
		OTPD: config.OTPD{Listen: "unix:/run/estuary/otpd", Timeout: shared.Duration(9 * time.Second)},
		Throttle: config.Throttle{
			AccountMaxFailures: 3, AccountInterval: shared.Duration(2 * time.Minute), IgnorePolicy: true,
			NetworkMaxFailures: 30, NetworkWindow: shared.Duration(time.Minute), NetworkLockout: shared.Duration(3 * time.Minute),
			GlobalMaxFailures: 300, GlobalWindow: shared.Duration(4 * time.Minute), GlobalLockout: shared.Duration(10 * time.Second),
			IPv4Prefix: 24, IPv6Prefix: 56,
		},
		Labels: []config.Label{
			{Name: "devices", Basic: "token", DirectoryCheck: "none"},
			{Name: "v1.devices_x~", Basic: "token", DirectoryCheck: "none"},
			{Name: "users", Basic: "token-then-directory", AcceptPassword: true, DirectoryCheck: "if-reachable"},
			{
				Name: "tickets", Basic: "none", Negotiate: true, DirectoryCheck: "none",
				Certificate: true, RenewExpired: shared.Duration(7 * 24 * time.Hour), Manufacturers: []string{"acme"},
			},
		},
		Certificates:  config.Certificates{TrustAnchors: file("own.pem")},
		Manufacturers: []config.Manufacturer{{Name: "acme", TrustAnchors: file("acme.pem"), Realm: "ACME.TEST", Principal: clientcert.CommonName}},
		Ops:           run.OpsConfig{Listen: "127.0.0.1:9555"},
		Log:           run.LogConfig{Level: "debug"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rules := map[string]authn.Rule{
		"devices": {Basic: authn.BasicToken, Check: authn.CheckNone}, "v1.devices_x~": {Basic: authn.BasicToken, Check: authn.CheckNone},
		"users": {Basic: authn.BasicTokenThenDirectory, AcceptPassword: true, Check: authn.CheckIfReachable},
		"tickets": {
			Basic: authn.BasicNone, Negotiate: true, Check: authn.CheckNone,
			Certificates: clientcert.Rule{Authorities: []string{clientcert.Own, "acme"}, Grace: 7 * 24 * time.Hour},
		},
	}
	if diff := cmp.Diff(rules, got.LabelRules()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	judges := clientcert.Config{
		Authority:     filepath.Join(dir, "own.pem"),
		Manufacturers: []clientcert.Manufacturer{{Name: "acme", Anchors: filepath.Join(dir, "acme.pem"), Realm: "ACME.TEST", Principal: clientcert.CommonName}},
	}
	if diff := cmp.Diff(judges, got.Verifier()); diff != "" {
		t.Errorf("certificates (-want +got):\n%s", diff)
	}
	for _, row := range shared.Describe(config.Default()) {
		last := row.Key[strings.LastIndexByte(row.Key, '.')+1:]
		if !strings.Contains(good+accounts, last) && last != "*" {
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

// badFile is a mistake, and what is said of it.
type badFile struct {
	name, old, replacement string // replacement for old, once
	want                   []string
}

var badFiles = []badFile{
	{"empty file", good, "", []string{
		"mesh.certificate: names no file", "mesh.key: names no file", "mesh.ca: names no file",
		`mesh.allow: "estuary.validator.v1.Authenticator" is missing`, "assertion.key: names no file", "assertion.key_id: is missing",
		"assertion.audience: is missing", "state.url: is missing", "state.mac_key: names no file", "state.checkpoint_file: names no file", "otp.realm: is missing",
		"otp.index_key: names no file", "label: is missing: no credential would be accepted",
	}},
	{"unknown key", "max_uses", "max_use", []string{":22: otp.max_use"}},
	{"wrong case", "realm =", "Realm =", []string{":24: otp.Realm"}},
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
	{"label without name", `"devices"`, `""`, []string{":31: label[0].name: is missing"}},
	{"label with slash", `"devices"`, `"a/b"`, []string{":31: label[0].name: has to be 1 to 64"}},
	{"label too long", `"devices"`, `"` + strings.Repeat("a", 65) + `"`, []string{":31: label[0].name: has to be 1 to 64"}},
	{"label twice", `"v1.devices_x~"`, `"devices"`, []string{":34: label[1].name: another label has this name"}},
	{"label without rule", "basic = \"token\"\n[ops]", "[ops]", []string{`label[1].basic: has to be "token", "directory", "token-then-directory" or "none", not ""`}},
	{"no directory", "basic = \"token\"\n[ops]", "basic = \"directory\"\n[ops]", []string{`:35: label[1].basic: "directory" needs [directory] servers`}},
	{"nothing to check by", "basic = \"token\"\n[ops]", "basic = \"token\"\ndirectory_check = \"required\"\n[ops]", []string{`:36: label[1].directory_check: "required" needs [directory] servers`}},
	{"password for tokens", "basic = \"token\"\n[ops]", "basic = \"token\"\naccept_password = true\n[ops]", []string{`:36: label[1].accept_password: means nothing`}},
	{"no failures", "max_failures = 5", "max_failures = 0", []string{":27: otp.max_failures: has to be at least 1, not 0"}},
	{"no lockout", "lockout_duration = 120", "lockout_duration = 0", []string{":29: otp.lockout_duration: has to be at least 1, not 0"}},
	{"operators' listener open", `"127.0.0.1:9555"`, `"0.0.0.0:9555"`, []string{":37: ops.listen: 0.0.0.0:9555 can be reached from other machines"}},
	{"unknown level", `"debug"`, `"loud"`, []string{":40: log.level: has to be debug, info, warn or error"}},
}

// badAccounts are mistakes in what a directory needs, and in what else the good file leaves out.
var badAccounts = []badFile{
	{"certificates of nobody", `"own.pem"`, `""`, []string{"label[3].certificate: needs [certificates] trust_anchors"}},
	{"no such manufacturer", `["acme"]`, `["acne"]`, []string{`label[3].manufacturers: there is no manufacturer "acne"`}},
	{"manufacturer twice", `["acme"]`, `["acme", "acme"]`, []string{`label[3].manufacturers: holds "acme" twice`}},
	{"grace too long", `"7d"`, `"91d"`, []string{"label[3].renew_expired: has to be at most 90d"}},
	{"grace for nothing", "certificate = true\n", "", []string{"label[3].renew_expired: is for certificates of the authority"}},
	{"manufacturer without name", `name = "acme"`, `name = ""`, []string{`manufacturer[0].name: has to be a word other than "authority"`}},
	{"manufacturer with our name", `name = "acme"`, `name = "authority"`, []string{"manufacturer[0].name: has to be a word"}},
	{"manufacturer without anchors", `"acme.pem"`, `""`, []string{"manufacturer[0].trust_anchors: names no file"}},
	{"manufacturer without realm", `"ACME.TEST"`, `""`, []string{"manufacturer[0].realm: is missing"}},
	{"realm with an @", `"ACME.TEST"`, `"A@B"`, []string{"manufacturer[0].realm: has an @"}},
	{"unknown attribute", `"commonName"`, `"uid"`, []string{`manufacturer[0].principal: has to be serialNumber or commonName, not "uid"`}},
	{"two manufacturers", "[certificates]", "[[manufacturer]]\nname = \"acme\"\ntrust_anchors = \"a\"\nrealm = \"A\"\n[certificates]", []string{"manufacturer[1].name: another manufacturer has this name"}},
	{"server without scheme", `"ldaps://ipa1.lab.test"`, `"ipa1.lab.test"`, []string{"directory.servers: ", "ipa1.lab.test"}},
	{"no realm", "realm = \"LAB.TEST\"\nbase_dn", "base_dn", []string{"directory.realm: is missing"}},
	{"bad base", `"dc=lab,dc=test"`, `"lab.test"`, []string{"directory.base_dn: "}},
	{"certificate without key", "key = \"ldap.key\"\n", "", []string{"directory.key: goes with certificate"}},
	{"account without password", "password_file = \"ldap.password\"\n", "", []string{"directory.password_file: goes with bind_dn"}},
	{"nobody to bind as", "certificate = \"ldap.crt\"\nkey = \"ldap.key\"\nbind_dn = \"uid=estuary,cn=sysaccounts,cn=etc,dc=lab,dc=test\"\npassword_file = \"ldap.password\"\n", "", []string{"directory.bind_dn: is missing, and so is a certificate"}},
	{"evidence beside the control", "otp_required_control = false", "otp_required_control = true", []string{"directory.otp_evidence: means nothing"}},
	{"evidence that is no filter", `"(objectClass=oathTOTPUser)"`, `"objectClass=)"`, []string{"directory.otp_evidence: "}},
	{"no time", `timeout = "3s"`, `timeout = "1ms"`, []string{"directory.timeout: has to be between 100ms and 20s, not 1ms"}},
	{"no pool", "pool = 4", "pool = 0", []string{"directory.pool: has to be between 1 and 64, not 0"}},
	{"no spend key", `["spend.hex"]`, "[]", []string{"one_time.spend_keys: has to name one file, or two while the key is being changed, not 0"}},
	{"three spend keys", `["spend.hex"]`, `["a", "b", "c"]`, []string{"one_time.spend_keys: has to name one file, or two while the key is being changed, not 3"}},
	{"no RADIUS server", `servers = ["radius3"]`, "servers = []", []string{"radius[1].servers: is missing"}},
	{"filter that is none", `"(objectClass=person)"`, `"objectClass"`, []string{"radius[0].filter: is not an LDAP filter"}},
	{"no secret", "secret = \"radius.secret\"\n", "", []string{"radius[0].secret: names no file"}},
	{"unknown transport", `"udp"`, `"tcp"`, []string{`radius[0].transport: has to be "udp" or "tls", not "tcp"`}},
	{"udp with certificate", `allow_unsigned = true`, "certificate = \"x.crt\"", []string{"radius[0].certificate: means nothing"}},
	{"tls without key", "key = \"radius.key\"\n", "", []string{"radius[1].key: names no file"}},
	{"tls with secret", "key = \"radius.key\"", "key = \"radius.key\"\nsecret = \"x\"\nallow_unsigned = true", []string{"radius[1].secret: means nothing", "radius[1].allow_unsigned: means nothing"}},
	{"RADIUS too slow", `timeout = "5s"`, `timeout = "26s"`, []string{"radius[0].timeout: has to be between 1s and 25s, not 26s"}},
	{"too many retries", "retries = 2", "retries = 11", []string{"radius[0].retries: has to be between 0 and 10, not 11"}},
	{"long separator", `"//"`, `"/////////"`, []string{"radius_client.challenge_separator: has 9 octets: at most 8"}},
	{"long name", `"est.lab.test"`, `"` + strings.Repeat("a", 254) + `"`, []string{"radius_client.nas_identifier: has 254 octets"}},
	{"socket by TCP", `"unix:/run/estuary/otpd"`, `"127.0.0.1:1812"`, []string{"otpd.listen: has to be unix: and an absolute path"}},
	{"relative socket", `"unix:/run/estuary/otpd"`, `"unix:otpd"`, []string{"otpd.listen: has to be unix: and an absolute path"}},
	{"KDC waits for ever", `timeout = "9s"`, `timeout = "6m"`, []string{"otpd.timeout: has to be between 1s and 5m, not 6m"}},
	{"account limit of nothing", "account_max_failures = 3", "account_max_failures = 0", []string{"throttle.account_max_failures: has to be at least 1"}},
	{"window of nothing", `network_window = "1m"`, `network_window = "0s"`, []string{"throttle.network_window: has to be between 1s and 1d, not 0s"}},
	{"one network for all", "ipv4_prefix = 24", "ipv4_prefix = 0", []string{"throttle.ipv4_prefix: has to be between 8 and 32, not 0"}},
	{"networks beyond addresses", "ipv6_prefix = 56", "ipv6_prefix = 129", []string{"throttle.ipv6_prefix: has to be between 16 and 128, not 129"}},
	{"unknown check", `"if-reachable"`, `"sometimes"`, []string{`label[2].directory_check: has to be "none", "if-reachable" or "required", not "sometimes"`}},
	{"check of accounts", `"token-then-directory"`, `"directory"`, []string{"label[2].directory_check: is for enrolment tokens and tickets"}},
	{"no keytab", "keytab = \"http.keytab\"\n", "", []string{"gssapi.keytab: names no file"}},
	{"no service principal", "service_principal = \"HTTP/est.lab.test@LAB.TEST\"\n", "", []string{"gssapi.service_principal: is missing"}},
	{"service principal without realm", `"HTTP/est.lab.test@LAB.TEST"`, `"HTTP/est.lab.test"`, []string{`gssapi.service_principal: has to be service/host@REALM, not "HTTP/est.lab.test"`}},
	{"alias that is no service", `["HTTP/est-1.lab.test@LAB.TEST"]`, `["alice@LAB.TEST"]`, []string{`gssapi.aliases[0]: has to be service/host@REALM`}},
	{"alias twice", `["HTTP/est-1.lab.test@LAB.TEST"]`, `["HTTP/est.lab.test@LAB.TEST"]`, []string{"gssapi.aliases[0]: ", "stands there twice"}},
	{"realm that is none", `"OTHER.TEST"`, `"a@b"`, []string{"gssapi.realms[1]: "}},
	{"skew of an hour", `"90s"`, `"1h"`, []string{"gssapi.clock_skew: has to be between 1s and 5m, not 1h"}},
	{"unknown binding", `"required"`, `"perhaps"`, []string{`gssapi.channel_bindings: has to be "absent-ok", "required" or "off", not "perhaps"`}},
	{"keys kept for ever", `"12h"`, `"31d"`, []string{"gssapi.keep_removed_keys: has to be between 0s and 30d, not 31d"}},
	{"tickets switched off", "[gssapi]\nenabled = true", "[gssapi]\nenabled = false", []string{"label[3].negotiate: needs [gssapi] enabled"}},
	{"label of nothing", "negotiate = true\n", "", []string{`label[3].basic: "none" needs negotiate = true`}},
	{"password for tickets", "negotiate = true", "negotiate = true\naccept_password = true", []string{`label[3].accept_password: means nothing with basic = "none"`}},
	{"RADIUS without directory", "servers = [\"ldaps://ipa1.lab.test\", \"ldap://ipa2.lab.test:1389\"]\n", "", []string{
		"radius: needs [directory] servers", "otpd.listen: needs [directory] servers", "label[2].basic: ",
	}},
}

func TestBadFiles(t *testing.T) {
	for _, c := range badFiles {
		t.Run(c.name, func(t *testing.T) { refused(t, good, c) })
	}
	for _, c := range badAccounts {
		t.Run(c.name, func(t *testing.T) { refused(t, good+"# accounts\n"+accounts, c) })
	}
}

// refused demands that the file is refused with everything that the case wants.
func refused(t *testing.T, file string, c badFile) {
	t.Helper()
	before, after, _ := strings.Cut(file, "# accounts\n")
	text := strings.Replace(before, c.old, c.replacement, 1)
	if after != "" {
		text = before + strings.Replace(after, c.old, c.replacement, 1)
	}
	if text == file || after != "" && text == before+after {
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
}
