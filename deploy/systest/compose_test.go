package systest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// compose is a stack in containers, as `make compose-up` starts it.
type compose struct {
	t   *testing.T
	env []string
}

// newCompose starts a stack of its own on free ports; it is taken down at the end of the test.
func newCompose(t *testing.T, profile string, env ...string) *compose {
	t.Helper()
	c := &compose{t: t, env: append(append(os.Environ(), env...), "COMPOSE_PROJECT_NAME=estuary-test", "PROFILE="+profile)}
	for _, name := range []string{"EST_PORT", "EST_PORT_2", "ADMIN_PORT", "PUBLISH_PORT", "KDC_PORT"} {
		_, port, err := net.SplitHostPort(listenAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		c.env = append(c.env, name+"="+port)
	}
	t.Cleanup(func() { c.down() })
	if out := c.run("up"); !strings.Contains(out, "has a certificate:") || !strings.Contains(out, "Issuer: CN = Estuary CA") {
		t.Errorf("compose up shows no certificate:\n%s", out)
	}
	return c
}

// run runs scripts/compose and returns what it prints.
func (c *compose) run(args ...string) string {
	c.t.Helper()
	cmd := exec.Command("../../scripts/compose", args...)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("compose %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// docker runs docker and returns what it prints.
func (c *compose) docker(args ...string) string {
	c.t.Helper()
	out, err := exec.Command("docker", args...).Output()
	if err != nil {
		c.t.Fatalf("docker %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// container returns the name of a container: the two generations of compose join it differently.
func (c *compose) container(service string) string {
	c.t.Helper()
	if name := c.docker("ps", "-a", "--format", "{{.Names}}", "--filter", "label=com.docker.compose.project=estuary-test",
		"--filter", "label=com.docker.compose.service="+service); name != "" {
		return name
	}
	c.t.Fatalf("%s has no container", service)
	return ""
}

// port returns the address of a port of this machine, by its variable.
func (c *compose) port(name string) string {
	for _, v := range c.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return "localhost:" + value
		}
	}
	return ""
}

// pid returns the process of a container.
func (c *compose) pid(service string) int {
	c.t.Helper()
	pid, err := strconv.Atoi(c.docker("inspect", "-f", "{{.State.Pid}}", c.container(service)))
	if err != nil {
		c.t.Fatal(err)
	}
	return pid
}

// address returns the address of a container in a network.
func (c *compose) address(service, network string) string {
	c.t.Helper()
	return c.docker("inspect", "-f", fmt.Sprintf(`{{(index .NetworkSettings.Networks "estuary-test_%s").IPAddress}}`, network), c.container(service))
}

// file returns the content of a file in a container.
func (c *compose) file(service, path string) []byte {
	c.t.Helper()
	dir := c.t.TempDir()
	c.docker("cp", c.container(service)+":"+path, filepath.Join(dir, "file"))
	text, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// TestComposeLab: a user of the profile's directory enrols with a one-time password, one of the
// RADIUS server likewise, and one with a ticket of the KDC.
func TestComposeLab(t *testing.T) {
	needCompose(t)
	c := newCompose(t, "lab", "KEEP_IMAGES=1") // TestCompose is next
	dir := t.TempDir()
	for name, from := range map[string]string{"gateway.crt": "gateway:/var/lib/estuary/own/tls.crt", "krb5.conf": "lab:/var/lib/estuary/directory/krb5.conf"} {
		service, path, _ := strings.Cut(from, ":")
		if err := os.WriteFile(filepath.Join(dir, name), c.file(service, path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	enrol := func(user, authentication string) string {
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", `
			openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -subj "/CN=$1" -outform DER 2>/dev/null | openssl base64 >request
			curl -sS --fail-with-body --cacert gateway.crt $2 -H 'Content-Type: application/pkcs10' --data-binary @request "https://$3/.well-known/est/user/simpleenroll" >answer ||
				{ cat answer; exit 0; }
			openssl base64 -d -in answer | openssl pkcs7 -inform DER -print_certs | openssl x509 -noout -subject`, "enrol", user, authentication, c.port("EST_PORT"))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "KRB5_CONFIG="+filepath.Join(dir, "krb5.conf"), "KRB5CCNAME=FILE:"+filepath.Join(dir, "tickets"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", user, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	code := c.docker("exec", c.container("lab"), "code", "totp1")
	for _, one := range []struct{ user, authentication, want string }{
		{"totp1", "-u totp1:Secret.123" + code, "subject=CN = totp1"},
		{"totp1", "-u totp1:Secret.123" + code, "one-time code is good once"},
		{"totp1", "-u totp1:Secret.123", "401"},
		{"load1", "-u load1:Secret.123000001", "subject=CN = load1"},
		{"load1", "-u load1:Secret.124000001", "401"},
	} {
		if got := enrol(one.user, one.authentication); !strings.Contains(got, one.want) {
			t.Errorf("%s, %s: %q, not %q", one.user, one.authentication, got, one.want)
		}
	}
	kinit := exec.Command("kinit", "hanna")
	kinit.Env, kinit.Stdin = append(os.Environ(), "KRB5_CONFIG="+filepath.Join(dir, "krb5.conf"), "KRB5CCNAME=FILE:"+filepath.Join(dir, "tickets")), strings.NewReader("Secret.123\n")
	if out, err := kinit.CombinedOutput(); err != nil {
		t.Fatalf("kinit: %v\n%s", err, out)
	}
	if got := enrol("hanna", "--negotiate -u :"); got != "subject=CN = hanna" {
		t.Errorf("hanna's ticket: %q", got)
	}
	c.gone()
}

// TestCompose: the stack of compose.yaml with its profile postgres. What its containers may reach,
// what they may do, how large its images are; each container is killed once under load; and
// nothing is left of it.
func TestCompose(t *testing.T) {
	needCompose(t)
	c := newCompose(t, "postgres")
	c.images()
	c.hardened()
	c.networks()
	c.killed()
	c.gone()
	c.noImages()
}

// needCompose: these run by themselves, for their images take minutes to build.
func needCompose(t *testing.T) {
	t.Helper()
	if os.Getenv("ESTUARY_COMPOSE") == "" {
		t.Skip("ESTUARY_COMPOSE is not set: scripts/test runs this one behind the others")
	}
}

// down takes the stack down; when the test has failed, it first tells what the services say.
func (c *compose) down() {
	c.t.Helper()
	if c.t.Failed() {
		out, _ := exec.Command("bash", "-c", "for c in $(docker ps -aq --filter label=com.docker.compose.project=estuary-test); do "+
			"docker logs $c 2>&1 | grep -E 'ERROR|INTERNAL' | tail -n 20; done").Output()
		c.t.Logf("%s", out)
	}
	c.run("down")
}

// gone: nothing is left of a stack that was taken down.
func (c *compose) gone() {
	c.t.Helper()
	c.down()
	for _, what := range []string{"container", "volume", "network"} {
		args := []string{what, "ls", "-q", "--filter", "name=estuary-test"}
		if what == "container" {
			args = append(args, "-a")
		}
		if left := c.docker(args...); left != "" {
			c.t.Errorf("a %s is left: %s", what, left)
		}
	}
}

func (c *compose) noImages() {
	c.t.Helper()
	for _, filter := range []string{"reference=estuary-*", "label=estuary.stage"} {
		if left := c.docker("image", "ls", "-q", "--filter", filter); left != "" {
			c.t.Errorf("images are left: %s", left)
		}
	}
}

// images: nothing is in them but the binary, certificates and empty folders.
func (c *compose) images() {
	for _, service := range []string{"gateway", "admin", "validator", "signer"} {
		size, err := strconv.Atoi(c.docker("image", "inspect", "-f", "{{.Size}}", "estuary-"+service))
		if err != nil || size > 40_000_000 {
			c.t.Errorf("the image of the %s has %d octets, %v", service, size, err)
		}
		tell(c.t, "image of the %s: %.1f MB", service, float64(size)/1e6)
		listing, err := exec.Command("bash", "-c", "docker export "+c.container(service)+" | tar -t").Output()
		if err != nil {
			c.t.Fatal(err)
		}
		for name := range strings.Lines(string(listing)) {
			name = strings.TrimSpace(name)
			// Docker itself makes the first four in every container.
			known := name == service || strings.HasPrefix(name, "var/lib/") || name == "var/" || strings.HasPrefix(name, "etc/") || name == ".dockerenv" ||
				strings.HasPrefix(name, "dev/") || strings.HasPrefix(name, "proc/") || strings.HasPrefix(name, "sys/")
			if !known || strings.HasPrefix(name, "etc/ssl") && name != "etc/ssl/" && name != "etc/ssl/certs/" && name != "etc/ssl/certs/ca-certificates.crt" {
				c.t.Errorf("the %s's image holds %s", service, name)
			}
		}
	}
}

// hardened: nobody is root, has capabilities, can get any, or can write into the file system.
func (c *compose) hardened() {
	for _, service := range []string{"gateway", "admin", "validator", "signer", "postgres"} {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid(service)))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, want := range []string{"Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !bytes.Contains(status, []byte(want)) {
				c.t.Errorf("%s: not %q", service, want)
			}
		}
		if c.docker("inspect", "-f", "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.RestartPolicy.Name}}", c.container(service)) != "true unless-stopped" {
			c.t.Errorf("%s: its root can be written, or it is not started again", service)
		}
	}
}

// networks: from inside the containers, what they can connect to.
func (c *compose) networks() {
	database, directory := c.address("postgres", "signers-database")+":5432", c.address("validator", "directory")+":3890"
	// Something listens where a directory would be.
	listener := exec.Command("nsenter", "-t", strconv.Itoa(c.pid("validator")), "-n", "openssl", "s_server", "-accept", directory, "-nocert", "-cipher", "ALL", "-quiet")
	if err := listener.Start(); err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		_ = listener.Process.Kill()
		_ = listener.Wait()
	}()
	reaches := func(service, address string) bool {
		host, port, _ := net.SplitHostPort(address)
		return exec.Command("nsenter", "-t", strconv.Itoa(c.pid(service)), "-n", "timeout", "2", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", host, port)).Run() == nil
	}
	within(c.t, 5*time.Second, func() string { return "nothing listens on the directory's network" }, func() bool { return reaches("validator", directory) })
	targets := map[string]string{
		"directory": directory, "signers' database": database, "validators' database": c.address("postgres", "validators-database") + ":5432",
		"signer": c.address("signer", "signing") + ":9502", "validator": c.address("validator", "checking") + ":9501",
		"gateway on edge": c.address("gateway", "edge") + ":8443", "gateway on signing": c.address("gateway", "signing") + ":8443",
		"gateway on checking": c.address("gateway", "checking") + ":8443", "admin on operators": c.address("admin", "operators") + ":9443",
		"admin on signing": c.address("admin", "signing") + ":9443", "validator on directory": c.address("validator", "directory") + ":9501",
	}
	may := map[string][]string{
		"gateway":   {"signer", "validator", "gateway on edge"},
		"admin":     {"signer", "validator", "admin on operators"},
		"validator": {"validator", "directory", "validators' database"},
		"signer":    {"signer", "signers' database"},
		"postgres":  {"signers' database", "validators' database"},
	}
	for service, allowed := range may {
		for name, address := range targets {
			want := false
			for _, a := range allowed {
				want = want || a == name
			}
			if got := reaches(service, address); got != want {
				c.t.Errorf("%s reaches %s (%s): %v, not %v", service, name, address, got, want)
			}
		}
	}
}

// killed: each container is killed once under load.
func (c *compose) killed() {
	t := c.t
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.file("gateway", "/var/lib/estuary/own/tls.crt"))
	roots.AppendCertsFromPEM(c.file("admin", "/var/lib/estuary/own/tls.crt"))
	l := (&cluster{
		t: t, bearer: "Bearer " + strings.TrimSpace(string(c.file("admin", "/var/lib/estuary/own/token"))),
		nodes: []*node{
			{service: "gateway", name: "gateway-1", address: c.port("EST_PORT")},
			{service: "gateway", name: "gateway-2", address: c.port("EST_PORT_2")},
			{service: "admin", name: "admin-1", address: c.port("ADMIN_PORT")},
		},
		client: &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64}},
	}).startLoad(loadConfig{clients: 8, every: 100 * time.Millisecond, avoid: 3 * time.Second, patient: true})
	var by []string
	for _, service := range []string{"gateway", "gateway-2", "validator", "validator-2", "signer", "signer-2", "admin", "postgres"} {
		l.progress(t, int64(full(1000)), time.Minute)
		failed, pid := l.errors.Load(), c.pid(service)
		// Not by docker kill: that is somebody's wish, and nothing would be started again.
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, func() string { return service + " is not started again" }, func() bool {
			now := c.docker("inspect", "-f", "{{.State.Pid}} {{.State.Health.Status}}", c.container(service))
			return !strings.HasPrefix(now, strconv.Itoa(pid)+" ") && strings.HasSuffix(now, " healthy")
		})
		by = append(by, fmt.Sprintf("%s %d", service, l.errors.Load()-failed))
	}
	l.progress(t, int64(full(1000)), time.Minute)
	l.stop(t)
	issued, disturbed := len(l.held), l.disturbed.Load()
	tell(t, "8 kills: %d enrolments, %d of them saw an error (%.2f %%), by what was killed: %v", issued, disturbed, 100*float64(disturbed)/float64(issued), by)
	if disturbed*100 > int64(issued) && (*soak || disturbed > 8*8) {
		t.Errorf("%d of %d enrolments saw an error: %v", disturbed, issued, l.lost)
	}
	rows := c.rows(t, l)
	for _, name := range l.names {
		if rows[name] != 1 {
			t.Errorf("%s has a certificate and %d rows in the ledger", name, rows[name])
		}
	}
}

// rows counts the issued certificates of each client, as the admin API lists them.
func (c *compose) rows(t *testing.T, l *load) map[string]int {
	t.Helper()
	rows, page := map[string]int{}, ""
	for {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet,
			"https://"+l.c.addresses("admin")[0]+"/admin/certs?limit=100&status=valid"+page, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", l.c.bearer)
		resp, err := l.c.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var list struct {
			Certificates []struct{ Principal string }
			Next         string
		}
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(text, &list) != nil {
			t.Fatalf("listing certificates: %s %s, %v", resp.Status, text, err)
		}
		for _, one := range list.Certificates {
			rows[one.Principal]++
		}
		if list.Next == "" {
			return rows
		}
		page = "&page=" + url.QueryEscape(list.Next)
	}
}
