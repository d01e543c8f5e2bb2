package systest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// refusalTick is the grid on which refusals leave, refusalFloor the time before it.
const (
	refusalTick  = 500 * time.Millisecond
	refusalFloor = 1500 * time.Millisecond
)

// refusal is what a client sees of one.
type refusal struct {
	kind  string
	shown string        // status, header and body, but for the date and the request's id
	took  time.Duration // from the request to the answer
	phase time.Duration // of the answer's arrival, behind a tick
}

// TestReliabilityRefusals: nobody can tell why a credential was refused: an account that
// there is, one that there is not, one that is locked, one without a token; with the directory
// quick to refuse, and slow.
func TestReliabilityRefusals(t *testing.T) {
	t.Parallel()
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1}, "")
	c.rewrite(c.node("gateway-1"), func(text string) string {
		return strings.Replace(text, `floor = "0s"`, fmt.Sprintf("floor = \"%dms\"", refusalFloor.Milliseconds()), 1)
	})
	c.start()
	for i := range 8 {
		c.ipa.AddUser(ipatest.User{UID: fmt.Sprintf("locked%d", i), Password: accountPassword, AuthTypes: []string{"otp"}, Locked: true})
		c.ipa.AddUser(ipatest.User{UID: fmt.Sprintf("tokenless%d", i), Password: accountPassword, AuthTypes: []string{"otp"}})
		c.ipa.AddUser(ipatest.User{UID: fmt.Sprintf("existing%d", i), Password: accountPassword, AuthTypes: []string{"otp"}})
		c.ipa.AddToken(ipatest.Token{ID: fmt.Sprintf("existing%d", i), Owner: fmt.Sprintf("existing%d", i), HOTP: true})
	}
	for _, slow := range []time.Duration{0, 700 * time.Millisecond} {
		c.ipa.SetBindDelay(0, slow)
		got := c.refused(t, full(2000))
		shown := map[string]int{}
		late, early := map[string]int{}, 0
		byKind := map[string]int{}
		for _, r := range got {
			shown[r.shown]++
			byKind[r.kind]++
			if r.phase > 100*time.Millisecond {
				late[r.kind]++
			}
			if r.took < refusalFloor || r.took > refusalFloor+refusalTick+150*time.Millisecond {
				early++
			}
		}
		if len(shown) != 1 {
			t.Errorf("there are %d answers: %q", len(shown), slices.Collect(maps.Keys(shown)))
		}
		// A machine that is busy is late now and then, for all kinds alike.
		for kind, n := range byKind {
			if late[kind] > n/20 {
				t.Errorf("%s: %d of %d answers are off the tick", kind, late[kind], n)
			}
		}
		if early > len(got)/20 {
			t.Errorf("%d of %d answers are not on the first tick behind the floor", early, len(got))
		}
		tell(t, "directory %v slow to refuse: %d refusals of four kinds, %d different answers; %d off the tick, %d not on the first one behind the floor",
			slow, len(got), len(shown), late["existing"]+late["unknown"]+late["locked"]+late["tokenless"], early)
	}
}

// refused has accounts of the four kinds refused, that many in all.
func (c *accounts) refused(t *testing.T, count int) []refusal {
	t.Helper()
	kinds := []string{"existing", "unknown", "locked", "tokenless"}
	var mu sync.Mutex
	var got []refusal
	inLanes(40, count, func(i int) {
		kind := kinds[i%len(kinds)]
		password := accountPassword // right for one without a token, whose bind succeeds
		if kind == "existing" {
			password += "999999"
		}
		r, err := c.refusal(context.WithoutCancel(t.Context()), fmt.Sprintf("%s%d", kind, i/4%8), password)
		if err != nil {
			t.Error(err)
			return
		}
		r.kind = kind
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r)
	})
	return got
}

func (c *cluster) refusal(ctx context.Context, user, password string) (refusal, error) {
	a, err := applicant{name: user, token: password}.withKey()
	if err != nil {
		return refusal{}, err
	}
	e, err := a.enrolment()
	if err != nil {
		return refusal{}, err
	}
	began := time.Now()
	resp, body, err := e.post(ctx, c.client, c.est()[0]+"/"+userLabel)
	at := time.Now()
	if err != nil {
		return refusal{}, err
	}
	resp.Header.Del("Date")
	resp.Header.Del("X-Request-Id")
	var head bytes.Buffer
	if err := resp.Header.Write(&head); err != nil {
		return refusal{}, err
	}
	return refusal{
		shown: fmt.Sprintf("%d\n%s\n%s", resp.StatusCode, head.String(), body),
		took:  at.Sub(began), phase: at.Sub(at.Truncate(refusalTick)),
	}, nil
}

// TestReliabilityLockout: who sprays passwords at an account through all gateways and
// validators for minutes on end does not lock it in the directory, and others are not
// disturbed.
func TestReliabilityLockout(t *testing.T) {
	t.Parallel()
	c := planAccounts(t, shape{gateways: 2, validators: 3, signers: 1, postgres: true}, "")
	c.ipa.SetPolicy(ipatest.Policy{MaxFailures: 6, Interval: time.Duration(full(60)) * time.Second, Duration: 10 * time.Minute})
	victims := []string{c.user(), c.user(), c.user()}
	c.start()
	long := 25 * time.Second
	if *soak {
		long = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var attackers sync.WaitGroup
	var tries, worst atomic.Int64
	urls := c.userURLs()
	for i := range 12 {
		attackers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				victim := victims[n%len(victims)]
				a, err := applicant{name: victim, token: fmt.Sprintf("%s%06d", accountPassword, 900000+i*5000+n%5000)}.withKey()
				if err != nil {
					t.Error(err)
					return
				}
				if got := c.enrol(context.WithoutCancel(ctx), urls[n%len(urls)], a); got.status != http.StatusUnauthorized {
					t.Errorf("%s: %v", victim, got)
				}
				tries.Add(1)
				if f := int64(c.ipa.Failures(c.ipa.UserDN(victim))); f > worst.Load() {
					worst.Store(f)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	bystanders := 0
	for ctx.Err() == nil {
		a, err := c.holder(c.user())
		if err != nil {
			t.Fatal(err)
		}
		if got := c.enrol(context.WithoutCancel(ctx), urls[bystanders%len(urls)], a); got.status != http.StatusOK {
			t.Errorf("a bystander: %v", got)
		}
		bystanders++
		time.Sleep(200 * time.Millisecond)
	}
	attackers.Wait()
	binds := 0
	for _, victim := range victims {
		binds += c.ipa.Binds(c.ipa.UserDN(victim))
	}
	if worst.Load() > 4 || binds < 4*len(victims) {
		t.Errorf("the directory counted up to %d failures in a row, of %d binds", worst.Load(), binds)
	}
	// The owners are served as soon as nobody guesses any more: no account is locked.
	time.Sleep(time.Duration(full(60))*time.Second + 11*time.Second)
	for _, victim := range victims {
		a, err := c.holder(victim)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.enrol(t.Context(), urls[0], a); got.status != http.StatusOK {
			t.Errorf("the owner of %s afterwards: %v", victim, got)
		}
	}
	tell(t, "%d wrong passwords in %v for three accounts: %d binds, at most %d failures in the directory's counter of 6; %d others served meanwhile",
		tries.Load(), long, binds, worst.Load(), bystanders)
}

// TestReliabilityLockoutByItsOwnCount: the same against 389 Directory Server, whose own
// counter is read at the end.
func TestReliabilityLockoutByItsOwnCount(t *testing.T) {
	t.Parallel()
	server := lab(t, "dirsrv")
	c := planCluster(t, shape{gateways: 1, validators: 1, signers: 1})
	c.useDirectory(directorySettings{
		server: server["LDAPS"], ca: server["CA"], realm: server["REALM"], bindDN: server["SERVICE_DN"], password: server["SERVICE_PASSWORD"],
		more: "otp_required_control = false",
	})
	c.rewrite(c.node("validator-1"), func(text string) string { return text + "accept_password = true\n" })
	c.start()
	const victim = "load40"
	counted := func() string {
		out, err := exec.CommandContext(t.Context(), "ldapsearch", "-LLL", "-x", "-H", server["LDAPI"], "-D", server["MANAGER_DN"], "-w", server["MANAGER_PASSWORD"],
			"-b", "uid="+victim+",cn=users,cn=accounts,"+server["BASE"], "-s", "base", "passwordRetryCount", "accountUnlockTime").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	tries := full(300)
	inLanes(8, tries, func(i int) {
		a, err := applicant{name: victim, token: fmt.Sprintf("wrong-%d", i)}.withKey()
		if err != nil {
			t.Error(err)
			return
		}
		if got := c.enrol(context.WithoutCancel(t.Context()), c.est()[0]+"/"+userLabel, a); got.status != http.StatusUnauthorized {
			t.Errorf("%v", got)
		}
	})
	// 389 Directory Server reads the count, adds one and writes it, without a lock: of binds
	// at the same time it may count fewer than there were, never more.
	said := counted()
	_, after, _ := strings.Cut(said, "passwordRetryCount: ")
	line, _, _ := strings.Cut(after, "\n")
	count, err := strconv.Atoi(line)
	if err != nil || count < 1 || count > 4 || strings.Contains(said, "accountUnlockTime") {
		t.Errorf("after %d wrong passwords the directory says:\n%s", tries, said)
	}
	tell(t, "%d wrong passwords: 389 Directory Server counted %d of 6", tries, count)
}

// TestReliabilityCanary: a password, its code, and the secret of a RADIUS server stand in no
// log at its loudest, no metric, no audit, no database and no answer.
func TestReliabilityCanary(t *testing.T) {
	t.Parallel()
	radius := lab(t, "freeradius")
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1}, "")
	c.ipa.AddRADIUS(ipatest.Proxy{Name: "lab", Servers: []string{radius["AUTH"]}, Secret: radius["SECRET"], Timeout: 3, Retries: 2})
	c.ipa.AddRADIUS(ipatest.Proxy{Name: "dead", Servers: []string{"127.0.0.1:9"}, Secret: radius["SECRET"], Timeout: 1})
	for _, name := range []string{"olga", "chaim"} {
		c.ipa.AddUser(ipatest.User{UID: name, Password: accountPassword, AuthTypes: []string{"radius"}, RADIUS: "lab"})
	}
	c.ipa.AddUser(ipatest.User{UID: "lost", Password: accountPassword, AuthTypes: []string{"radius"}, RADIUS: "dead"})
	for _, n := range c.nodes {
		c.rewrite(n, func(text string) string { return text + "\n[log]\nlevel = \"debug\"\n" })
	}
	c.start()
	user := c.user()
	code := c.ipa.Code(user)
	// Codes are six digits and could stand anywhere: they are looked for behind the password.
	secrets := []string{accountPassword, accountPassword + code, radius["SECRET"], c.ipa.ServicePassword(), radius["PASSWORD"]}
	var answers bytes.Buffer
	for _, try := range []struct {
		user, password string
		status         int
	}{
		{user, accountPassword + code, http.StatusOK},
		{user, accountPassword + code, http.StatusUnauthorized}, // with another key
		{user, accountPassword + "999999", http.StatusUnauthorized},
		{"nobody", accountPassword + code, http.StatusUnauthorized},
		{accountPassword, accountPassword, http.StatusUnauthorized},
		{"olga", radius["PASSWORD"] + "123456", http.StatusOK},
		{"olga", radius["PASSWORD"] + "x", http.StatusUnauthorized},
		{"chaim", radius["PASSWORD"], http.StatusUnauthorized},
		{"lost", accountPassword + code, http.StatusServiceUnavailable},
		{"lost", accountPassword + code, http.StatusUnauthorized},
	} {
		a, err := applicant{name: try.user, token: try.password}.withKey()
		if err != nil {
			t.Fatal(err)
		}
		got := c.enrol(t.Context(), c.userURLs()[0], a)
		if got.status != try.status {
			t.Errorf("%s: %v, not %d", try.user, got, try.status)
		}
		answers.WriteString(got.text)
	}
	c.ipa.SetFault(ipatest.Garbage) //nolint:errcheck // opens no listener
	if a, err := (applicant{name: user, token: accountPassword + code}).withKey(); err != nil || c.enrol(t.Context(), c.userURLs()[0], a).status == http.StatusOK {
		t.Error("served by garbage", err)
	}
	for _, n := range c.nodes {
		answers.WriteString(metricsText(t, n))
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	}
	looked := 0
	hunt := func(where string, text []byte) {
		looked += len(text)
		for i, s := range secrets {
			for form, hidden := range map[string]string{
				"": s, "base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "="), "hex": hex.EncodeToString([]byte(s)),
			} {
				if bytes.Contains(text, []byte(hidden)) {
					t.Errorf("secret %d is in %s %s", i, where, form)
				}
			}
		}
	}
	hunt("answers and metrics", answers.Bytes())
	err := filepath.WalkDir(c.s.state, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == "ldap.password" {
			return err
		}
		text, err := os.ReadFile(path)
		hunt(path, text)
		return err
	})
	if err != nil || looked < 100_000 {
		t.Errorf("looked at %d octets, %v", looked, err)
	}
	tell(t, "five secrets in three forms are in none of %d KiB of logs at debug level, metrics, answers, audit and databases", looked>>10)
}

func metricsText(t *testing.T, n *node) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.ops+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
