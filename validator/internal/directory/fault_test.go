package directory_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// slack is how much longer than its time a call may take.
const slack = 200 * time.Millisecond

// trouble is a server that only does this with a connection.
type trouble func(net.Conn)

// troubled starts one, on TCP or a unix socket, and returns its address.
func troubled(t *testing.T, network string, do trouble) string {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = filepath.Join(t.TempDir(), "socket")
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() { do(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// silent reads nothing and says nothing.
func silent(net.Conn) {}

// mute reads and says nothing.
func mute(c net.Conn) {
	b := make([]byte, 4096)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// saying answers the first octets with these, and then nothing more.
func saying(text string) trouble {
	return func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err == nil {
			_, _ = c.Write([]byte(text))
			mute(c)
		}
	}
}

// slow answers without an end, an octet every 20 ms.
func slow(c net.Conn) {
	_, _ = c.Read(make([]byte, 4096))
	_, _ = c.Write([]byte("\x30\x84\x00\x10\x00\x00"))
	for {
		if _, err := c.Write([]byte{0}); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// flooding answers with elements that are no messages, as fast as it can.
func flooding(c net.Conn) {
	_, _ = c.Read(make([]byte, 4096))
	junk := make([]byte, 0, 60000)
	for len(junk) < 50000 {
		junk = append(junk, "\x30\x05\x04\x03abc"...)
	}
	for {
		if _, err := c.Write(junk); err != nil {
			return
		}
	}
}

// reset answers the beginning of a message and resets the connection.
func reset(c net.Conn) {
	_, _ = c.Read(make([]byte, 4096))
	_, _ = c.Write([]byte("\x30\x0c\x02\x01\x01\x61"))
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

const (
	started  = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00" // StartTLS: success
	refused  = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00" // StartTLS: protocol error
	twoGiB   = "\x30\x84\x7f\xff\xff\xff\x04\x84\x7f\xff\xff\xf0aaaaaaaa"
	eightGiB = "\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff"
	garbage  = "HTTP/1.1 400 Bad Request\r\n\r\n\x00\xff\xfe"
	nested   = "\x30\x80\x30\x80\x30\x80\x30\x80\x30\x80\x30\x80\x30\x80\x30\x80"
)

// faulty are servers that fail in every way, by their URL's beginning.
var faulty = []struct {
	name, scheme string
	do           trouble
	early        bool // the call has to end long before its time
}{
	{"not reading", "ldaps", silent, false},
	{"mute", "ldaps", mute, false},
	{"garbage", "ldaps", saying(garbage), true},
	{"reset", "ldaps", reset, true},
	{"StartTLS not answered", "ldap", mute, false},
	{"StartTLS answered slowly", "ldap", slow, false},
	{"StartTLS then nothing", "ldap", saying(started), false},
	{"StartTLS refused", "ldap", saying(refused), true},
	{"StartTLS then garbage", "ldap", saying(started + garbage), true},
	{"garbage for StartTLS", "ldap", saying(garbage), false},
	{"2 GiB for StartTLS", "ldap", saying(twoGiB), true},
	{"reset in StartTLS", "ldap", reset, true},
	{"not reading", "ldapi", silent, false},
	{"mute", "ldapi", mute, false},
	{"slow", "ldapi", slow, false},
	{"garbage", "ldapi", saying(garbage), false}, // an element of which the rest never comes
	{"2 GiB", "ldapi", saying(twoGiB), true},
	{"2^64", "ldapi", saying(eightGiB), true},
	{"nested", "ldapi", saying(nested), false},
	{"flood", "ldapi", flooding, false},
	{"reset", "ldapi", reset, true},
}

func TestFaults(t *testing.T) {
	for _, f := range faulty {
		t.Run(f.scheme+" "+f.name, func(t *testing.T) {
			network := "tcp"
			if f.scheme == "ldapi" {
				network = "unix"
			}
			at := troubled(t, network, f.do)
			server := f.scheme + "://" + at
			if network == "unix" {
				server = (&scripted{listener: listenerAt(at)}).url()
			}
			before := runtime.NumGoroutine()
			var all sync.WaitGroup
			for _, call := range calls {
				config, _ := settings(server)
				config.Timeout = 300 * time.Millisecond
				d := client(t, config)
				all.Go(func() {
					begin := time.Now()
					err := call.do(t.Context(), d)
					took := time.Since(begin)
					if !errors.Is(err, fault.Unavailable) {
						t.Errorf("%s: %v, want Unavailable", call.name, err)
					}
					if took > config.Timeout+slack || f.early && took > config.Timeout*9/10 {
						t.Errorf("%s took %v", call.name, took)
					}
					var unknown *directory.Unknown
					if errors.As(err, &unknown) && unknown.Sent && f.scheme != "ldapi" {
						t.Errorf("%s: a password was sent without TLS: %v", call.name, err)
					}
				})
			}
			all.Wait()
			settled(t, before+len(calls)) // the server's own, which read until the end
		})
	}
}

// calls are those that ask a server.
var calls = []struct {
	name string
	do   func(context.Context, *directory.Client) error
}{
	{"Find", func(ctx context.Context, d *directory.Client) error { _, err := d.Find(ctx, "alice"); return err }},
	{"Bind", func(ctx context.Context, d *directory.Client) error {
		_, err := d.Bind(ctx, user, hidden("x"), directory.BindOptions{Tokens: true})
		return err
	}},
	{"GlobalTypes", func(ctx context.Context, d *directory.Client) error { _, err := d.GlobalTypes(ctx); return err }},
}

// A caller who hangs up gets his answer at once, and the server is not blamed, however long it
// had.
func TestCancel(t *testing.T) {
	at := troubled(t, "unix", mute)
	before := runtime.NumGoroutine()
	const patience = 1100 * time.Millisecond
	var all sync.WaitGroup
	for _, call := range calls {
		config, _ := settings((&scripted{listener: listenerAt(at)}).url())
		d := client(t, config)
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer time.AfterFunc(patience, cancel).Stop()
			begin := time.Now()
			err := call.do(ctx, d)
			if took := time.Since(begin); took > patience+slack || !errors.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v after %v", call.name, err, took)
			}
			if err := d.Check(t.Context()); err != nil {
				t.Errorf("%s: %v", call.name, err)
			}
		})
	}
	all.Wait()
	settled(t, before+len(calls))
}

// A peer that does not read holds up a write; nothing is buffered here.
func TestStuckWrite(t *testing.T) {
	before := runtime.NumGoroutine()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := directory.Exchange(ctx, ours)
	if took := time.Since(begin); err == nil || took > 100*time.Millisecond+slack {
		t.Errorf("%v after %v", err, took)
	}
	_ = theirs.Close()
	settled(t, before)
}

// An answer without an end is read as far as 4 MiB, whatever time there is.
func TestEndlessAnswer(t *testing.T) {
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sent := make(chan int)
	go func() { // ends when the other side closes
		total := 0
		_, _ = theirs.Read(make([]byte, 4096))
		for junk := bytes.Repeat([]byte("\x30\x05\x04\x03abc"), 5000); ; {
			n, err := theirs.Write(junk)
			if total += n; err != nil {
				sent <- total
				return
			}
		}
	}()
	err := directory.Exchange(ctx, ours)
	if n := <-sent; err == nil || ctx.Err() != nil || n > 4<<20 {
		t.Errorf("%v after %d octets", err, n)
	}
}

// The library's own bound is set with the first client of the process.
func TestBoundOfOneElement(t *testing.T) {
	config, _ := settings("ldapi://%2Fnowhere")
	client(t, config)
	if ber.MaxPacketLengthBytes != 4<<20 {
		t.Errorf("%d octets", ber.MaxPacketLengthBytes)
	}
}

// listenerAt is enough of a listener for scripted.url.
func listenerAt(path string) net.Listener { return named{path: path} }

type named struct {
	net.Listener
	path string
}

func (n named) Addr() net.Addr { return &net.UnixAddr{Name: n.path, Net: "unix"} }
