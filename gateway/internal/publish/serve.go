package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/estuary-pki/estuary/services/fault"
)

const (
	// connections is how many there may be at once, maxHeader what a request may be long.
	connections = 512
	maxHeader   = 4 << 10
	// ioTime bounds reading a request, idleTime waiting for the next. A list may take long to
	// write to a slow client.
	ioTime, writeTime, idleTime = 5 * time.Second, 2 * time.Minute, 30 * time.Second
	stopTime                    = 5 * time.Second
	// fresh is for how long a cache may answer in our place: a revocation is to be seen soon.
	fresh = "public, max-age=30"
)

// ServerConfig is what a Server is made of. All are required.
type ServerConfig struct {
	Lists     *Lists
	Responses *Responses
	Authority Authority
	Log       *slog.Logger
}

// Server answers GET /crl/NAME.crl and /ca/NAME.crt, and OCSP requests at /ocsp, by plain HTTP:
// who has to check a certificate cannot need a certificate for that.
type Server struct{ c ServerConfig }

// NewServer returns a Server.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Lists == nil || c.Responses == nil || c.Authority == nil || c.Log == nil {
		return nil, errors.New("publishing needs lists, OCSP responses, an authority and a log")
	}
	return &Server{c: c}, nil
}

// Serve answers on ln, which it closes, until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: ioTime, ReadTimeout: ioTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true,
	}
	stopped := make(chan struct{})
	go func() { // ends with ctx, which the caller ends
		defer close(stopped)
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if server.Shutdown(ending) != nil {
			_ = server.Close()
		}
	}()
	err := server.Serve(netutil.LimitListener(ln, connections))
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("publishing on %s: %w", ln.Addr(), err)
	}
	<-stopped
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if path := r.URL.EscapedPath(); path == ocspPath || strings.HasPrefix(path, ocspPath+"/") {
		s.serveOCSP(w, r, strings.TrimPrefix(path, ocspPath))
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Only GET and HEAD are answered here.", http.StatusMethodNotAllowed)
		return
	}
	f, err := s.find(r.Context(), r.URL)
	switch {
	case errors.Is(err, fault.Unavailable):
		w.Header().Set("Retry-After", "10")
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, fault.Public(err), http.StatusServiceUnavailable)
		return
	case err != nil:
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("ETag", f.tag)
	w.Header().Set("Cache-Control", fresh)
	http.ServeContent(w, r, "", f.since, bytes.NewReader(f.content))
}

// file is what stands at a URL.
type file struct {
	kind, tag string
	since     time.Time // zero where it does not matter
	content   []byte
}

var errNothing = errors.New("nothing is there")

// find returns what stands at a path.
func (s *Server) find(ctx context.Context, u *url.URL) (file, error) {
	issuers, err := s.c.Authority.Issuers(ctx)
	if err != nil {
		return file{}, err
	}
	for _, issuer := range issuers {
		switch u.EscapedPath() {
		case "/crl/" + url.PathEscape(issuer.Name) + ".crl":
			list, err := s.c.Lists.Of(ctx, issuer)
			if err != nil {
				return file{}, err
			}
			// RFC 2585 section 4.2.
			return file{kind: "application/pkix-crl", tag: fmt.Sprintf(`"%x"`, list.Number), since: list.ThisUpdate, content: list.Raw}, nil
		case "/ca/" + url.PathEscape(issuer.Name) + ".crt":
			// RFC 2585 section 4.1. Its last octets are those of its signature.
			der := issuer.Certificate.Raw
			tail := der[max(0, len(der)-16):]
			return file{kind: "application/pkix-cert", tag: fmt.Sprintf(`"%x"`, tail), content: der}, nil
		}
	}
	return file{}, errNothing
}
