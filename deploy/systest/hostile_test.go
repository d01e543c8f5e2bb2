package systest_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
)

// TestReliabilityHostileTLS: what a client can present in TLS, or instead of it, is refused and
// costs gateway and validator together little. Nobody is disturbed by it.
func TestReliabilityHostileTLS(t *testing.T) {
	c := planCluster(t, shape{gateways: 1, validators: 1, signers: 1})
	c.rewrite(c.node("validator-1"), func(text string) string { // all of this comes from one address
		return text + "\n[throttle]\nnetwork_max_failures = 100000\nglobal_max_failures = 100000\n"
	})
	c.start()
	gateway := c.addresses("gateway")[0]
	good, err := c.applicant(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	renewable := c.holder(t, good)
	for name, offer := range hostile(t, c, good, renewable) {
		n := full(200)
		before := processTime(t, c.node("gateway-1").cmd.Process.Pid) + processTime(t, c.node("validator-1").cmd.Process.Pid)
		var accepted atomic.Int64
		var trying errgroup.Group
		trying.SetLimit(50)
		for range n {
			trying.Go(func() error {
				if offer(gateway) {
					accepted.Add(1)
				}
				return nil
			})
		}
		_ = trying.Wait()
		each := (processTime(t, c.node("gateway-1").cmd.Process.Pid) + processTime(t, c.node("validator-1").cmd.Process.Pid) - before) / time.Duration(n)
		tell(t, "%s: %d tries, %d accepted, %v of CPU each", name, n, accepted.Load(), each)
		if accepted.Load() > 0 {
			t.Errorf("%s: %d of %d accepted", name, accepted.Load(), n)
		}
		if each > 10*time.Millisecond {
			t.Errorf("%s: %v of CPU each", name, each)
		}
	}
	if got := c.enrol(t.Context(), c.est()[0], must(c.applicant(t.Context(), 1))(t)); got.status != http.StatusOK {
		t.Errorf("afterwards: %v", got)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// holder enrols and returns what a client presents then.
func (c *cluster) holder(t *testing.T, a applicant) *certpathtest.Holder {
	t.Helper()
	got := c.enrol(t.Context(), c.est()[0], a)
	if got.status != http.StatusOK {
		t.Fatalf("enrolling: %v", got)
	}
	return &certpathtest.Holder{Certificate: must(x509.ParseCertificate(got.der))(t), Key: a.key}
}

// hostile is what is tried; each tells whether it was accepted.
func hostile(t *testing.T, c *cluster, owner applicant, own *certpathtest.Holder) map[string]func(gateway string) bool {
	t.Helper()
	e := must(owner.enrolment())(t)
	renew := func(certificate tls.Certificate) func(string) bool {
		return func(gateway string) bool {
			conn, err := tls.Dial("tcp", gateway, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}})
			if err != nil {
				return false
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = fmt.Fprintf(conn, "POST /.well-known/est/simplereenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\nContent-Length: %d\r\n\r\n%s", len(e.body), e.body)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			return err == nil && resp.StatusCode == http.StatusOK
		}
	}
	handshake := func(config *tls.Config) func(string) bool {
		return func(gateway string) bool {
			config.InsecureSkipVerify = true
			conn, err := tls.Dial("tcp", gateway, config)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		}
	}
	issue, authority := certpathtest.Issue, certpathtest.Authority
	named := func(c *x509.Certificate) { authority(c); c.RawSubject = own.RawIssuer }
	stranger := issue(t, nil, nil, named)
	// 100 intermediates with RSA keys of 8192 bits: nobody has to know a private key for that.
	large := new(rsa.PublicKey)
	large.E, large.N = 65537, new(big.Int).SetBit(must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 8191)))(t), 8191, 1)
	large.N.SetBit(large.N, 0, 1)
	der := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "bomb"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}, stranger.Certificate, large, stranger.Key))(t)
	bomb := issue(t, stranger, nil, nil).TLS()
	for range 100 {
		bomb.Certificate = append(bomb.Certificate, der)
	}
	root := c.root(t)
	ours := func(change func(*x509.Certificate)) tls.Certificate {
		return issue(t, root, nil, func(c *x509.Certificate) {
			certpathtest.Of(t, 4, owner.name, "DEVICES")(c)
			change(c)
		}).TLS()
	}
	narrow := issue(t, root, nil, func(c *x509.Certificate) {
		authority(c)
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.test"}
	})
	outside := issue(t, narrow, nil, func(c *x509.Certificate) {
		certpathtest.Of(t, 4, owner.name, "DEVICES")(c)
		c.DNSNames = []string{"a.test"}
	})
	revoked := c.holder(t, must(c.applicant(t.Context(), 1))(t))
	c.revoke(t, revoked.Certificate)
	return map[string]func(string) bool{
		"TLS 1.0":                        handshake(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}),
		"TLS 1.1":                        handshake(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}),
		"RSA key exchange":               handshake(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}),
		"export suites":                  exportSuites,
		"no TLS":                         plainHTTP,
		"a stranger's certificate":       renew(issue(t, nil, nil, certpathtest.Of(t, 4, owner.name, "DEVICES")).TLS()),
		"in the authority's name":        renew(issue(t, stranger, nil, certpathtest.Of(t, 4, owner.name, "DEVICES")).TLS()),
		"100 intermediates of 8192 bits": renew(bomb),
		"never issued":                   renew(ours(func(*x509.Certificate) {})),
		"expired":                        renew(ours(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })),
		"for servers":                    renew(ours(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })),
		"outside of name constraints":    renew(outside.TLS(narrow)),
		"an authority's":                 renew(narrow.TLS()),
		"revoked":                        renew(revoked.TLS()),
	}
}

// root is the authority of the cluster with its key: what only an operator has.
func (c *cluster) root(t *testing.T) *certpathtest.Holder {
	t.Helper()
	read := func(file string) []byte {
		block, _ := pem.Decode(must(os.ReadFile(filepath.Join(c.s.state, "signer", file)))(t))
		return block.Bytes
	}
	key := must(x509.ParsePKCS8PrivateKey(read("ca.key")))(t)
	return &certpathtest.Holder{Certificate: must(x509.ParseCertificate(read("ca.crt")))(t), Key: key.(crypto.Signer)}
}

// revoke asks the admin API to.
func (c *cluster) revoke(t *testing.T, certificate *x509.Certificate) {
	t.Helper()
	url := fmt.Sprintf("https://%s/admin/certs/%040x/revoke", c.addresses("admin")[0], certificate.SerialNumber)
	req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"reason": "superseded"}`)))(t)
	req.Header.Set("Authorization", c.bearer)
	req.Header.Set("Content-Type", "application/json")
	resp := must(c.client.Do(req))(t)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("revoking: %s", resp.Status)
	}
}

// exportSuites offers TLS 1.2 with suites of 1999 alone (RFC 2246 appendix A.5).
func exportSuites(gateway string) bool {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 6, 0, 3, 0, 6, 0, 8, 1, 0)
	hello := append([]byte{22, 3, 1, 0, byte(len(body) + 4), 1, 0, 0, byte(len(body))}, body...)
	return answered(gateway, hello, func(first []byte) bool { return first[0] == 22 })
}

func plainHTTP(gateway string) bool {
	return answered(gateway, []byte("GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\n\r\n"), func(first []byte) bool {
		return strings.HasPrefix(string(first), "HTTP/1.1 200")
	})
}

func answered(gateway string, send []byte, good func([]byte) bool) bool {
	conn, err := net.DialTimeout("tcp", gateway, 5*time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write(send)
	first := make([]byte, 12)
	_, err = io.ReadFull(conn, first[:1])
	_, _ = io.ReadFull(conn, first[1:])
	return err == nil && good(first)
}

// TestReliabilityFloods: connections that do nothing, or very little, from many addresses, leave
// room for those who want something, cost a bounded amount of memory, and are closed in time.
func TestReliabilityFloods(t *testing.T) {
	c := newCluster(t, shape{gateways: 1, validators: 1, signers: 1})
	gateway := c.addresses("gateway")[0]
	calm := c.cacerts(t, full(1000))
	partial := "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n"
	for _, flood := range []struct {
		name  string
		count int
		begin func(net.Conn) error
		drip  string // sent octet by octet, one a second
	}{
		{"idle TCP", full(5000), func(net.Conn) error { return nil }, ""},
		{"partial headers", full(2000), overTLS("GET /.well-known/est/cacerts HTTP/1.1\r\nHost: lo"), ""},
		{"bodies of an octet a second", full(1000), overTLS(partial + "Content-Length: 60000\r\n\r\n"), "x"},
	} {
		before := processTime(t, c.node("gateway-1").cmd.Process.Pid)
		held := flooding(t, gateway, flood.count, flood.begin, flood.drip)
		under := c.cacerts(t, full(1000))
		memory := resident(t, c.node("gateway-1").cmd.Process.Pid)
		longest := held.end(t)
		tell(t, "%s: %d, the others' 99th percentile %v, %v without; at most %d MiB; closed within %v; %v of CPU", flood.name, flood.count,
			under.Round(time.Millisecond), calm.Round(time.Millisecond), memory>>20, longest.Round(100*time.Millisecond),
			processTime(t, c.node("gateway-1").cmd.Process.Pid)-before)
		if memory > 512<<20 {
			t.Errorf("%s: %d MiB", flood.name, memory>>20)
		}
		if longest > 8*time.Second { // five, what it takes to notice, and a busy machine
			t.Errorf("%s: one was open for %v", flood.name, longest)
		}
		if under > 2*calm+50*time.Millisecond {
			t.Errorf("%s: the others' 99th percentile is %v, not twice %v", flood.name, under, calm)
		}
	}
	for name, body := range map[string]string{
		"10 MiB":                 strings.Repeat("A", 10<<20),
		"a megabyte of blanks":   strings.Repeat(" ", 1<<20),
		"a header of 100 KiB":    "",
		"a compressed one":       "\x1f\x8b\x08\x00",
		"chunks without an end ": "chunked",
	} {
		if got := c.oversized(t, gateway, name, body); got != http.StatusRequestEntityTooLarge && got != http.StatusRequestHeaderFieldsTooLarge && got != http.StatusBadRequest {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// overTLS makes a handshake and sends a text.
func overTLS(text string) func(net.Conn) error {
	return func(conn net.Conn) error {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.Handshake(); err != nil {
			return err
		}
		_, err := io.WriteString(secure, text)
		return err
	}
}

// flood is connections that are held.
type flood struct {
	ending sync.WaitGroup
	mu     sync.Mutex
	opened []time.Duration // guarded by mu; how long each was open
}

// flooding opens connections from as many addresses as there are, and returns when all are.
func flooding(t *testing.T, gateway string, count int, begin func(net.Conn) error, drip string) *flood {
	t.Helper()
	f := &flood{}
	turn := make(chan struct{}, 16)
	var began sync.WaitGroup
	for i := range count {
		began.Add(1)
		turn <- struct{}{}
		f.ending.Go(func() {
			dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}}
			conn, err := dialer.DialContext(context.WithoutCancel(t.Context()), "tcp", gateway)
			since := time.Now()
			if err == nil {
				err = begin(conn)
			}
			<-turn
			began.Done()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			for err == nil && drip != "" && time.Since(since) < 20*time.Second {
				time.Sleep(time.Second)
				_, err = io.WriteString(conn, drip)
			}
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.Copy(io.Discard, conn)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.opened = append(f.opened, time.Since(since))
		})
	}
	began.Wait()
	return f
}

// end waits until all are closed, and returns the longest time that one was open.
func (f *flood) end(t *testing.T) time.Duration {
	t.Helper()
	f.ending.Wait()
	if len(f.opened) == 0 {
		t.Fatal("no connection was open")
	}
	return slices.Max(f.opened)
}

// cacerts asks n times, on a new connection each, and returns the 99th percentile of the time.
func (c *cluster) cacerts(t *testing.T, n int) time.Duration {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c.client.Transport.(*http.Transport).TLSClientConfig}}
	var took []time.Duration
	for range n {
		begun := time.Now()
		resp, err := client.Get(c.est()[0] + "/cacerts")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("asked for /cacerts: %s", resp.Status)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// resident returns the largest resident set that a process has had, in octets.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)))(t))) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("the kernel does not tell")
	return 0
}

// oversized sends a request that is too large, and returns the status.
func (c *cluster) oversized(t *testing.T, gateway, name, body string) int {
	t.Helper()
	conn := must(tls.Dial("tcp", gateway, &tls.Config{InsecureSkipVerify: true}))(t)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	head := "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n"
	go func() { // ends with the connection
		switch body {
		case "":
			_, _ = fmt.Fprintf(conn, "%sX: %s\r\n\r\n", head, strings.Repeat("a", 100<<10))
		case "chunked":
			_, _ = fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n", head)
			for {
				if _, err := fmt.Fprintf(conn, "1000\r\n%s\r\n", strings.Repeat("A", 0x1000)); err != nil {
					return
				}
			}
		default:
			_, _ = fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return 0
	}
	return resp.StatusCode
}
