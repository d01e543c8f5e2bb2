package publish

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// ocspPath is where OCSP requests are answered.
	ocspPath = "/ocsp"
	// maxRequest is what a request may be long, in octets: one with a signature and its
	// certificate is.
	maxRequest = 8 << 10

	typeRequest, typeResponse = "application/ocsp-request", "application/ocsp-response"
)

// serveOCSP answers a request by POST, or by GET with its base64 behind the path (RFC 6960
// appendix A.1). Whatever is wrong with it is said in OCSP, not in HTTP (section 2.3).
func (s *Server) serveOCSP(w http.ResponseWriter, r *http.Request, behind string) {
	var request []byte
	switch {
	case r.Method == http.MethodPost && (behind == "" || behind == "/"):
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != typeRequest {
			http.Error(w, "An OCSP request has the type "+typeRequest+".", http.StatusUnsupportedMediaType)
			return
		}
		var err error
		if request, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest)); err != nil {
			status := http.StatusBadRequest
			if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, "The request cannot be read, or is too long.", status)
			return
		}
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && len(behind) > 1:
		request = decodePath(behind[1:])
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "OCSP requests are sent by POST, or by GET behind the path.", http.StatusMethodNotAllowed)
		return
	}
	der, status := s.c.Responses.Answer(r.Context(), request)
	w.Header().Set("Content-Type", typeResponse)
	if r.Method == http.MethodPost || status.Response == nil || status.nonce {
		w.Header().Set("Cache-Control", "no-store")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(der))
		return
	}
	// RFC 5019 section 6.2, but for how long: a revocation is to be seen soon.
	w.Header().Set("Cache-Control", fresh)
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, der[max(0, len(der)-16):]))
	http.ServeContent(w, r, "", status.ThisUpdate, bytes.NewReader(der))
}

// decodePath returns what stands in a path; nothing, which is no request, for what is not base64.
func decodePath(escaped string) []byte {
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return nil
	}
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil
	}
	return der
}
