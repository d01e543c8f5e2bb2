package systest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
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

// TestReliabilityLedgerFailures: what cannot be recorded is not issued, and the service
// comes back by itself.
func TestReliabilityLedgerFailures(t *testing.T) {
	t.Parallel()
	t.Run("trigger", func(t *testing.T) { t.Parallel(); failingRow(t) })
	t.Run("server", func(t *testing.T) { t.Parallel(); killedServer(t) })
	t.Run("disk", func(t *testing.T) { t.Parallel(); fullDisk(t) })
}

// PostgreSQL refuses rows of a principal.
const refuse = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'not this one'; END $$`

const refuseRow = `CREATE TRIGGER refuse BEFORE %s ON entry FOR EACH ROW WHEN (NEW.principal = '%s'%s) EXECUTE FUNCTION refuse()`

// failingRow has PostgreSQL refuse the intent of one device, and then the certificate of
// another that has been signed; everybody else is served meanwhile.
func failingRow(t *testing.T) {
	c := newCluster(t, shape{gateways: 1, validators: 1, signers: 2, postgres: true})
	db, err := openStore(c.ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	execute(t, db, refuse)
	var held [][]byte
	refused, served := 0, 0
	for _, when := range []struct{ what, and string }{{"INSERT", ""}, {"UPDATE", " AND NEW.state = 2"}} {
		marked, others := c.applicants(1)[0], c.applicants(full(200))
		execute(t, db, fmt.Sprintf(refuseRow, when.what, marked.name, when.and))
		for _, a := range others {
			got := c.enrol(t.Context(), c.est()[0], a)
			if got.status != http.StatusOK || got.err != nil {
				t.Errorf("%s while rows of %s are refused: %v", a.name, marked.name, got)
				continue
			}
			held = append(held, got.der)
			served++
			got = c.enrol(t.Context(), c.est()[0], marked)
			if got.err != nil || got.status != http.StatusServiceUnavailable {
				t.Errorf("%s after %s: %v", marked.name, when.what, got)
			}
			refused++
		}
		for _, r := range c.look().of(marked.name) {
			if r.state == stateIssued || when.what == "INSERT" {
				t.Errorf("%s has a row in state %d", marked.name, r.state)
			}
		}
		execute(t, db, "DROP TRIGGER refuse ON entry")
		der, _, err := c.persist(t.Context(), marked, c.est()...)
		if err != nil {
			t.Error(err)
		}
		held = append(held, der)
	}
	v := c.look()
	v.judge(t, held)
	if n := v.count(stateIssued); n != len(held) {
		t.Errorf("%d rows are issued for %d certificates", n, len(held))
	}
	tell(t, "%d requests whose intent or certificate PostgreSQL refused: none issued; %d others served meanwhile; both devices served once it was mended; %d certificates, %d rows with their audit record",
		refused, served, len(held), v.count(stateIssued))
}

func execute(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// killedServer kills PostgreSQL under load and starts it again.
func killedServer(t *testing.T) {
	s := startServer(t)
	c := newCluster(t, shape{
		gateways: 1, validators: 2, signers: 2, postgres: true, ledger: s.schema(t), state: s.schema(t),
	})
	l := c.startLoad(loadConfig{clients: 8})
	var slowest time.Duration
	rounds := max(2, full(20))
	for range rounds {
		l.progress(t, 20, 20*time.Second)
		s.kill(t)
		before, failed := l.certificates.Load(), l.errors.Load()
		within(t, 20*time.Second, func() string { return "no request notices that PostgreSQL is gone" },
			func() bool { return l.errors.Load() >= failed+16 })
		// What was on its way when it died may have been answered.
		if n := l.certificates.Load() - before; n > 8 {
			t.Errorf("%d certificates without PostgreSQL", n)
		}
		s.start(t)
		start := time.Now()
		l.progress(t, 8, 10*time.Second)
		slowest = max(slowest, time.Since(start))
	}
	l.stop(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	for what, n := range l.lost {
		if what != "503" {
			t.Errorf("%d requests got %s", n, what)
		}
	}
	v := c.look()
	l.check(t, v)
	tell(t, "PostgreSQL killed %d times under load of 8 clients, %d requests answered with 503: %d certificates, %d rows with their audit record; served again at most %v after it took connections",
		rounds, l.errors.Load(), len(l.held), v.count(stateIssued), slowest.Round(100*time.Millisecond))
}

// server is a PostgreSQL server of a test's own.
type server struct{ dir, url string }

func startServer(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "estuary-postgres-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // the server runs as another user
	}
	if err != nil {
		t.Fatal(err)
	}
	// What pg_ctl leaves behind becomes a child of this process: a killed server would not go
	// away where the first process of the machine, a container's, does not wait for it.
	const subreaper = 36 // PR_SET_CHILD_SUBREAPER, prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, subreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	s := &server{dir: dir}
	t.Cleanup(func() {
		out, err := s.lab(context.Background(), "down")
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Errorf("stopping PostgreSQL: %v\n%s", err, out)
		}
	})
	s.start(t)
	return s
}

func (s *server) lab(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(root, "deploy/lab/postgres"), args...)
	cmd.Env = append(os.Environ(), "ESTUARY_LAB="+s.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return stderr.String(), err
	}
	return strings.TrimSpace(string(out)), nil
}

// start starts it, at the address that it had.
func (s *server) start(t *testing.T) {
	t.Helper()
	args := []string{"up"}
	if u, err := url.Parse(s.url); s.url != "" && err == nil {
		args = append(args, u.Port())
	}
	out, err := s.lab(t.Context(), args...)
	if err != nil {
		t.Fatalf("starting PostgreSQL: %v\n%s", err, out)
	}
	s.url = out
}

// kill ends the server at once, and waits until everything that belongs to it has gone.
func (s *server) kill(t *testing.T) {
	t.Helper()
	data := filepath.Join(s.dir, "postgres/data")
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, func() string { return "processes of PostgreSQL live on" }, func() bool { return !worksIn(data) })
}

// worksIn tells whether a process has this working directory: every one of PostgreSQL has
// its data folder.
func worksIn(dir string) bool {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, l := range links {
		if at, err := os.Readlink(l); err == nil && at == dir {
			return true
		}
	}
	return false
}

// schema returns the URL of a new schema.
func (s *server) schema(t *testing.T) string {
	t.Helper()
	db, err := openStore(s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	name := "test_" + strings.ToLower(rand.Text())
	execute(t, db, "CREATE SCHEMA "+name)
	return s.url + "&search_path=" + name
}

// fullDisk fills the file system of a signer's SQLite ledger under load, and makes room.
func fullDisk(t *testing.T) {
	c := planCluster(t, shape{gateways: 1, validators: 1, signers: 1})
	signer, small := c.node("signer-1"), filepath.Join(c.s.state, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	// In a mount namespace of the signer's own: nothing is left behind on the machine.
	signer.wrap = []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs -o size=16m,mode=700 small "$0" && exec "$@"`, small}
	if os.Getuid() != 0 {
		signer.wrap = append([]string{"unshare", "--map-root-user"}, signer.wrap[1:]...)
	}
	c.rewrite(signer, func(text string) string {
		return storeURL.ReplaceAllLiteralString(text, `url = "sqlite:`+small+`/ledger.db"`)
	})
	signer.start(t)
	within(t, 10*time.Second, func() string {
		return "a small file system could not be mounted for the signer: it takes root or unprivileged user namespaces\n" + signer.said()
	}, func() bool { ok, _ := signer.ready(); return ok })
	c.start()
	inside := fmt.Sprintf("/proc/%d/root%s", signer.cmd.Process.Pid, small)
	l := c.startLoad(loadConfig{clients: 8})
	var slowest time.Duration
	rounds := max(2, full(20))
	for range rounds {
		l.progress(t, 20, 20*time.Second)
		fill(t, inside)
		// What the file and its journal hold may do for some more; then nothing is served.
		issued, failed := l.certificates.Load(), l.errors.Load()
		within(t, 60*time.Second, func() string { return "the disk never fills up" }, func() bool {
			if n := l.certificates.Load(); n != issued {
				issued, failed = n, l.errors.Load()
			}
			return l.errors.Load() >= failed+24
		})
		if err := os.Remove(filepath.Join(inside, "ballast")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		l.progress(t, 8, 10*time.Second)
		slowest = max(slowest, time.Since(start))
	}
	l.stop(t)
	for what, n := range l.lost {
		if what != "503" {
			t.Errorf("%d requests got %s", n, what)
		}
	}
	// SQLite finds no way into the signer's file system. Nobody writes now: a copy is whole.
	for _, name := range []string{"ledger.db", "ledger.db-wal"} {
		text, err := os.ReadFile(filepath.Join(inside, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(small, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.ledger, c.copied = "sqlite:"+filepath.Join(small, "ledger.db"), true
	v := c.look()
	l.check(t, v)
	tell(t, "the ledger's disk filled up %d times under load of 8 clients, %d requests answered with 503: %d certificates, %d rows with their audit record; served again at most %v after it had room",
		rounds, l.errors.Load(), len(l.held), v.count(stateIssued), slowest.Round(time.Millisecond))
}

// fill leaves no room on a file system but a little, which the next requests use up.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "ballast"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	piece, size := make([]byte, 4096), int64(0)
	for ; err == nil; size += int64(len(piece)) {
		_, err = f.Write(piece)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("filling the disk: %v", err)
	}
	if err := errors.Join(f.Truncate(max(0, size-(256<<10))), f.Close()); err != nil {
		t.Fatal(err)
	}
}
