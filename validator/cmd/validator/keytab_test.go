package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/keytab"
	"github.com/estuary-pki/estuary/validator/internal/keytab/keytabtest"
)

const ticketConfig = `[mesh]
certificate = "mesh.crt"
key = "mesh.key"
ca = "ca.crt"
[mesh.allow]
"estuary.validator.v1.Authenticator" = ["gateway.estuary.internal"]
"estuary.validator.v1.TokenAdmin" = ["admin.estuary.internal"]
"grpc.health.v1.Health" = ["gateway.estuary.internal"]
[assertion]
key = "assertion.key"
key_id = "validator-1"
audience = "Lab CA"
[state]
url = "sqlite:state.db"
mac_key = "mac.key"
checkpoint_file = "checkpoint"
[otp]
realm = "IPA.TEST"
index_key = "index.key"
[gssapi]
enabled = true
keytab = "http.keytab"
service_principal = "HTTP/est.ipa.test@IPA.TEST"
[[label]]
name = "tickets"
basic = "none"
negotiate = true
`

// put writes a file that nobody else may read.
func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// list runs the command, and sees to it that it shows no key.
func list(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := keytabList(t.Context(), args, &out)
	text := out.String()
	if err != nil {
		text += err.Error()
	}
	for _, key := range []string{"KEY!", "4b455921", "75 69 89 33"} {
		if strings.Contains(text, key) {
			t.Errorf("%v: the key stands in %q", args, text)
		}
	}
	return out.String(), err
}

// ticketKey is an entry with a key that is easily recognised.
func ticketKey(principal string, kvno uint32, etype int32) keytab.Entry {
	octets := map[int32]int{17: 4, 18: 8, 20: 8, 23: 4}[etype]
	return keytab.Entry{
		Principal: principal, KVNO: kvno, EType: etype, Made: time.Unix(1_790_000_000, 0),
		Key: secret.New(bytes.Repeat([]byte("KEY!"), octets)),
	}
}

func TestKeytabList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "http.keytab")
	file := keytabtest.Write(
		ticketKey("HTTP/est.ipa.test@IPA.TEST", 300, 18), ticketKey("HTTP/est.ipa.test@IPA.TEST", 3, 20),
		ticketKey("HTTP/est.ipa.test@IPA.TEST", 3, 23), ticketKey("HTTP/\x1b[2J\n\u202e@IPA.TEST", 1, 17),
	)
	put(t, path, file)
	got, err := list(t, path)
	want := "PRINCIPAL                        VERSION  ENCRYPTION TYPE             MADE                  USED\n" +
		"HTTP/est.ipa.test@IPA.TEST       300      aes256-cts-hmac-sha1-96     2026-09-21T14:13:20Z  yes\n" +
		"HTTP/est.ipa.test@IPA.TEST       3        aes256-cts-hmac-sha384-192  2026-09-21T14:13:20Z  yes\n" +
		"HTTP/est.ipa.test@IPA.TEST       3        arcfour-hmac                2026-09-21T14:13:20Z  no: not AES\n" +
		`"HTTP/\x1b[2J\n\u202e@IPA.TEST"  1        aes128-cts-hmac-sha1-96     2026-09-21T14:13:20Z  yes` + "\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s not\n%s", err, got, want)
	}
	for i := range file {
		put(t, path, file[:i])
		_, _ = list(t, path) // no key, wherever it is cut off
	}
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := list(t, path); err == nil || !strings.Contains(err.Error(), "open to everybody") {
		t.Errorf("a file that is open to everybody: %v", err)
	}
	for _, args := range [][]string{nil, {path, path}, {"--config", "validator.toml", path}} {
		if _, err := list(t, args...); err == nil || err.Error() != keytabUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestKeytabListOfConfig: what the configuration wants and the keytab does not have is named.
func TestKeytabListOfConfig(t *testing.T) {
	dir := t.TempDir()
	config, file := filepath.Join(dir, "validator.toml"), filepath.Join(dir, "http.keytab")
	put(t, file, keytabtest.Write(ticketKey("HTTP/est.ipa.test@IPA.TEST", 3, 18), ticketKey("HTTP/rc4.ipa.test@IPA.TEST", 3, 23)))
	put(t, config, []byte(ticketConfig))
	if got, err := list(t, "--config", config); err != nil || strings.Count(got, "\n") != 3 {
		t.Errorf("%v\n%s", err, got)
	}
	aliases := `aliases = ["HTTP/rc4.ipa.test@IPA.TEST", "HTTP/none.ipa.test@IPA.TEST"]` + "\n[[label]]"
	put(t, config, []byte(strings.Replace(ticketConfig, "[[label]]", aliases, 1)))
	got, err := list(t, "--config", config)
	if err == nil || !strings.Contains(err.Error(), "no AES key of HTTP/rc4.ipa.test@IPA.TEST, HTTP/none.ipa.test@IPA.TEST,") || strings.Count(got, "\n") != 3 {
		t.Errorf("%v\n%s", err, got)
	}
	off := strings.NewReplacer("enabled = true\nkeytab", "enabled = false\nkeytab", "negotiate = true", "", `"none"`, `"token"`)
	put(t, config, []byte(off.Replace(ticketConfig)))
	if _, err := list(t, "--config", config); err == nil || !strings.Contains(err.Error(), "[gssapi] enabled is false") {
		t.Errorf("switched off: %v", err)
	}
}
