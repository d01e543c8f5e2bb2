package systest_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/store/storetest"
)

// soak asks for the counts that docs/reliability.md quotes; `make soak` sets it.
var soak = flag.Bool("soak", false, "full counts in the tests TestReliability…, a tenth without it")

// full returns n in a soak, and otherwise a tenth of it.
func full(n int) int {
	if *soak {
		return n
	}
	return max(1, n/10)
}

// tell prints the figures of a test as scripts/soak collects them.
func tell(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("reliability: "+strings.TrimPrefix(t.Name(), "TestReliability")+": "+format, args...)
}

// shape says what a cluster is made of.
type shape struct {
	gateways, validators, signers int
	// postgres puts the signers on one PostgreSQL schema and the validators on another. On
	// SQLite there can be one of each.
	postgres bool
	// ledger and state are the URLs of the signers' and the validators' store instead.
	ledger, state string
	// crashing takes the binaries with crash points.
	crashing bool
}

// cluster is a running Estuary of several processes of each kind and one admin.
type cluster struct {
	t      *testing.T
	s      *stack
	nodes  []*node
	ledger string // the URL of the signers' store
	client *http.Client
	made   atomic.Int64 // names of applicants
	bearer string
	// copied: the ledger is a copy that was made before the signer ended.
	copied bool
}

// newCluster makes a state and starts everything; it is stopped at the end of the test.
func newCluster(t *testing.T, sh shape) *cluster {
	t.Helper()
	c := planCluster(t, sh)
	c.start()
	return c
}

// start starts what does not run yet and waits until everything is ready.
func (c *cluster) start() {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.cmd == nil {
			n.start(c.t)
		}
	}
	for _, n := range c.nodes {
		n.awaitReady(c.t)
	}
}

// rewrite changes the configuration of a node.
func (c *cluster) rewrite(n *node, change func(text string) string) {
	c.t.Helper()
	text, err := os.ReadFile(n.config)
	if err == nil {
		err = os.WriteFile(n.config, []byte(change(string(text))), 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// planCluster makes the state and the configurations; nothing runs yet.
func planCluster(t *testing.T, sh shape) *cluster {
	t.Helper()
	s, err := newStack(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err == nil {
		err = renewCA(t.Context(), s)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, s: s, ledger: sh.ledger}
	state := sh.state
	if sh.postgres && c.ledger == "" {
		c.ledger = storetest.Postgres(t)
	}
	if sh.postgres && state == "" {
		state = storetest.Postgres(t)
	}
	folder := bin
	if sh.crashing {
		if folder, err = crashing(); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []struct {
		service string
		count   int
	}{{"signer", sh.signers}, {"validator", sh.validators}, {"gateway", sh.gateways}, {"admin", 1}} {
		for i := range kind.count {
			c.nodes = append(c.nodes, newNode(t, s, folder, kind.service, i+1))
		}
	}
	c.configure(map[string]string{"signer": c.ledger, "validator": state})
	if c.ledger == "" {
		c.ledger = "sqlite:" + filepath.Join(s.state, "signer/ledger.db")
	}
	c.connect()
	t.Cleanup(c.end)
	return c
}

// connect makes the client that everybody uses and reads the administrator's token.
func (c *cluster) connect() {
	c.t.Helper()
	secret, err := os.ReadFile(filepath.Join(c.s.state, "admin/token"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.bearer = "Bearer " + strings.TrimSpace(string(secret))
	roots, err := c.s.tlsRoots()
	if err != nil {
		c.t.Fatal(err)
	}
	c.client = &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64, MaxConnsPerHost: 128,
	}}
}

// end stops what still runs. What ended by itself or badly, fails the test; a failed test
// shows the last words of everybody.
func (c *cluster) end() {
	c.client.CloseIdleConnections()
	for i := range c.nodes {
		n := c.nodes[len(c.nodes)-1-i] // who calls ends before who is called
		if err := n.stop(); err != nil {
			c.t.Errorf("stopping: %v", err)
		}
	}
	c.verify()
	for _, n := range c.nodes {
		if c.t.Failed() {
			c.t.Logf("%s warned of:\n%s", n.name, n.warned())
		}
	}
}

// verify has what an operator would ask say that every certificate stands on its validator's
// word, and that the audit is whole, whatever has been done to the processes.
func (c *cluster) verify() {
	signer, validator := c.node("signer-1"), c.node("validator-1")
	if c.copied { // the checkpoint that the signer made at its end is of a later ledger
		if err := os.Remove(filepath.Join(c.s.state, "signer/checkpoint-signer-1")); err != nil {
			c.t.Error(err)
		}
	}
	for _, words := range [][]string{
		{"signer", "ledger", "verify", "--config", signer.config},
		{"signer", "audit", "verify", "--config", signer.config},
		{"validator", "audit", "verify", "--config", validator.config},
	} {
		out, err := exec.CommandContext(context.WithoutCancel(c.t.Context()), filepath.Join(bin, words[0]), words[1:]...).CombinedOutput()
		if err != nil {
			c.t.Errorf("%s: %v\n%s", strings.Join(words, " "), err, out)
		}
	}
}

var (
	ownListen  = regexp.MustCompile(`(?ms)^\[(mesh|tls|admin)\]\nlisten = "[^"]*"`)
	opsListen  = regexp.MustCompile(`(?ms)^\[ops\]\nlisten = "[^"]*"`)
	storeURL   = regexp.MustCompile(`(?m)^url = "[^"]*"`)
	checkpoint = regexp.MustCompile(`(?m)^checkpoint_file = "([^"]*)"`)
)

// configure writes the file of every node: that of its service in the state, with addresses
// and files of its own, and everybody as a target.
func (c *cluster) configure(urls map[string]string) {
	c.t.Helper()
	for _, n := range c.nodes {
		text, err := os.ReadFile(c.s.config(n.service))
		if err != nil {
			c.t.Fatal(err)
		}
		s := ownListen.ReplaceAllString(string(text), "[$1]\nlisten = \""+n.address+"\"")
		s = opsListen.ReplaceAllString(s, "[ops]\nlisten = \""+n.ops+"\"")
		for _, service := range []string{"validator", "signer"} {
			s = retarget(s, service, c.addresses(service)...)
		}
		if url := urls[n.service]; url != "" {
			s = storeURL.ReplaceAllLiteralString(s, "url = \""+url+"\"")
		}
		s = checkpoint.ReplaceAllString(s, `checkpoint_file = "$1-`+n.name+`"`)
		if n.service == "gateway" {
			s += "\n[refusal]\nfloor = \"0s\"\n" // the tests are about other things than time
		}
		if err := os.WriteFile(n.config, []byte(s), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// retarget has a configuration call a service at these addresses.
func retarget(text, service string, addresses ...string) string {
	return regexp.MustCompile(`(?m)^\[`+service+`\]\ntarget = "[^"]*"`).
		ReplaceAllLiteralString(text, fmt.Sprintf("[%s]\ntarget = %q", service, strings.Join(addresses, ",")))
}

func (c *cluster) addresses(service string) (all []string) {
	for _, n := range c.nodes {
		if n.service == service {
			all = append(all, n.address)
		}
	}
	return all
}

// node returns a process by its name, "signer-1".
func (c *cluster) node(name string) *node {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	c.t.Fatalf("there is no %s", name)
	return nil
}

// est returns the URL of each gateway.
func (c *cluster) est() (urls []string) {
	for _, address := range c.addresses("gateway") {
		urls = append(urls, estAt(address))
	}
	return urls
}

func estAt(address string) string { return "https://" + address + "/.well-known/est" }

// listenAddress returns a loopback address that nobody uses, with a port below those that
// the kernel gives to outgoing connections: a process that was killed finds it free again.
func listenAddress(t *testing.T) string {
	t.Helper()
	for range 200 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(10000))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		l, err := new(net.ListenConfig).Listen(context.WithoutCancel(t.Context()), "tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("found no free port")
	return ""
}
