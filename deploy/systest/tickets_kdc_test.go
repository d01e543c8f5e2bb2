package systest_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
)

// besideKDC starts a KDC of the test's own beside that of the lab, which trusts these
// certificates for PKINIT as well, and returns what its env file says.
func besideKDC(t *testing.T, certificates ...string) map[string]string {
	t.Helper()
	lab(t, "kdc")
	dir, err := os.MkdirTemp("", "kdc") // a short path, for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(root, "deploy/lab/kdc"), append([]string{"beside", dir}, certificates...)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "ESTUARY_LAB="+labFolder()), &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	path, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the KDC does not start: %v\n%s", err, said.String())
	}
	values, err := readEnv(strings.TrimSpace(path))
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// labFolder is the folder of the lab that the tests use: that of the KDC's env file.
func labFolder() string { return filepath.Dir(filepath.Dir(os.Getenv("ESTUARY_TEST_KDC"))) }

// kadmin runs a command of kadmin.local.
func kadmin(t testing.TB, kdc map[string]string, words ...string) {
	t.Helper()
	krb5(t, kdc, "", append(strings.Fields(kdc["KADMIN"]), words...)...)
}

// rotate makes new versions of the service's key, one every two seconds, and returns all keys
// that there were. Each time the KDC has the new one first; then comes a keytab that is
// damaged, and then the new one, with nothing else in it.
func rotate(t *testing.T, kdc map[string]string, path string, times int) (secrets [][]byte) {
	t.Helper()
	const service = "HTTP/localhost"
	next := time.Now()
	for i := range times {
		secrets = append(secrets, keysIn(t, path)...)
		kadmin(t, kdc, "cpw", "-randkey", service)
		fresh := path + ".new"
		_ = os.Remove(fresh)
		kadmin(t, kdc, "ktadd", "-norandkey", "-k", fresh, service)
		whole, err := os.ReadFile(fresh)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, whole[:i*len(whole)/times], 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		if err := os.Rename(fresh, path); err != nil {
			t.Fatal(err)
		}
		next = next.Add(2 * time.Second)
		time.Sleep(time.Until(next))
	}
	return append(secrets, keysIn(t, path)...)
}

func keysIn(t *testing.T, path string) (keys [][]byte) {
	t.Helper()
	kt, err := keytab.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range kt.Entries {
		keys = append(keys, e.Key.KeyValue)
	}
	return keys
}

// keepsSecret demands that no output of anybody holds one of the secrets.
func (c *cluster) keepsSecret(t *testing.T, secrets [][]byte) {
	t.Helper()
	for _, n := range c.nodes {
		text, err := os.ReadFile(n.log)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			for _, form := range []string{string(s), hex.EncodeToString(s), base64.StdEncoding.EncodeToString(s)} {
				if bytes.Contains(text, []byte(form)) {
					t.Errorf("a key stands in the output of %s", n.name)
				}
			}
		}
	}
	if len(secrets) == 0 {
		t.Error("there are no secrets to look for")
	}
}
