package systest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// readLab reads the env file of a server of the lab, which `make test` starts.
func readLab(server string) (map[string]string, error) {
	name := "ESTUARY_TEST_" + strings.ToUpper(server)
	path := os.Getenv(name)
	if path == "" {
		return nil, fmt.Errorf("%s is not set: run 'make lab', and take it from the file that this names", name)
	}
	return readEnv(path)
}

// readEnv reads an env file, whose values are as a shell would have them.
func readEnv(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = strings.Trim(value, "'")
	}
	return values, nil
}

func lab(t *testing.T, server string) map[string]string {
	t.Helper()
	values, err := readLab(server)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func labCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lab SERVER")
	}
	values, err := readLab(args[0])
	ts.Check(err)
	for key, value := range values {
		ts.Setenv(strings.ToUpper(args[0])+"_"+key, value)
	}
}

func ticketsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 2 {
		ts.Fatalf("usage: tickets [FILE [FILE]]")
	}
	kdc, err := readLab("kdc")
	ts.Check(err)
	s := current(ts)
	text, err := os.ReadFile(kdc["KEYTAB"])
	ts.Check(err)
	settings := ticketSettings{
		keytab: filepath.Join(s.state, "validator/http.keytab"), service: "HTTP/localhost@" + kdc["REALM"], realm: kdc["REALM"],
		kinds: `"user"`,
	}
	ts.Check(os.WriteFile(settings.keytab, text, 0o600))
	for i, to := range []*string{&settings.more, &settings.profile} {
		if len(args) > i {
			*to = ts.ReadFile(args[i])
		}
	}
	for _, service := range services {
		text, err := os.ReadFile(s.config(service))
		ts.Check(err)
		ts.Check(os.WriteFile(s.config(service), []byte(settings.configure(service, string(text))), 0o600))
	}
}

func directoryCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 3 {
		ts.Fatalf("usage: directory SERVER [FILE [FILE]]")
	}
	values, err := readLab(args[0])
	ts.Check(err)
	d := directorySettings{
		server: values["LDAPS"], ca: values["CA"], realm: values["REALM"], bindDN: values["SERVICE_DN"], password: values["SERVICE_PASSWORD"],
	}
	for i, to := range []*string{&d.more, &d.extra} {
		if len(args) > i+1 {
			*to = os.Expand(ts.ReadFile(args[i+1]), ts.Getenv)
		}
	}
	s := current(ts)
	ts.Check(d.secrets(s.state))
	for _, service := range services {
		text, err := os.ReadFile(s.config(service))
		ts.Check(err)
		ts.Check(os.WriteFile(s.config(service), []byte(d.configure(service, string(text), 0)), 0o600))
	}
}
