package systest_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// lanes are the accounts load1 to load32, each of which has one login on its way.
const lanes = 32

// BenchmarkOTP measures enrolments by password and code beside what the back end does alone
// for a client of its own, in turns. `make bench-otp` runs it.
func BenchmarkOTP(b *testing.B) {
	for name, client := range map[string]func(*testing.B, map[string]string) func(dn, password string) error{
		"dirsrv-password": binder, "dirsrv-password-by-ldapwhoami": whoami,
	} {
		b.Run(name, func(b *testing.B) { passwords(b, client) })
	}
	b.Run("openldap-hotp", func(b *testing.B) {
		dir := labOf(b, "openldap")
		s := accountsStack(b, dir, `principal_attribute = "uid"
otp_required_control = false
otp_evidence = "(objectClass=oathHOTPUser)"`, "")
		codes, dns := hotpTokens(b, dir)
		bind := binder(b, dir)
		turns(b, s, func(lane int) string { return dir["PASSWORD"] + codes[lane]() }, func(_ context.Context, stop time.Time) int {
			return inTurns(stop, func(lane int) error { return bind(dns[lane], dir["PASSWORD"]+codes[lane]()) })
		})
	})
	b.Run("freeradius", func(b *testing.B) {
		dir, radius := labOf(b, "dirsrv"), labOf(b, "freeradius")
		secret := filepath.Join(b.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte(radius["SECRET"]), 0o600); err != nil {
			b.Fatal(err)
		}
		s := accountsStack(b, dir, "otp_required_control = false", fmt.Sprintf(
			"\n[[radius]]\nservers = [%q]\nfilter = \"(uid=load*)\"\nsecret = %q\n", radius["AUTH"], secret))
		var next atomic.Int64
		code := func(int) string { return fmt.Sprintf("%s%06d", radius["PASSWORD"], next.Add(1)%1_000_000) }
		turns(b, s, code, func(ctx context.Context, stop time.Time) int {
			done := 0
			for time.Now().Before(stop) {
				done += radclient(b, radius, secret, code)
			}
			return done
		})
	})
}

// passwords is accounts of 389 Directory Server beside what that does for a client.
func passwords(b *testing.B, client func(*testing.B, map[string]string) func(dn, password string) error) {
	b.Helper()
	dir := labOf(b, "dirsrv")
	s := accountsStack(b, dir, "otp_required_control = false", "accept_password = true\n")
	bind := client(b, dir)
	turns(b, s, func(int) string { return dir["PASSWORD"] }, func(_ context.Context, stop time.Time) int {
		return inTurns(stop, func(lane int) error {
			return bind(fmt.Sprintf("uid=load%d,cn=users,cn=accounts,%s", lane+1, dir["BASE"]), dir["PASSWORD"])
		})
	})
}

func labOf(b *testing.B, server string) map[string]string {
	b.Helper()
	values, err := readLab(server)
	if err != nil {
		b.Fatal(err)
	}
	return values
}

// accountsStack is a stack that asks the directory.
func accountsStack(b *testing.B, dir map[string]string, more, extra string) *stack {
	b.Helper()
	s, err := newStack(b.Context(), filepath.Join(b.TempDir(), "state"))
	if err == nil {
		err = renewCA(b.Context(), s)
	}
	d := directorySettings{
		server: dir["LDAPS"], ca: dir["CA"], realm: dir["REALM"], bindDN: dir["SERVICE_DN"], password: dir["SERVICE_PASSWORD"], more: more, extra: extra,
	}
	if err == nil {
		err = d.secrets(s.state)
	}
	for _, service := range services {
		if err != nil {
			b.Fatal(err)
		}
		var text []byte
		if text, err = os.ReadFile(s.config(service)); err == nil {
			err = os.WriteFile(s.config(service), []byte(d.configure(service, string(text), 0)), 0o600)
		}
	}
	b.Cleanup(func() {
		if err := s.stopAll(); err != nil {
			b.Error(err)
		}
	})
	if err := s.start(b.Context(), services...); err != nil {
		b.Fatal(err)
	}
	return s
}

// turns has the back end alone and Estuary take turns, and reports both rates and their ratio.
func turns(b *testing.B, s *stack, password func(lane int) string, alone func(context.Context, time.Time) int) {
	b.Helper()
	roots, err := s.tlsRoots()
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: lanes}}
	defer client.CloseIdleConnections()
	enrol := func(lane int) error {
		e, err := newEnrolment(fmt.Sprintf("load%d", lane+1), password(lane))
		if err != nil {
			return err
		}
		return e.enrol(b.Context(), client, s.est()+"/"+userLabel)
	}
	var backEnd, estuary int
	var backEndTook, estuaryTook time.Duration
	before := processTimes(b, s)
	b.ResetTimer()
	for range *rounds {
		began := time.Now()
		backEnd += alone(b.Context(), began.Add(*roundTime))
		backEndTook += time.Since(began)
		began = time.Now()
		estuary += inTurns(began.Add(*roundTime), func(lane int) error {
			err := enrol(lane)
			if err != nil {
				b.Error(err)
			}
			return err
		})
		estuaryTook += time.Since(began)
	}
	b.StopTimer()
	for name, after := range processTimes(b, s) {
		if name != "clients" {
			b.ReportMetric(ms(after-before[name])/float64(max(1, estuary)), name+"-ms")
		}
	}
	own, ours := float64(backEnd)/backEndTook.Seconds(), float64(estuary)/estuaryTook.Seconds()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(own, "backend/s")
	b.ReportMetric(ours, "enrolments/s")
	b.ReportMetric(ours/own, "ratio")
}

// inTurns has every lane do one thing after another until the time, and counts those that
// succeed. A lane ends with its first failure: a HOTP token may be out of step then.
func inTurns(stop time.Time, do func(lane int) error) int {
	var good atomic.Int64
	var running sync.WaitGroup
	for lane := range lanes {
		running.Go(func() {
			for time.Now().Before(stop) && do(lane) == nil {
				good.Add(1)
			}
		})
	}
	running.Wait()
	return int(good.Load())
}

// whoami is a client in a process for each bind, as scripts have it.
func whoami(b *testing.B, dir map[string]string) func(dn, password string) error {
	b.Helper()
	return func(dn, password string) error {
		cmd := exec.CommandContext(b.Context(), "ldapwhoami", "-x", "-H", dir["LDAPS"], "-D", dn, "-w", password)
		cmd.Env = append(os.Environ(), "LDAPTLS_CACERT="+dir["CA"])
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Errorf("%s: %v: %s", dn, err, out)
		}
		return err
	}
}

// binder is a client in this process: a connection, a handshake and a bind each, as lean as
// one can be.
func binder(b *testing.B, dir map[string]string) func(dn, password string) error {
	b.Helper()
	pem, err := os.ReadFile(dir["CA"])
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		b.Fatalf("reading the lab's CA: %v", err)
	}
	return func(dn, password string) error {
		conn, err := ldap.DialURL(dir["LDAPS"], ldap.DialWithTLSConfig(&tls.Config{RootCAs: roots}), ldap.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}))
		if err != nil {
			b.Errorf("%s: %v", dn, err)
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.Bind(dn, password); err != nil {
			b.Errorf("%s: %v", dn, err)
			return err
		}
		return nil
	}
}

// hotpTokens returns for each lane what makes its next code, and its DN.
func hotpTokens(b *testing.B, dir map[string]string) (next []func() string, dns []string) {
	b.Helper()
	list, err := os.ReadFile(dir["TOKENS"])
	if err != nil {
		b.Fatal(err)
	}
	next, dns = make([]func() string, lanes), make([]string, lanes)
	for line := range strings.Lines(string(list)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		number, is := strings.CutPrefix(f[0], "load")
		n, err := strconv.Atoi(number)
		if !is || err != nil || n > lanes {
			continue
		}
		key, err := hex.DecodeString(f[2])
		if err != nil {
			b.Fatal(err)
		}
		search := func(base, filter, attribute string) string {
			out, err := exec.CommandContext(b.Context(), "ldapsearch", "-LLL", "-o", "ldif_wrap=no", "-x", "-H", dir["LDAPI"], "-D", dir["MANAGER_DN"], "-w", dir["MANAGER_PASSWORD"],
				"-b", base, filter, attribute).Output()
			if err != nil {
				b.Fatal(err)
			}
			_, value, _ := strings.Cut("\n"+string(out), "\n"+attribute+": ")
			value, _, _ = strings.Cut(value, "\n")
			return value
		}
		counter := uint64(0)
		if last, err := strconv.ParseUint(search(f[4], "(objectClass=*)", "oathHOTPCounter"), 10, 64); err == nil {
			counter = last + 1
		}
		dns[n-1] = search(dir["BASE"], "(uid="+f[0]+")", "dn")
		next[n-1] = func() string { // one login of a lane at a time
			counter++
			return hotpCode(key, counter-1)
		}
	}
	return next, dns
}

// hotpCode is RFC 4226 section 5.3 with six digits.
func hotpCode(key []byte, counter uint64) string {
	m := hmac.New(sha1.New, key)
	_ = binary.Write(m, binary.BigEndian, counter)
	sum := m.Sum(nil)
	at := sum[19] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff%1_000_000)
}

// radclient asks FreeRADIUS by its own client, several at once, and returns how many it let in.
func radclient(b *testing.B, radius map[string]string, secret string, code func(int) string) int {
	b.Helper()
	const batch = 1000
	var requests strings.Builder
	for i := range batch {
		fmt.Fprintf(&requests, "User-Name = load%d, User-Password = %q, Message-Authenticator = 0x00\n\n", i%lanes+1, code(0))
	}
	file := filepath.Join(b.TempDir(), "requests")
	if err := os.WriteFile(file, []byte(requests.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	out, err := exec.CommandContext(b.Context(), "radclient", "-q", "-s", "-p", strconv.Itoa(lanes), "-f", file, "-S", secret, radius["AUTH"], "auth").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Access-Accepts : "+strconv.Itoa(batch)) && !strings.Contains(string(out), strconv.Itoa(batch)) {
		b.Fatalf("radclient: %v\n%s", err, out)
	}
	return batch
}
