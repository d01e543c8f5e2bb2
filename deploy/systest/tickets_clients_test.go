package systest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// negotiate runs testdata/negotiate.py and returns what it says of the answer, and the body.
func negotiate(t *testing.T, kdc map[string]string, cache string, words ...string) (said map[string]string, body string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", append([]string{"testdata/negotiate.py"}, words...)...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+kdc["KRB5_CONFIG"], "KRB5CCNAME=FILE:"+cache)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
	said = map[string]string{}
	text := string(out)
	for range 6 {
		line, rest, _ := strings.Cut(text, "\n")
		word, value, found := strings.Cut(line, " ")
		if !found || !strings.Contains("status challenge complete mutual", word) {
			break
		}
		said[word] = strings.TrimSpace(said[word] + " " + value)
		text = rest
	}
	return said, text
}

// TestTicketBindings: what python-gssapi does with MIT's library, with and without mutual
// authentication, and with every channel binding under every demand.
func TestTicketBindings(t *testing.T) {
	t.Parallel()
	kdc := lab(t, "kdc")
	cache := filepath.Join(t.TempDir(), "cache")
	krb5(t, kdc, kdc["PASSWORD"]+"\n", "kinit", "-c", "FILE:"+cache, "bob")
	good := map[string]map[string]bool{
		"off":       {"none": true, "right": true, "wrong": true},
		"absent-ok": {"none": true, "right": true},
		"required":  {"right": true},
	}
	for demand, accepted := range good {
		t.Run(demand, func(t *testing.T) {
			c := planCluster(t, shape{gateways: 1, validators: 1, signers: 1})
			s := labTickets(t, kdc, t.TempDir())
			s.more = fmt.Sprintf("channel_bindings = %q", demand)
			c.useTickets(s)
			c.start()
			for _, binding := range []string{"none", "right", "wrong"} {
				for _, mutual := range []string{"yes", "no"} {
					for _, mech := range []string{"spnego", "krb5"} {
						request := writeRequest(t, "bob")
						url := strings.Replace(c.est()[0], "127.0.0.1", "localhost", 1) + "/" + ticketLabel + "/simpleenroll"
						said, body := negotiate(t, kdc, cache, url, request, filepath.Join(c.s.state, "tls-ca.crt"),
							"binding="+binding, "mutual="+mutual, "mech="+mech)
						want := "401"
						if accepted[binding] {
							want = "200"
						}
						if said["status"] != want || accepted[binding] && said["complete"] != "True" {
							t.Errorf("%s, binding %s, mutual %s, %s: %v: %s", demand, binding, mutual, mech, said, body)
						}
						if mutual == "yes" && accepted[binding] != (said["mutual"] == "True" && said["complete"] == "True") {
							t.Errorf("%s, binding %s, %s: mutual authentication: %v", demand, binding, mech, said)
						}
					}
				}
			}
			want := map[string]map[string]int{"off": {"absent": 12}, "absent-ok": {"absent": 4, "match": 4}, "required": {"match": 4}}
			got := map[string]int{}
			for _, r := range c.auditOf("validator-1") {
				if r.Event == "credential.accepted" {
					got[r.Detail["channel_binding"]]++
				}
			}
			if diff := cmp.Diff(want[demand], got); diff != "" {
				t.Errorf("channel bindings on record (-want +got):\n%s", diff)
			}
		})
	}
}

// writeRequest writes a new request for a name and returns its path.
func writeRequest(t *testing.T, name string) string {
	t.Helper()
	a, err := applicant{name: name}.withKey()
	if err != nil {
		t.Fatal(err)
	}
	e, err := a.enrolment()
	path := filepath.Join(t.TempDir(), "request")
	if err == nil {
		err = os.WriteFile(path, e.body, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// auditRecord is what tests look at in a record.
type auditRecord struct {
	Event, Outcome, Reason, Identity, Method string
	Detail                                   map[string]string
}

// auditOf returns what a service has on record.
func (c *cluster) auditOf(name string) (records []auditRecord) {
	c.t.Helper()
	n := c.node(name)
	out, err := exec.CommandContext(c.t.Context(), filepath.Join(bin, n.service), "audit", "export", "--config", n.config).Output()
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var r struct{ Audit auditRecord }
		if err := json.Unmarshal([]byte(line), &r); err == nil && r.Audit.Event != "" {
			records = append(records, r.Audit)
		}
	}
	return records
}
