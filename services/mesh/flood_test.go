package mesh_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

// raw is an HTTP/2 client that does what it likes.
type raw struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	stream uint32
}

func rawClient(t *testing.T, ca *meshtest.CA, addr, peer string) *raw {
	t.Helper()
	files := ca.Cert(t, peer)
	own, err := tls.LoadX509KeyPair(string(files.Certificate), string(files.Key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	conn := tls.Client(dialTCP(t, addr), &tls.Config{
		RootCAs: roots, ServerName: meshtest.Validator, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{own},
	})
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, conn: conn, framer: http2.NewFramer(conn, conn), stream: 1}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.enc = hpack.NewEncoder(&r.block)
	if err := r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := r.framer.WriteSettingsAck(); err != nil {
		t.Fatal(err)
	}
	return r
}

// headers opens a stream and returns its id.
func (r *raw) headers(method string, more ...hpack.HeaderField) (uint32, error) {
	id := r.stream
	r.stream += 2
	r.block.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: method},
		{Name: ":authority", Value: meshtest.Validator},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}, more...) {
		if err := r.enc.WriteField(f); err != nil {
			r.t.Fatal(err)
		}
	}
	return id, r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block.Bytes(), EndHeaders: true})
}

// request makes a call of one message, without deadline. Of a message beyond the first frame
// of 16 KiB only that frame is sent: its length stands at its beginning.
func (r *raw) request(method string, message []byte) {
	r.t.Helper()
	id, err := r.headers(method)
	if err != nil {
		r.t.Fatal(err)
	}
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	first := body[:min(len(body), 16<<10)]
	if err := r.framer.WriteData(id, len(first) == len(body), first); err != nil {
		r.t.Fatal(err)
	}
}

// grpcStatus returns the status of the next call that ends, or why none does.
func (r *raw) grpcStatus() string {
	_ = r.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			return err.Error()
		}
		h, ok := f.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		for _, field := range h.Fields {
			if field.Name == "grpc-status" {
				return field.Value
			}
		}
	}
}

// drainFrames reads what the server says until it hangs up.
func (r *raw) drainFrames() chan struct{} {
	gone := make(chan struct{})
	go func() { // ends with the connection
		defer close(gone)
		for {
			if _, err := r.framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
	return gone
}

// CVE-2023-44487: calls that are opened only to be cancelled.
func TestRapidReset(t *testing.T) {
	for name, withMessage := range map[string]bool{"before the message": false, "while the handler runs": true} {
		t.Run(name, func(t *testing.T) {
			ca := meshtest.New(t)
			var running, most, started atomic.Int64
			set := metrics.NewSet()
			s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
				started.Add(1)
				n := running.Add(1)
				defer running.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				if r.GetPageSize() == 0 {
					<-ctx.Done()
				}
				return answer(ctx, r)
			}, func(c *meshtest.ServeConfig) { c.Metrics = set })
			r := rawClient(t, ca, s.Addr, meshtest.Admin)
			gone := r.drainFrames()
			const method = "/" + tokenAdmin + "/ListTokens"
			sent := 0
			for ; sent < 100_000; sent++ {
				id, err := r.headers(method)
				if err == nil && withMessage {
					err = r.framer.WriteData(id, true, []byte{0, 0, 0, 0, 0})
				}
				if err == nil {
					err = r.framer.WriteRSTStream(id, http2.ErrCodeCancel)
				}
				if err != nil {
					break
				}
			}
			select {
			case <-gone:
			case <-time.After(5 * time.Second):
				t.Error("the connection was not cut")
			}
			if sent == 100_000 || metric(set, "estuary_mesh_connections_cut_total") != "1" {
				t.Errorf("%d calls went through, %s connections cut", sent, metric(set, "estuary_mesh_connections_cut_total"))
			}
			if withMessage == (started.Load() == 0) {
				t.Errorf("%d handlers were started: this is not the case that it names", started.Load())
			}
			if most.Load() > mesh.MaxStreams {
				t.Errorf("%d handlers at once", most.Load())
			}
			start := time.Now()
			_, err := validatorv1.NewTokenAdminClient(s.Dial(t, meshtest.Admin)).ListTokens(t.Context(), &validatorv1.ListTokensRequest{PageSize: 1})
			if took := time.Since(start); err != nil || took > time.Second {
				t.Errorf("a good call behind the flood: %v after %v", err, took)
			}
			eventually(t, "handlers end", func() bool { return running.Load() == 0 })
			t.Logf("cut after %d calls, %d handlers started, %d at once", sent, started.Load(), most.Load())
		})
	}
}

func TestStreamsAreBounded(t *testing.T) {
	ca := meshtest.New(t)
	release := make(chan struct{})
	var running atomic.Int64
	s := serve(t, ca, func(ctx context.Context, r *validatorv1.ListTokensRequest) (*validatorv1.ListTokensResponse, error) {
		running.Add(1)
		<-release
		return answer(ctx, r)
	})
	r := rawClient(t, ca, s.Addr, meshtest.Admin)
	for range mesh.MaxStreams + 20 {
		id, err := r.headers("/" + tokenAdmin + "/ListTokens")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.framer.WriteData(id, true, []byte{0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	_ = r.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for refused < 20 {
		f, err := r.framer.ReadFrame()
		if err != nil {
			t.Fatalf("%d streams refused: %v", refused, err)
		}
		if rst, ok := f.(*http2.RSTStreamFrame); ok && rst.ErrCode == http2.ErrCodeRefusedStream {
			refused++
		}
	}
	eventually(t, "all streams run", func() bool { return running.Load() == mesh.MaxStreams })
	close(release)
}

func TestHeaderListIsBounded(t *testing.T) {
	ca := meshtest.New(t)
	s := serve(t, ca, answer)
	for size, ok := range map[int]bool{12 << 10: true, 17 << 10: false} {
		r := rawClient(t, ca, s.Addr, meshtest.Admin)
		id, err := r.headers("/"+tokenAdmin+"/ListTokens", hpack.HeaderField{Name: "x", Value: strings.Repeat("x", size)})
		if err == nil {
			err = r.framer.WriteData(id, true, []byte{0, 0, 0, 0, 0})
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := r.grpcStatus(); (got == "0") != ok {
			t.Errorf("%d octets of header: %s", size, got)
		}
	}
}

// A ping flood ends with GOAWAY at the third ping too many.
func TestPingFlood(t *testing.T) {
	ca := meshtest.New(t)
	s := serve(t, ca, answer)
	r := rawClient(t, ca, s.Addr, meshtest.Admin)
	gone := r.drainFrames()
	for range 1000 {
		if r.framer.WritePing(false, [8]byte{1}) != nil {
			break
		}
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the connection was not cut")
	}
}

// A connection that never says hello is closed.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	ca := meshtest.New(t)
	s := serve(t, ca, answer)
	conn := dialTCP(t, s.Addr)
	start := time.Now()
	_ = conn.SetReadDeadline(start.Add(8 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatal("the server spoke first")
	}
	if took := time.Since(start); took > 7*time.Second || took < 4*time.Second {
		t.Errorf("closed after %v", took)
	}
}

func TestWindow(t *testing.T) {
	var w mesh.Window
	now := time.Unix(1_800_000_000, 0)
	for i := range 3 {
		if w.Over(now, 3) {
			t.Errorf("event %d is over 3", i+1)
		}
	}
	if !w.Over(now.Add(999*time.Millisecond), 3) {
		t.Error("the fourth event within a second is not over 3")
	}
	if w.Over(now.Add(999*time.Millisecond), 3) {
		t.Error("told twice")
	}
	for range 3 {
		if w.Over(now.Add(time.Second), 3) {
			t.Error("the window did not end")
		}
	}
}
