package config_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/config"
)

// good is a file with every table in it.
const good = `
[mesh]
listen = "127.0.0.1:9502"
certificate = "mesh/signer.crt"
key = "mesh/signer.key"
ca = "mesh/ca.crt"
[mesh.allow]
"estuary.signer.v1.Issuer" = ["gateway.estuary.internal"]
"estuary.signer.v1.Authority" = ["gateway.estuary.internal", "admin.estuary.internal"]
"estuary.signer.v1.LedgerAdmin" = ["admin.estuary.internal"]
"grpc.health.v1.Health" = []
[ca]
name = "example-ca"
certificate = "ca.crt"
key = "ca.key"
passphrase = "ca.passphrase"
chain = "chain.crt"
published_as = "example-ca-2"
announce = "rollover.pem"
[[former_ca]]
published_as = "example-ca"
certificate = "old.crt"
key = "old.key"
passphrase = "old.passphrase"
chain = "old-chain.crt"
distribution_points = ["http://crl.example.test/crl/old.crl"]
[ledger]
url = "sqlite:ledger.db"
mac_key = "mac.key"
checkpoint_file = "checkpoint"
[crl]
next_update = "12h"
distribution_points = ["http://crl.example.test/crl/example-ca.crl"]
[ocsp]
next_update = "2h"
[[validator]]
name = "validator.estuary.internal"
key_id = "v1"
public_key = "v1.pub"
not_after = 2028-01-01T00:00:00Z
methods = ["token"]
realms = ["DEVICES"]
[protected]
principals = ["admin"]
names = ["dns:ipa.example.test"]
[[profile]]
label = "device"
realms = ["DEVICES"]
[profile.max_validity]
token = "30d"
[[profile]]
label = "empty"
subject = ""
[[profile]]
label = "user"
identity_kinds = ["user"]
methods = ["negotiate"]
max_login_age = "9h"
unmapped = "refuse"
kerberos_names = ["krb5", "upn"]
ext_key_usage = ["clientAuth", "pkinitClient"]
max_validity = { none = "1d", pkinit = "1d", hardened = "1d", otp = "1d", radius = "1d", idp = "1d", passkey = "1d" }
indicator_extension = "1.3.6.1.4.1.99999.7"
[profile.principal_mapping]
"alice@EXAMPLE.TEST" = "CN=Alice,O=Example"
[ops]
listen = "127.0.0.1:9603"
[log]
level = "debug"
`

func load(t *testing.T, text string) (*config.Config, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signer.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	return c, filepath.Dir(path), common.Load(path, c)
}

func TestLoad(t *testing.T) {
	c, dir, err := load(t, good)
	if err != nil {
		t.Fatal(err)
	}
	first, second := c.Profiles[0], c.Profiles[1]
	if first.Subject != "CN={principal}" || second.Subject != "" || first.SAN != "identity" || time.Duration(first.Validity) != 90*24*time.Hour {
		t.Errorf("profiles %+v %+v", first, second)
	}
	if time.Duration(c.CRL.NextUpdate) != 12*time.Hour || !cmp.Equal(c.CRL.DistributionPoints, []string{"http://crl.example.test/crl/example-ca.crl"}) {
		t.Errorf("revocation list %+v", c.CRL)
	}
	former := ca.Former{
		PublishedAs: "example-ca", Certificate: common.Path(filepath.Join(dir, "old.crt")), Key: common.Path(filepath.Join(dir, "old.key")),
		Passphrase: common.Path(filepath.Join(dir, "old.passphrase")), Chain: common.Path(filepath.Join(dir, "old-chain.crt")),
		DistributionPoints: []string{"http://crl.example.test/crl/old.crl"},
	}
	if diff := cmp.Diff([]ca.Former{former}, c.FormerCAs); diff != "" || c.CA.Published() != "example-ca-2" || string(c.CA.Announce) != filepath.Join(dir, "rollover.pem") {
		t.Errorf("former keys %s, published as %s, announced %s", diff, c.CA.Published(), c.CA.Announce)
	}
	user := c.Profiles[2]
	if time.Duration(user.MaxLoginAge) != 9*time.Hour || user.Unmapped != "refuse" || !cmp.Equal(user.KerberosNames, []string{"krb5", "upn"}) ||
		user.IndicatorExtension != "1.3.6.1.4.1.99999.7" || !cmp.Equal(user.PrincipalMapping, map[string]string{"alice@EXAMPLE.TEST": "CN=Alice,O=Example"}) {
		t.Errorf("profile %+v", user)
	}
	if string(c.CA.Key) != filepath.Join(dir, "ca.key") || c.Mesh.Listen != "127.0.0.1:9502" || string(c.Mesh.CA) != filepath.Join(dir, "mesh/ca.crt") {
		t.Errorf("paths %v %v", c.CA, c.Mesh)
	}
	const public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	if err := os.WriteFile(filepath.Join(dir, "v1.pub"), []byte(public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := c.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	k := keys[0]
	if k.ID != "v1" || k.Issuer != "validator.estuary.internal" || len(k.Key) != 32 || k.NotAfter.Year() != 2028 ||
		!cmp.Equal(k.Methods, []assertionv1.Method{assertionv1.Method_METHOD_TOKEN}) || !cmp.Equal(k.Realms, []string{"DEVICES"}) {
		t.Errorf("key %+v", k)
	}
	for _, bad := range []string{"", "junk", public[:40]} {
		if err := os.WriteFile(filepath.Join(dir, "v1.pub"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.PublicKeys(); err == nil || !strings.Contains(err.Error(), "v1.pub") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "v1.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublicKeys(); err == nil {
		t.Error("a key came from nowhere")
	}
}

func TestBadFiles(t *testing.T) {
	for _, test := range []struct{ from, to, want string }{
		{`listen = "127.0.0.1:9502"`, `listen = "9502"`, `:3: mesh.listen: "9502" is not an address`},
		{`key = "mesh/signer.key"`, ``, "mesh.key: names no file"},
		{`certificate = "mesh/signer.crt"`, `certificat = "x"`, "mesh.certificat"},
		{`ca = "mesh/ca.crt"`, ``, "mesh.ca: names no file"},
		{`"grpc.health.v1.Health" = []`, ``, `mesh.allow: "grpc.health.v1.Health" is missing`},
		{`"grpc.health.v1.Health" = []`, "\"grpc.health.v1.Health\" = []\n\"x.Y\" = []", `there is no service "x.Y"`},
		{`Issuer" = [`, `Issuer" = ["validator.estuary.internal", `, `mesh.allow: "validator.estuary.internal" is a validator`},
		{`Issuer" = [`, `Issuer" = ["admin.estuary.internal", `, `mesh.allow: "admin.estuary.internal" may call estuary.signer.v1.LedgerAdmin`},
		{`name = "example-ca"`, ``, "ca.name: has to be 1 to 64"},
		{`name = "example-ca"`, `name = "a/b"`, "ca.name: has to be 1 to 64"},
		{`published_as = "example-ca-2"`, `published_as = "a b"`, "ca.published_as: has to be 1 to 64"},
		{`published_as = "example-ca-2"`, ``, `former_ca[0].published_as: another authority is published as "example-ca"`},
		{`published_as = "example-ca"` + "\n", ``, "former_ca[0].published_as: has to be 1 to 64"},
		{`certificate = "old.crt"`, ``, "former_ca[0].certificate: is missing"},
		{`key = "old.key"`, ``, "former_ca[0].key: is missing"},
		{`"http://crl.example.test/crl/old.crl"`, `"https://crl.example.test/"`, "former_ca[0].distribution_points: "},
		{`label = "device"`, "label = \"device\"\nmethods = [\"certificate\"]\nmax_chain_age = \"1d\"\nrenews = [\"x\"]", `profile[0].renews: there is no profile for the label "x"`},
		{`certificate = "ca.crt"`, ``, "ca.certificate: is missing"},
		{`key = "ca.key"`, ``, "ca.key: is missing"},
		{`passphrase = "ca.passphrase"`, `Passphrase = "x"`, "ca.Passphrase"},
		{`passphrase = "ca.passphrase"`, `passphrase = 1`, "ca.passphrase: has to be"},
		{`url = "sqlite:ledger.db"`, ``, "ledger.url: is missing"},
		{`url = "sqlite:ledger.db"`, `url = "mysql://x"`, "ledger.url: has to begin"},
		{`mac_key = "mac.key"`, ``, "ledger.mac_key: is missing"},
		{`checkpoint_file = "checkpoint"`, ``, "ledger.checkpoint_file: is missing"},
		{`realms = ["DEVICES"]`, "realms = [\"DEVICES\"]\nmax_per_hour = -1", "max_per_hour: is negative"},
		{`name = "validator.estuary.internal"`, ``, "validator[0].name: is missing"},
		{`key_id = "v1"`, ``, "validator[0].key_id: is missing"},
		{`public_key = "v1.pub"`, ``, "validator[0].public_key: is missing"},
		{`not_after = 2028-01-01T00:00:00Z`, ``, "validator[0].not_after: is missing"},
		{`not_after = 2028-01-01T00:00:00Z`, `not_after = "2028"`, "validator[0].not_after: has to be a time"},
		{`methods = ["token"]`, `methods = ["otp"]`, `validator[0].methods: "otp" is not known`},
		{`methods = ["token"]`, ``, "validator[0].methods: is missing"},
		{"realms = [\"DEVICES\"]\n[protected]", "[protected]", "validator[0].realms: is missing"},
		{"[protected]", "[[validator]]\nname = \"b\"\nkey_id = \"v1\"\n[protected]", "validator[1].key_id: another key has this id"},
		{`principals = ["admin"]`, `principals = [" admin"]`, "protected.principals"},
		{`names = ["dns:ipa.example.test"]`, `names = ["ipa.example.test"]`, "protected.names"},
		{`label = "device"`, ``, "profile[0].label: has to be 1 to 64"},
		{`label = "device"`, `label = "cacerts"`, `profile[0].label: "cacerts" is the name of an EST operation`},
		{`label = "empty"`, `label = "device"`, "profile[1].label: another profile has this label"},
		{`label = "empty"`, "label = \"empty\"\nrealms = [\"X\"]", `profile[1].realms: no validator may speak for the realm "X"`},
		{`label = "empty"`, "label = \"empty\"\nvalidity = 90", "profile[1].validity: has to be a string with a unit"},
		{`label = "empty"`, "label = \"empty\"\nmax_per_hour = -1", "profile[1].max_per_hour: is negative"},
		{`label = "empty"`, "label = \"empty\"\nsan = \"none\"", "profile[1].san: none goes with a subject only"},
		{`next_update = "12h"`, `next_update = "1m"`, "crl.next_update: has to be between 10m and 30d, not 1m"},
		{`next_update = "2h"`, `next_update = "1m"`, "ocsp.next_update: has to be between 5m and 2d, not 1m"},
		{`"http://crl.example.test/crl/example-ca.crl"`, `"https://crl.example.test/"`, "crl.distribution_points: "},
		{`max_login_age = "9h"`, `crl_distribution_points = ["http://other.test/ca.crl"]`, `profile[2].crl_distribution_points: "http://other.test/ca.crl" is not among [crl] distribution_points`},
		{`token = "30d"`, `token = "0s"`, "max_validity"},
		{`pkinit = "1d"`, `pkinit = "2d"`, `profile[2].max_validity: a ticket by pkinit would be worth 2d here, and a ticket without indicator only 1d`},
		{`"alice@EXAMPLE.TEST"`, `"alice"`, `profile[2].principal_mapping: "alice" is no principal with its realm`},
		{`max_login_age = "9h"`, `max_login_age = "-9h"`, "max_login_age"},
		{`methods = ["negotiate"]`, `methods = ["gssapi"]`, `profile[2].methods: "gssapi" is not known`},
		{`methods = ["token"]`, `methods = ["gssapi"]`, `validator[0].methods: "gssapi" is not known: certificate, ldap-otp, ldap-password, negotiate`},
		{`unmapped = "refuse"`, `unmapped = "drop"`, `profile[2].unmapped: "drop" is not known`},
		{`kerberos_names = ["krb5", "upn"]`, `kerberos_names = ["spn"]`, `profile[2].kerberos_names: "spn" is not known`},
		{`identity_kinds = ["user"]`, `identity_kinds = ["user", "host"]`, `profile[2].kerberos_names: are for users`},
		{`indicator_extension = "1.3.6.1.4.1.99999.7"`, `indicator_extension = "1.3.6.1.5.2.2"`, `profile[2].indicator_extension: 1.3.6.1.5.2.2 belongs to others`},
		{`none = "1d", `, `None = "1d", `, `profile[2].max_validity: "None" is not known`},
		{`label = "device"`, "label = \"device\"\next_key_usage = [\"clientAuth\", \"pkinitClient\"]", `:55: profile[2].require_indicators: a ticket by pkinit would be worth 1d here, and an enrolment token only nothing`},
		{`listen = "127.0.0.1:9603"`, `listen = "0.0.0.0:9603"`, "ops.listen"},
		{`level = "debug"`, `level = "loud"`, "log.level"},
		{`[log]`, "[ldap]\nurl = \"x\"\n[log]", "ldap"},
		{`[ops]`, "[ops]\n[ops]", "ops"},
	} {
		text := strings.Replace(good, test.from, test.to, 1)
		if text == good {
			t.Fatalf("%q is not in the good file", test.from)
		}
		if _, _, err := load(t, text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q for %q: want %q, got\n%v", test.to, test.from, test.want, err)
		}
	}
	_, _, err := load(t, "")
	for _, want := range []string{"validator: is missing", "profile: is missing", "ca.key", "ledger.url", "mesh.allow"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("an empty file: want %q, got\n%v", want, err)
		}
	}
}

// TestEveryKeyIsDocumented: the reference in the documentation is made of these texts.
func TestEveryKeyIsDocumented(t *testing.T) {
	for _, row := range common.Describe(config.Default()) {
		if row.Doc == "" && !strings.HasSuffix(row.Key, "*") {
			t.Errorf("%s has no text", row.Key)
		}
	}
}

// What is read of the past lies beside the file that names it.
func TestRetired(t *testing.T) {
	dir := t.TempDir()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"v0.pub": base64.StdEncoding.EncodeToString(public),
		"retired.toml": `authorities = ["old-ca.crt"]
[[validator]]
name = "validator.estuary.internal"
key_id = "v0"
public_key = "v0.pub"
not_after = 2026-01-01T00:00:00Z
methods = ["token"]
realms = ["DEVICES", "LABS"]
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &config.Retired{}
	if err := common.Load(filepath.Join(dir, "retired.toml"), r); err != nil {
		t.Fatal(err)
	}
	keys, err := r.PublicKeys()
	if err != nil || len(keys) != 1 || !keys[0].Key.Equal(public) || len(keys[0].Realms) != 2 {
		t.Errorf("%+v, %v", keys, err)
	}
	if len(r.Authorities) != 1 || string(r.Authorities[0]) != filepath.Join(dir, "old-ca.crt") {
		t.Errorf("authorities %q", r.Authorities)
	}
}
