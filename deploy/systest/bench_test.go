package systest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The load. Server and clients share the machine, so a round is short and the three that
// are compared take turns: what disturbs one disturbs the others.
var (
	clients   = flag.Int("clients", 32, "clients at once in BenchmarkEnrol, at most 256")
	rounds    = flag.Int("rounds", 4, "rounds in BenchmarkEnrol")
	caKey     = flag.String("ca", "p256", "key type of the CA in BenchmarkEnrol; the floors sign with P-256")
	roundTime = flag.Duration("round", 5*time.Second, "longest time of a round in BenchmarkEnrol")
)

// perRound is how many certificates a round asks for at most: what one token is good for.
const perRound = 10_000

// device is whom the tokens are for.
const device = "pump-7"

// BenchmarkEnrol enrols through the four processes, and through one process that does a
// part of it, the two floors of floors. A round of each in turn, for connections that stay
// and for a new one each time; docs/benchmarks.md says what the figures mean. It takes its
// time from its flags and not from -benchtime. Any request that fails, fails it.
func BenchmarkEnrol(b *testing.B) {
	s, err := newStack(b.Context(), filepath.Join(b.TempDir(), "state"))
	if err == nil {
		err = renewCA(b.Context(), s)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.stopAll(); err != nil {
			b.Error(err)
		}
	})
	if err := s.start(b.Context(), services...); err != nil {
		b.Fatal(err)
	}
	bare, required := startFloors(b, s)
	for _, c := range []struct {
		name string
		keep bool
	}{{"keep-alive", true}, {"new-connections", false}} {
		b.Run(c.name, func(b *testing.B) {
			roots, err := s.tlsRoots()
			if err != nil {
				b.Fatal(err)
			}
			client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: *clients, DisableKeepAlives: !c.keep,
			}}
			defer client.CloseIdleConnections()
			report(b, s, compare(b, s, client, []target{{name: "bare", url: bare}, {name: "required", url: required}, {name: "estuary", url: s.est()}}))
		})
	}
}

// renewCA replaces the CA of a state that has not been started by one with a key of caKey.
func renewCA(ctx context.Context, s *stack) error {
	certificate, key := filepath.Join(s.state, "signer/ca.crt"), filepath.Join(s.state, "signer/ca.key")
	if err := errors.Join(os.Remove(certificate), os.Remove(key)); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "signer"), "ca", "init", "--certificate", certificate,
		"--key", key, "--key-type", *caKey, "--subject", "CN=Benchmark CA").CombinedOutput()
	if err != nil {
		return fmt.Errorf("making the CA: %w\n%s", err, out)
	}
	return nil
}

// target is a server to enrol with.
type target struct{ name, url string }

// figures are what a target did in all its rounds.
type figures struct {
	target
	done    int
	took    time.Duration
	cpu     map[string]time.Duration // by process; "clients" is this one
	others  time.Duration            // CPU of everything else on the machine
	latency []time.Duration
}

func (f *figures) rate() float64 { return float64(f.done) / f.took.Seconds() }

// each returns CPU milliseconds for one enrolment, in all processes.
func (f *figures) each() (ms float64) {
	for _, d := range f.cpu {
		ms += d.Seconds() * 1000 / float64(f.done)
	}
	return ms
}

func (f *figures) percentile(p int) time.Duration { return f.latency[(len(f.latency)-1)*p/100] }

// compare gives each target its turn in each round.
func compare(b *testing.B, s *stack, client *http.Client, targets []target) []*figures {
	b.Helper()
	all := make([]*figures, len(targets))
	for i, t := range targets {
		all[i] = &figures{target: t, cpu: map[string]time.Duration{}}
	}
	for range *rounds {
		enrolments, err := prepare(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range all {
			before, busy := processTimes(b, s), machineTime(b)
			accepted := accepts(b, s)
			done := f.round(b, client, enrolments)
			f.others += machineTime(b) - busy
			for name, used := range processTimes(b, s) {
				f.cpu[name] += used - before[name]
				f.others -= used - before[name]
			}
			if f.name == "estuary" && accepts(b, s)-accepted != done {
				b.Fatalf("%d enrolments, and the validator accepted %d credentials", done, accepts(b, s)-accepted)
			}
		}
	}
	for _, f := range all {
		slices.Sort(f.latency)
	}
	return all
}

// round has the clients enrol until the time or the prepared requests are at their end, and
// tells how many certificates they got. The floors store nothing: they may be asked twice.
func (f *figures) round(b *testing.B, client *http.Client, enrolments []enrolment) int {
	b.Helper()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	latencies := make([][]time.Duration, *clients)
	start := time.Now()
	end := start.Add(*roundTime)
	for c := range latencies {
		all.Go(func() {
			for i := next.Add(1) - 1; time.Now().Before(end) && failed.Load() == 0; i = next.Add(1) - 1 {
				if f.name == "estuary" && i >= int64(len(enrolments)) {
					return
				}
				begin := time.Now()
				if err := enrolments[i%int64(len(enrolments))].enrol(b.Context(), client, f.url); err != nil {
					failed.Add(1)
					b.Errorf("%s: %v", f.name, err)
					return
				}
				latencies[c] = append(latencies[c], time.Since(begin))
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	f.took += time.Since(start)
	got := slices.Concat(latencies...)
	f.latency = append(f.latency, got...)
	f.done += len(got)
	return len(got)
}

// enrolment is a request that is ready to be sent.
type enrolment struct {
	body     []byte
	point    []byte // of the public key: has to be in the answer
	user     string
	password string
	// authorization stands in the header instead of the two, where it is set.
	authorization string
}

// prepare makes the requests of a round, each for a key of its own and so no repeat, and
// their token.
func prepare(ctx context.Context, s *stack) ([]enrolment, error) {
	_, token, err := makeToken(ctx, s, fmt.Sprintf(`{"client_id": %q, "max_uses": %d}`, device, perRound))
	if err != nil {
		return nil, err
	}
	all := make([]enrolment, perRound)
	var next atomic.Int64
	var making sync.WaitGroup
	problems := make([]error, 2)
	for m := range problems {
		making.Go(func() {
			for i := next.Add(1) - 1; i < perRound && problems[m] == nil; i = next.Add(1) - 1 {
				all[i], problems[m] = newEnrolment(device, token)
			}
		})
	}
	making.Wait()
	return all, errors.Join(problems...)
}

func newEnrolment(user, password string) (enrolment, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return enrolment{}, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return enrolment{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user}}, key)
	if err != nil {
		return enrolment{}, err
	}
	return enrolment{body: base64.StdEncoding.AppendEncode(nil, der), point: point, user: user, password: password}, nil
}

// enrol asks for a certificate and sees to it that it is one for the key.
func (e enrolment) enrol(ctx context.Context, client *http.Client, url string) error {
	resp, text, err := e.post(ctx, client, url)
	if resp == nil {
		return err
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w: %s", resp.Status, err, text)
	}
	der, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil || !bytes.Contains(der, e.point) {
		return fmt.Errorf("the answer is no certificate for the key: %w", err)
	}
	return nil
}

// post sends the request and reads the answer; without one the response is nil.
func (e enrolment) post(ctx context.Context, client *http.Client, url string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/simpleenroll", bytes.NewReader(e.body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	if req.SetBasicAuth(e.user, e.password); e.authorization != "" {
		req.Header.Set("Authorization", e.authorization)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp, text, err
}

// tick is the unit of time in /proc, on every Linux (proc_pid_stat(5)).
const tick = 10 * time.Millisecond

// machineTime returns the CPU time so far of everything on this machine, and what its host
// took from it.
func machineTime(b *testing.B) (busy time.Duration) {
	b.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	var user, nice, system, idle, wait, irq, soft, steal time.Duration
	for i, field := range []*time.Duration{&user, &nice, &system, &idle, &wait, &irq, &soft, &steal} {
		if _, err := fmt.Sscan(strings.Fields(string(text))[1+i], (*int64)(field)); err != nil {
			b.Fatal(err)
		}
	}
	return (user + nice + system + irq + soft + steal) * tick
}

// processTimes returns the CPU time so far of the processes of the stack, and as "clients"
// that of this one, in which the floors are too.
func processTimes(b *testing.B, s *stack) map[string]time.Duration {
	b.Helper()
	times := map[string]time.Duration{}
	for name, cmd := range s.procs {
		times[name] = processTime(b, cmd.Process.Pid)
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	times["clients"] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	return times
}

// processTime returns the CPU time so far of a process.
func processTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name, in brackets, may hold anything; utime and stime are fields 14 and 15.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var user, system time.Duration
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], (*int64)(&user), (*int64)(&system)); err != nil {
		t.Fatal(err)
	}
	return (user + system) * tick
}

// accepts asks the validator's operations listener how many credentials it accepted.
func accepts(b *testing.B, s *stack) (n int) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", s.ports["OPS_PORT"]+2), nil)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	const counter = `estuary_validator_credentials_total{outcome="accepted"} `
	if _, value, ok := strings.Cut(string(text), counter); ok {
		if _, err := fmt.Sscan(value, &n); err != nil {
			b.Fatal(err)
		}
	}
	return n
}

// report prints a line for each target, and gives those of the last to the benchmark.
func report(b *testing.B, s *stack, all []*figures) {
	b.Helper()
	last := all[len(all)-1]
	text := fmt.Sprintf("%d clients, %d rounds of %v\n", *clients, *rounds, *roundTime)
	for _, f := range all {
		text += fmt.Sprintf("%-9s %6d enrolments  %7.1f/s  CPU %.2f ms  p50 %5.1f ms  p99 %5.1f ms  estuary is %.2f of it (CPU: %.2f)  others %.2f cores\n",
			f.name, f.done, f.rate(), f.each(), ms(f.percentile(50)), ms(f.percentile(99)), last.rate()/f.rate(), f.each()/last.each(), f.others.Seconds()/f.took.Seconds())
	}
	text += "CPU ms for each enrolment:"
	for _, name := range slices.Concat([]string{"clients"}, services) {
		text += fmt.Sprintf("  %s %.2f", name, last.cpu[name].Seconds()*1000/float64(last.done))
	}
	b.Log(text)
	for _, f := range all[:len(all)-1] {
		b.ReportMetric(last.rate()/f.rate(), "of-"+f.name)
	}
	b.ReportMetric(last.rate(), "enrolments/s")
	b.ReportMetric(last.each(), "CPU-ms/enrolment")
	b.ReportMetric(ms(last.percentile(50)), "p50-ms")
	b.ReportMetric(ms(last.percentile(99)), "p99-ms")
	b.ReportMetric(0, "ns/op") // is of no meaning here, and not printed
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
