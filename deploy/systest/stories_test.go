package systest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/estuary-pki/estuary/services/store/storetest"
)

type (
	stackKey struct{}
	takenKey struct{}
)

// TestStories runs the text files in testdata/stories against the real binaries with real
// clients. Beside testscript's own commands a story has:
//
//	stack init                 make a state; EST, ADMIN, CA and TLSCA are set
//	stack start [NAME...]      start services (all where none is named)
//	stack stop [NAME...]       stop them
//	token VAR [JSON]           make an enrolment token; VAR holds it, VAR_ID its id
//	post STATUS TYPE FILE URL [USER:PASSWORD]
//	                           POST a file with curl; the answer is in body and head
//	status STATUS ARGS...      run curl with ARGS and demand that status
//	postgres VAR               the URL of an empty PostgreSQL schema
//	replace FILE OLD NEW       replace a text that is there exactly once
//	sql FILE STATEMENT         change a SQLite database that no process uses
//	text VAR FILE              the text of a file without its newline
//	soon VAR DURATION          the time in DURATION, for expires_at
//	sleep DURATION             wait
//	lab SERVER                 what the lab's env file of a server says, as SERVER_KEY
//	directory SERVER [FILE [FILE]]
//	                           enrol accounts of the lab's directory under the label user, with
//	                           further lines of [directory], and what stands behind all
//	tickets [FILE [FILE]]      enrol users by tickets of the lab's KDC under the label ticket, with
//	                           further lines of [gssapi] and of the signer's profile
//	ports VAR...               find a free port for each; that of OPS_PORT is the first of four
//	listen PORT, unlisten PORT take a port, and give it back
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/stories",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("ROOT", root)
			env.Setenv("GOFLAGS", os.Getenv("GOFLAGS"))
			for _, name := range []string{"HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY"} {
				if v := os.Getenv(name); v != "" {
					env.Setenv(name, v)
				}
			}
			env.Values[stackKey{}] = new(*stack)
			env.Values[takenKey{}] = map[string]net.Listener{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"stack": stackCommand, "token": tokenCommand, "post": postCommand, "status": statusCommand,
			"replace": replaceCommand, "sql": sqlCommand,
			"text": textCommand, "postgres": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: postgres VAR")
				}
				ts.Setenv(args[0], storetest.Postgres(t))
			},
			"lab": labCommand, "directory": directoryCommand, "tickets": ticketsCommand,
			"soon": soonCommand, "sleep": sleepCommand,
			"ports": portsCommand, "listen": listenCommand, "unlisten": unlistenCommand,
		},
	})
}

func current(ts *testscript.TestScript) *stack {
	s := *ts.Value(stackKey{}).(**stack)
	if s == nil {
		ts.Fatalf("'stack init' comes first")
	}
	return s
}

func stackCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: stack init | start [NAME...] | stop [NAME...]")
	}
	ctx, names := context.Background(), args[1:]
	if len(names) == 0 {
		names = services
	}
	switch args[0] {
	case "init":
		s, err := newStack(ctx, ts.MkAbs("state"))
		ts.Check(err)
		*ts.Value(stackKey{}).(**stack) = s
		ts.Setenv("EST", s.est())
		ts.Setenv("ADMIN", s.admin())
		ts.Setenv("STATE", s.state)
		ts.Setenv("CA", filepath.Join(s.state, "signer/ca.crt"))
		ts.Setenv("TLSCA", filepath.Join(s.state, "tls-ca.crt"))
		for name, port := range s.ports {
			ts.Setenv(name, fmt.Sprint(port))
		}
		ts.Defer(func() {
			if err := s.stopAll(); err != nil {
				ts.Logf("stopping: %v", err)
			}
		})
	case "start":
		ts.Check(current(ts).start(ctx, names...))
	case "stop":
		ts.Check(current(ts).stop(names...))
	default:
		ts.Fatalf("unknown: stack %s", args[0])
	}
}

func tokenCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: token VAR [JSON]")
	}
	body := `{"client_id": "pump-7"}`
	if len(args) == 2 {
		body = args[1]
	}
	id, token, err := makeToken(context.Background(), current(ts), body)
	ts.Check(err)
	ts.Setenv(args[0], token)
	ts.Setenv(args[0]+"_ID", id)
}

// makeToken asks the admin API for a token as an operator's program would.
func makeToken(ctx context.Context, s *stack, body string) (id, token string, err error) {
	secret, err := os.ReadFile(filepath.Join(s.state, "admin/token"))
	if err != nil {
		return "", "", err
	}
	roots, err := s.tlsRoots()
	if err != nil {
		return "", "", err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	return askToken(ctx, client, s.admin(), "Bearer "+strings.TrimSpace(string(secret)), body)
}

// askToken asks an admin API for a token; bearer is the Authorization header.
func askToken(ctx context.Context, client *http.Client, admin, bearer, body string) (id, token string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, admin+"/otp", strings.NewReader(body))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Authorization", bearer)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	if resp.StatusCode != http.StatusCreated {
		return "", "", fmt.Errorf("the admin API answered %s: %s", resp.Status, text)
	}
	var made struct{ ID, Token string }
	err = json.Unmarshal(text, &made)
	return made.ID, made.Token, err
}

func (s *stack) tlsRoots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(filepath.Join(s.state, "tls-ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s/tls-ca.crt holds no certificate", s.state)
	}
	return roots, nil
}

func postCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 || len(args) > 5 {
		ts.Fatalf("usage: post STATUS TYPE FILE URL [USER:PASSWORD]")
	}
	curl := []string{args[0], "-H", "Content-Type: " + args[1], "--data-binary", "@" + args[2], args[3]}
	if len(args) == 5 {
		curl = append(curl, "-u", args[4])
	}
	statusCommand(ts, false, curl)
}

func statusCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status STATUS CURL-ARGUMENT...")
	}
	s := current(ts)
	curl := append([]string{
		"-sS", "--max-time", "30", "--cacert", filepath.Join(s.state, "tls-ca.crt"),
		"-D", "head", "-o", "body", "-w", "%{http_code}",
	}, args[1:]...)
	ts.Check(os.WriteFile(ts.MkAbs("body"), nil, 0o600)) // curl makes no file for an empty answer
	ts.Check(ts.Exec("curl", curl...))
	if got := ts.ReadFile("stdout"); got != args[0] {
		head, _ := os.ReadFile(ts.MkAbs("head"))
		body, _ := os.ReadFile(ts.MkAbs("body"))
		ts.Fatalf("status %s, not %s\n%s%s", got, args[0], head, bytes.TrimSpace(body))
	}
}

// sqlCommand does what somebody does who has the file.
func sqlCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	result, err := db.ExecContext(context.Background(), args[1])
	ts.Check(err)
	changed, err := result.RowsAffected()
	ts.Check(err)
	if changed == 0 {
		ts.Fatalf("nothing was changed by %s", args[1])
	}
	ts.Check(db.Close())
}

func portsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ports VAR...")
	}
	for _, name := range args {
		count := 1
		if name == "OPS_PORT" {
			count = len(services)
		}
		port, err := freePorts(context.Background(), count)
		ts.Check(err)
		ts.Setenv(name, fmt.Sprint(port))
	}
}

func listenCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listen PORT")
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	ts.Value(takenKey{}).(map[string]net.Listener)[args[0]] = l
}

func unlistenCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unlisten PORT")
	}
	l := ts.Value(takenKey{}).(map[string]net.Listener)[args[0]]
	if l == nil {
		ts.Fatalf("port %s is not taken", args[0])
	}
	ts.Check(l.Close())
}

func soonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: soon VAR DURATION")
	}
	d, err := time.ParseDuration(args[1])
	ts.Check(err)
	ts.Setenv(args[0], time.Now().Add(d).UTC().Format(time.RFC3339))
}

func sleepCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sleep DURATION")
	}
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	time.Sleep(d)
}

func textCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: text VAR FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

func replaceCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	file := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0])
	unescape := strings.NewReplacer(`\n`, "\n").Replace
	if n := strings.Count(text, unescape(args[1])); n != 1 {
		ts.Fatalf("%s holds %q %d times", args[0], args[1], n)
	}
	ts.Check(os.WriteFile(file, []byte(strings.Replace(text, unescape(args[1]), unescape(args[2]), 1)), 0o600))
}
