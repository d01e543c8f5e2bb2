package est

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/problem"
	"github.com/estuary-pki/estuary/services/csr"
)

// readBody checks what the header says of the body, and reads it. Content-Transfer-Encoding
// and Accept are not looked at (RFC 8951 section 3). The error is a *problem.Problem.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := checkType(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > csr.MaxBody {
		return nil, tooLarge()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, csr.MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &problem.Problem{Status: http.StatusRequestTimeout, Close: true, Text: "The body took too long to arrive."}
	case err != nil:
		return nil, &problem.Problem{Status: http.StatusBadRequest, Close: true, Text: "The body is not complete, or its chunks are malformed."}
	}
	// The request has arrived: the time it had for that must not cut off the handler, which
	// net/http would tell that the client had gone.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return body, nil
}

// checkType wants application/pkcs10, with any parameters, once (RFC 7030 section 4.2.1,
// RFC 5967), and no compression.
func checkType(h http.Header) error {
	values := h.Values("Content-Type")
	kind := ""
	if len(values) == 1 {
		kind, _, _ = strings.Cut(values[0], ";")
	}
	if !strings.EqualFold(strings.Trim(kind, " \t"), "application/pkcs10") {
		return &problem.Problem{Status: http.StatusUnsupportedMediaType, Text: "The Content-Type has to be application/pkcs10."}
	}
	for _, coding := range h.Values("Content-Encoding") {
		if !strings.EqualFold(strings.Trim(coding, " \t"), "identity") {
			return &problem.Problem{Status: http.StatusUnsupportedMediaType, Text: "A Content-Encoding is not accepted."}
		}
	}
	return nil
}

func tooLarge() error {
	return &problem.Problem{Status: http.StatusRequestEntityTooLarge, Close: true, Text: "The request is too large: at most 65536 octets of body and 49152 octets of DER are accepted."}
}
