package failpoint_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/failpoint"
)

// build returns testdata/passer, built with the tags.
func build(t *testing.T, tags string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passer")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-o", path, "./testdata/passer").CombinedOutput()
	if err != nil {
		t.Fatalf("building passer: %v\n%s", err, out)
	}
	return path
}

// passer is one run of the command that passes points.
type passer struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	log      string // file of the notes
}

// command returns a run under the list that passes the points.
func command(t *testing.T, path, list string, points ...string) *passer {
	t.Helper()
	p := &passer{cmd: exec.CommandContext(t.Context(), path, points...), log: filepath.Join(t.TempDir(), "notes")}
	p.cmd.Env = []string{"ESTUARY_FAILPOINTS=" + list, "ESTUARY_FAILPOINT_LOG=" + p.log}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	return p
}

// notes returns the lines of the log, "" where there is none.
func (p *passer) notes(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// holds returns the points whose names are in the file.
func holds(t *testing.T, path string) []failpoint.Point {
	t.Helper()
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []failpoint.Point
	for _, p := range append(failpoint.Points(), "ESTUARY_FAILPOINT") {
		if bytes.Contains(binary, []byte(p)) {
			found = append(found, p)
		}
	}
	return found
}

// Without the tag nothing happens, and there is nothing that could.
func TestWithoutTag(t *testing.T) {
	path := build(t, "")
	if found := holds(t, path); found != nil {
		t.Errorf("the binary holds %v", found)
	}
	for _, list := range []string{"signer.signed=kill", "nonsense"} {
		p := command(t, path, list, "signer.signed")
		if err := p.cmd.Run(); err != nil || p.out.String() != "passed signer.signed\n" || p.err.Len() != 0 {
			t.Errorf("%s: %v, %q, %q", list, err, &p.out, &p.err)
		}
		if notes := p.notes(t); notes != "" {
			t.Errorf("%s: noted %q", list, notes)
		}
	}
}

func TestWithTag(t *testing.T) {
	path := build(t, "failpoint")
	if found := holds(t, path); len(found) != len(failpoint.Points())+1 {
		t.Errorf("the binary holds only %v: the test of the other flavour cannot fail", found)
	}
	t.Run("kill", func(t *testing.T) { kill(t, path) })
	t.Run("stop", func(t *testing.T) { stop(t, path) })
	t.Run("sleep", func(t *testing.T) { sleep(t, path) })
	t.Run("refuse", func(t *testing.T) { refuse(t, path) })
}

func kill(t *testing.T, path string) {
	signed := strings.Repeat("passed signer.signed\n", 2)
	note := "signer.signed before "
	cases := map[string]struct {
		list   string
		points []string
		out    string
		notes  string
	}{
		"first pass": {"signer.intent=kill", []string{"signer.intent"}, "", note + "signer.intent\n"},
		"third pass": {
			list: "signer.signed=kill@3", points: []string{"signer.signed", "signer.signed", "signer.signed", "signer.signed"},
			out: signed, notes: strings.Repeat(note+"signer.signed\n", 3),
		},
		"passes of others do not count": {
			list:   "signer.intent=kill@2,gateway.reply=kill",
			points: []string{"signer.signed", "signer.intent", "signer.signed", "gateway.reply"},
			out:    "passed signer.signed\npassed signer.intent\npassed signer.signed\n",
			notes:  note + "signer.signed\n" + note + "signer.intent\n" + note + "signer.signed\n" + note + "gateway.reply\n",
		},
	}
	for name, c := range cases {
		p := command(t, path, c.list, c.points...)
		err := p.cmd.Run()
		if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != syscall.SIGKILL {
			t.Errorf("%s: ended with %v, not by SIGKILL", name, err)
		}
		if p.out.String() != c.out {
			t.Errorf("%s: %q before the end, not %q", name, &p.out, c.out)
		}
		if notes := p.notes(t); notes != c.notes {
			t.Errorf("%s: noted %q, not %q", name, notes, c.notes)
		}
	}
}

// A stopped process does nothing behind the point until it is continued, and stops once.
func stop(t *testing.T, path string) {
	p := command(t, path, "signer.intent=stop", "signer.signed", "signer.intent", "signer.intent")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p.cmd.Stdout = out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.cmd.Process.Kill() }()
	for end := time.Now().Add(5 * time.Second); state(t, p.cmd.Process.Pid) != "T"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not stopped but %s after 5 s", state(t, p.cmd.Process.Pid))
		}
	}
	if got, err := os.ReadFile(out.Name()); err != nil || string(got) != "passed signer.signed\n" {
		t.Errorf("%q before it stopped, %v", got, err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("continued: %v, %s", err, &p.err)
	}
	if got, err := os.ReadFile(out.Name()); err != nil || strings.Count(string(got), "passed signer.intent\n") != 2 {
		t.Errorf("%q after it went on, %v", got, err)
	}
}

// state returns the third field of /proc/PID/stat: T is stopped.
func state(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), ") ")
	if !found || rest == "" {
		t.Fatalf("stat is %q", text)
	}
	return rest[:1]
}

func sleep(t *testing.T, path string) {
	const pause = 300 * time.Millisecond
	p := command(t, path, "gateway.reply=sleep:300ms@2", "gateway.reply", "gateway.reply", "gateway.reply")
	start := time.Now()
	if err := p.cmd.Run(); err != nil {
		t.Fatalf("%v, %s", err, &p.err)
	}
	if took := time.Since(start); took < pause {
		t.Errorf("three passes took %v", took)
	}
	if n := strings.Count(p.err.String(), "failpoint gateway.reply: sleep at pass 2"); n != 1 {
		t.Errorf("slept %d times: %q", n, &p.err)
	}
}

// What cannot be obeyed ends the process at the first point: a test that believes in a crash
// that never comes would pass.
func refuse(t *testing.T, path string) {
	for list, says := range map[string]string{
		"signer.signed":              "not of the form",
		"signer.sined=kill":          `there is no point "signer.sined"`,
		" signer.signed=kill":        `there is no point " signer.signed"`,
		"signer.signed=kill,":        `"": not of the form`,
		"signer.signed=die":          `"die" is none of`,
		"signer.signed=":             `"" is none of`,
		"signer.signed=kill:1s":      `"kill:1s" is none of`,
		"signer.signed=kill@":        `"" is not the number of a pass`,
		"signer.signed=kill@0":       `"0" is not the number of a pass`,
		"signer.signed=kill@x":       `"x" is not the number of a pass`,
		"signer.signed=sleep":        `"" is not a time`,
		"signer.signed=sleep:5":      `"5" is not a time`,
		"signer.signed=sleep:-1s":    `"-1s" is not a time`,
		"gateway.reply=kill,x=sleep": `there is no point "x"`,
	} {
		p := command(t, path, list, "signer.intent")
		err := p.cmd.Run()
		if p.cmd.ProcessState.ExitCode() != 2 || !strings.Contains(p.err.String(), says) || p.out.Len() != 0 {
			t.Errorf("%s: %v, %q, %q", list, err, &p.err, &p.out)
		}
	}
	p := command(t, path, "", "signer.intent")
	p.cmd.Env = []string{"ESTUARY_FAILPOINT_LOG=" + t.TempDir()}
	if err := p.cmd.Run(); p.cmd.ProcessState.ExitCode() != 2 || p.out.Len() != 0 {
		t.Errorf("notes that cannot be written: %v, %q", err, &p.out)
	}
}
