package systest_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkKerberos measures enrolments by Kerberos ticket beside enrolments by token, in
// turns, through the same processes. `make bench-krb` runs it. Tickets come from the lab's
// KDC; each enrolment has an authenticator of its own, made beforehand as the requests are.
func BenchmarkKerberos(b *testing.B) {
	kdc := labOf(b, "kdc")
	s, err := newStack(b.Context(), filepath.Join(b.TempDir(), "state"))
	if err == nil {
		err = renewCA(b.Context(), s)
	}
	if err != nil {
		b.Fatal(err)
	}
	settings := labTickets(b, kdc, b.TempDir())
	for _, service := range services {
		text, err := os.ReadFile(s.config(service))
		if err == nil {
			err = os.WriteFile(s.config(service), []byte(settings.configure(service, string(text))), 0o600)
		}
		if err != nil {
			b.Fatal(err)
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
	roots, err := s.tlsRoots()
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: *clients,
	}}
	defer client.CloseIdleConnections()
	byToken := &figures{target: target{name: "token", url: s.est()}}
	byTicket := &figures{target: target{name: "ticket", url: s.est() + "/" + ticketLabel}}
	alice := ticketOf(b, kdc, "alice", kdc["PASSWORD"])
	b.ResetTimer()
	for range *rounds {
		for _, f := range []*figures{byToken, byTicket} {
			enrolments, err := prepare(b.Context(), s)
			if err == nil && f == byTicket {
				err = alice.authorize(b.Context(), enrolments)
			}
			if err != nil {
				b.Fatal(err)
			}
			before := processTimes(b, s)
			f.round(b, client, enrolments)
			f.cpu = add(f.cpu, before, processTimes(b, s))
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	for _, f := range []*figures{byToken, byTicket} {
		slices.Sort(f.latency)
		b.ReportMetric(f.rate(), f.name+"s/s")
		b.ReportMetric(f.each(), f.name+"-cpu-ms")
		b.ReportMetric(ms(f.percentile(99)), f.name+"-p99-ms")
		b.ReportMetric(ms(f.cpu["validator"])/float64(f.done), f.name+"-validator-ms")
	}
	b.ReportMetric(byTicket.rate()/byToken.rate(), "ratio")
}

// add adds what was used between two looks at the processes' times.
func add(sum, before, after map[string]time.Duration) map[string]time.Duration {
	if sum == nil {
		sum = map[string]time.Duration{}
	}
	for name, used := range after {
		sum[name] += used - before[name]
	}
	return sum
}

// authorize gives every request an authenticator of now in place of its token.
func (k ticket) authorize(ctx context.Context, enrolments []enrolment) (err error) {
	for i := range enrolments {
		if enrolments[i].authorization, err = k.header(time.Now()); err != nil || ctx.Err() != nil {
			return fmt.Errorf("making authenticators: %w", err)
		}
	}
	return nil
}
