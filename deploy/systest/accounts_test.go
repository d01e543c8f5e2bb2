package systest_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// userLabel is the EST label of accounts.
const userLabel = "user"

// accountPassword is every account's password, before its code.
const accountPassword = "Correct.Horse-9"

// accounts is a cluster whose validators ask a directory.
type accounts struct {
	*cluster
	ipa  *ipatest.Server
	made atomic.Int64
}

// planAccounts makes everything for a cluster beside a directory that behaves like FreeIPA's;
// extra stands at the end of the validators' configuration.
func planAccounts(t *testing.T, sh shape, extra string) *accounts {
	t.Helper()
	ipa, err := ipatest.Start(ipatest.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ipa.Close() })
	c := &accounts{cluster: planCluster(t, sh), ipa: ipa}
	c.useDirectory(directorySettings{
		server: ipa.LDAPS(), ca: ipa.CAFile(), realm: ipa.Realm(), bindDN: ipa.ServiceDN(), password: ipa.ServicePassword(), extra: extra,
	})
	return c
}

// directorySettings is what the validators are told of a directory.
type directorySettings struct {
	server, ca, realm, bindDN, password string
	more                                string // lines of [directory]
	extra                               string // behind everything
}

// useDirectory has the validators ask a directory, the signers believe them, and the gateways
// serve the label of accounts. Every validator has a set of spend keys of its own; they all
// have one in common.
func (c *cluster) useDirectory(d directorySettings) {
	c.t.Helper()
	if err := d.secrets(c.s.state); err != nil {
		c.t.Fatal(err)
	}
	for i, n := range c.nodes {
		c.rewrite(n, func(text string) string { return d.configure(n.service, text, i) })
	}
}

// configure returns the configuration of a service with accounts of the directory; own picks
// the second spend key of a validator.
func (d directorySettings) configure(service, text string, own int) string {
	switch service {
	case "signer":
		text = strings.Replace(text, `methods = ["token", "certificate"]`, `methods = ["token", "certificate", "ldap-otp", "ldap-password", "radius"]`, 1)
		text = strings.Replace(text, `realms = ["DEVICES"]`, fmt.Sprintf(`realms = ["DEVICES", %q]`, d.realm), 1)
		return text + fmt.Sprintf(signerAccounts, userLabel, d.realm)
	case "gateway":
		return text + fmt.Sprintf("\n[[label]]\nname = %q\n", userLabel)
	case "validator":
		return text + fmt.Sprintf(validatorAccounts, d.server, d.realm, d.ca, d.bindDN, d.more, 1+own%3, userLabel) + d.extra
	}
	return text
}

const signerAccounts = `
[[profile]]
label = %q
identity_kinds = ["user"]
methods = ["ldap-otp", "ldap-password", "radius"]
realms = [%q]
subject = "CN={uid}"
`

// The network of the tests is one address, which refuses are many of.
const validatorAccounts = `
[directory]
servers = [%q]
realm = %q
ca = %q
bind_dn = %q
password_file = "validator/ldap.password"
timeout = "2s"
%s
[one_time]
spend_keys = ["validator/spend-0.key", "validator/spend-%d.key"]

[throttle]
network_max_failures = 1000000
global_max_failures = 1000000

[[label]]
name = %q
basic = "directory"
`

func random32() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}

// secrets writes the files that the configuration names.
func (d directorySettings) secrets(state string) error {
	errs := []error{os.WriteFile(filepath.Join(state, "validator/ldap.password"), []byte(d.password), 0o600)}
	for i := range 4 {
		path := filepath.Join(state, fmt.Sprintf("validator/spend-%d.key", i))
		errs = append(errs, os.WriteFile(path, []byte(hex.EncodeToString(random32())+"\n"), 0o600))
	}
	return errors.Join(errs...)
}

// user makes an account with a HOTP token.
func (c *accounts) user() string {
	name := fmt.Sprintf("user%d", c.made.Add(1))
	c.ipa.AddUser(ipatest.User{UID: name, Password: accountPassword, AuthTypes: []string{"otp"}})
	c.ipa.AddToken(ipatest.Token{ID: name, Owner: name, HOTP: true})
	return name
}

// holder returns an applicant with the user's next code.
func (c *accounts) holder(user string) (applicant, error) {
	return applicant{name: user, token: accountPassword + c.ipa.Code(user)}.withKey()
}

func (c *accounts) userURLs() (urls []string) {
	for _, url := range c.est() {
		urls = append(urls, url+"/"+userLabel)
	}
	return urls
}

// TestReliabilityOneCodeManyRequests: of 64 requests at once with one code and 64 keys,
// through every gateway and validators with different sets of spend keys, one gets a
// certificate and the others 401, although the directory would accept the code each time.
func TestReliabilityOneCodeManyRequests(t *testing.T) {
	t.Parallel()
	for name, sh := range map[string]shape{
		"postgres": {gateways: 2, validators: 3, signers: 2, postgres: true},
		"sqlite":   {gateways: 1, validators: 1, signers: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := planAccounts(t, sh, "")
			c.ipa.Replays(true)
			c.start()
			var good, binds atomic.Int64
			rounds := full(200)
			inLanes(2, rounds, func(i int) {
				user := c.user()
				got := c.crowdOf(t, user, 64)
				good.Add(int64(got))
				n := c.ipa.Binds(c.ipa.UserDN(user))
				binds.Add(int64(n))
				if got != 1 || n != 1 {
					t.Errorf("round %d: %d certificates, %d binds", i, got, n)
				}
			})
			v := c.look()
			if n := v.count(stateIssued); n != rounds {
				t.Errorf("%d certificates in the ledger for %d codes", n, rounds)
			}
			tell(t, "%d rounds of 64 requests with one code for 64 keys: %d certificates, %d binds", rounds, good.Load(), binds.Load())
		})
	}
}

// crowdOf lets so many applicants with one code ask at once; it returns how many got a
// certificate. The others have to get 401.
func (c *accounts) crowdOf(t *testing.T, user string, size int) (served int) {
	first, err := c.holder(user)
	if err != nil {
		t.Error(err)
		return 0
	}
	urls, answers := c.userURLs(), make([]answer, size)
	var asking sync.WaitGroup
	for i := range answers {
		a, err := first.withKey()
		if err != nil {
			t.Error(err)
			return 0
		}
		asking.Go(func() { answers[i] = c.enrol(context.WithoutCancel(t.Context()), urls[i%len(urls)], a) })
	}
	asking.Wait()
	for _, got := range answers {
		switch got.status {
		case http.StatusOK:
			served++
		case http.StatusUnauthorized:
		default:
			t.Errorf("%s: %v", user, got)
		}
	}
	return served
}

// TestReliabilityLostRepliesOfAccounts: the reply to a login is lost on its way, at each hop.
// The client asks again with the same key and code: it gets the certificate that the ledger
// has, and the directory sees no second bind. Another key gets 401.
func TestReliabilityLostRepliesOfAccounts(t *testing.T) {
	t.Parallel()
	var validators, signers, gateways hop
	p := &proxies{ctx: context.WithoutCancel(t.Context())}
	t.Cleanup(func() { p.close(t) })
	c := planAccounts(t, shape{gateways: 1, validators: 2, signers: 1, postgres: true}, "")
	var towardsValidators []string
	for _, address := range c.addresses("validator") {
		towardsValidators = append(towardsValidators, p.listen(t, &validators, address))
	}
	c.rewrite(c.node("gateway-1"), func(text string) string {
		return retarget(retarget(text, "validator", towardsValidators...), "signer", p.listen(t, &signers, c.addresses("signer")[0]))
	})
	c.start()
	url := estAt(p.listen(t, &gateways, c.addresses("gateway")[0])) + "/" + userLabel
	each, repeated, stolen := full(99)/3+1, 0, 0
	for _, h := range []*hop{&validators, &signers, &gateways} {
		for range each {
			user := c.user()
			a, err := c.holder(user)
			if err != nil {
				t.Fatal(err)
			}
			h.armed.Store(1)
			first := c.enrol(t.Context(), url, a)
			h.armed.Store(0)
			if first.err == nil && first.status != http.StatusOK && !first.retriable() {
				t.Errorf("%s: the reply was lost: %v", user, first)
			}
			der, tries, err := c.persist(t.Context(), a, url)
			if err != nil {
				t.Error(err)
				continue
			}
			repeated += tries
			rows := c.look().of(user)
			if len(rows) != 1 || !same(rows[0].certificate, der) || first.der != nil && !same(first.der, der) {
				t.Errorf("%s: %d rows, or another certificate", user, len(rows))
			}
			if n := c.ipa.Binds(c.ipa.UserDN(user)); n != 1 {
				t.Errorf("%s: %d binds", user, n)
			}
			other, err := a.withKey()
			if err != nil {
				t.Fatal(err)
			}
			if got := c.enrol(t.Context(), url, other); got.status != http.StatusUnauthorized {
				t.Errorf("%s with another key: %v", user, got)
				stolen++
			}
		}
	}
	tell(t, "%d replies lost at each of three hops: %d repeats, one bind and one certificate each; other keys served %d", each, repeated, stolen)
}

// TestReliabilityValidatorDiesOverACode: a validator that dies behind the directory's answer
// leaves a code whose fate nobody knows. It issues nothing; the next code does.
func TestReliabilityValidatorDiesOverACode(t *testing.T) {
	t.Parallel()
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1, crashing: true}, "")
	c.start()
	validator, url := c.node("validator-1"), c.userURLs()[0]
	rounds := full(10)
	for i := range rounds {
		for _, point := range []string{"validator.pending", "validator.answered"} {
			user := c.user()
			if err := validator.stop(); err != nil {
				t.Fatal(err)
			}
			validator.start(t, "ESTUARY_FAILPOINTS="+point+"=kill")
			validator.awaitReady(t)
			a, err := c.holder(user)
			if err != nil {
				t.Fatal(err)
			}
			// The gateway may not have found it again yet.
			within(t, 20*time.Second, func() string { return "the validator does not die" }, func() bool {
				if got := c.enrol(t.Context(), url, a); !got.retriable() {
					t.Fatalf("round %d, %s: the validator died: %v", i, point, got)
				}
				select {
				case <-validator.ended:
					return true
				default:
					return false
				}
			})
			validator.awaitEnd(t)
			validator.start(t)
			validator.awaitReady(t)
			// It may be on its way as long as its lease is: then it is lost, and so is refused.
			last := answer{}
			within(t, 20*time.Second, func() string { return "the code is still being worked on: " + last.String() }, func() bool {
				last = c.enrol(t.Context(), url, a)
				return !last.retriable()
			})
			if last.status != http.StatusUnauthorized || !strings.Contains(last.text, "use the next one") {
				t.Errorf("round %d, %s: a code of unknown fate: %v", i, point, last)
			}
			next, err := c.holder(user)
			if err != nil {
				t.Fatal(err)
			}
			if point == "validator.pending" { // the directory has not seen the first one
				next.token = accountPassword + c.ipa.CodeAt(user, 1)
			}
			if got := c.enrol(t.Context(), url, next); got.status != http.StatusOK {
				t.Errorf("round %d, %s: the next code: %v", i, point, got)
			}
			if rows := c.look().of(user); len(rows) != 1 {
				t.Errorf("%s has %d rows", user, len(rows))
			}
		}
	}
	tell(t, "%d validators killed over a code: no certificate for it, one for the next", 2*rounds)
}
