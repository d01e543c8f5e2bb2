package est

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Layout is how base64 stands in a reply.
type Layout string

// The layouts. RFC 8951 section 3.1 leaves white space to the sender; clients differ.
const (
	// LayoutAuto is lines, but oneline for a request without User-Agent, as strongSwan's are.
	LayoutAuto Layout = "auto"
	// LayoutLines is lines of 64 columns, each ended by LF: libest needs line breaks.
	LayoutLines Layout = "lines"
	// LayoutOneline is one line without an end: strongSwan before 5.9.11 stumbles over any
	// white space.
	LayoutOneline Layout = "oneline"
)

// Valid tells whether l is one of the layouts.
func (l Layout) Valid() bool { return l == LayoutAuto || l == LayoutLines || l == LayoutOneline }

// columns is the length of a line of base64.
const columns = 64

// encode returns der in base64, in the layout for the request.
func (l Layout) encode(der []byte, r *http.Request) []byte {
	line := make([]byte, base64.StdEncoding.EncodedLen(len(der)))
	base64.StdEncoding.Encode(line, der)
	_, named := r.Header["User-Agent"]
	if l == LayoutOneline || l == LayoutAuto && !named {
		return line
	}
	out := make([]byte, 0, len(line)+len(line)/columns+1)
	for len(line) > 0 {
		n := min(columns, len(line))
		out = append(append(out, line[:n]...), '\n')
		line = line[n:]
	}
	return out
}

// reply is what goes to the client.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// encoded returns a reply of der in base64. The transfer encoding is named although no
// receiver may look at it (RFC 8951 section 3): older ones do.
func (c *call) encoded(contentType, caching string, der []byte) reply {
	return reply{status: http.StatusOK, body: c.layout.encode(der, c.http), header: http.Header{
		"Content-Type":              {contentType},
		"Content-Transfer-Encoding": {"base64"},
		"Cache-Control":             {caching},
		"X-Content-Type-Options":    {"nosniff"},
	}}
}

const (
	// buffered is what net/http collects before it writes, in octets.
	buffered = 4 << 10
	// added bounds what it adds to the header: status line, Date and Connection.
	added = 128
	// writeTime bounds the writing of a reply that net/http does not write.
	writeTime = 10 * time.Second
)

// send writes head and body in one piece, and so in one TLS record up to 16 KiB: strongSwan
// reads no more than two. net/http does that for what fits into its buffer; a larger reply,
// which only a long chain is, takes over the connection and ends it. The error is for the log.
func send(w http.ResponseWriter, r *http.Request, a reply) error {
	header := w.Header()
	for name, values := range a.header {
		header[name] = values
	}
	if a.status == http.StatusNoContent {
		w.WriteHeader(a.status)
		return nil
	}
	header["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	var head bytes.Buffer
	if err := header.Write(&head); err != nil {
		return fmt.Errorf("writing the header: %w", err)
	}
	if r.Method != http.MethodHead && head.Len()+added+len(a.body) > buffered {
		return sendWhole(w, a)
	}
	w.WriteHeader(a.status)
	if _, err := w.Write(a.body); err != nil {
		return fmt.Errorf("writing the body: %w", err)
	}
	return nil
}

// sendWhole writes the reply past net/http.
func sendWhole(w http.ResponseWriter, a reply) (err error) {
	header := w.Header()
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var whole bytes.Buffer
	fmt.Fprintf(&whole, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	if err := header.Write(&whole); err != nil {
		return fmt.Errorf("writing the header: %w", err)
	}
	whole.WriteString("\r\n")
	whole.Write(a.body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("taking over the connection: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return fmt.Errorf("limiting the time to write: %w", err)
	}
	if _, err := conn.Write(whole.Bytes()); err != nil {
		return fmt.Errorf("writing the reply: %w", err)
	}
	return nil
}
