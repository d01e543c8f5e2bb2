package est

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	"github.com/estuary-pki/estuary/gateway/internal/problem"
	"github.com/estuary-pki/estuary/services/label"
)

// CheckLabel returns what is wrong with a label.
func CheckLabel(name string) error {
	switch {
	case name == "":
		return errors.New("is missing")
	case len(name) > label.Max:
		return errors.New("is longer than 64 octets")
	case !label.Plain(name):
		return errors.New("may hold letters, digits and - . _ ~ only")
	case strings.Trim(name, ".") == "":
		return errors.New("may not consist of dots")
	case label.Reserved(name):
		return errors.New("is the name of an EST operation")
	}
	return nil
}

// operation is what stands behind the last segment of a URL.
type operation struct {
	methods []string
	// run is nil for what RFC 7030 defines and we do not have.
	run func(h *Handler, ctx context.Context, c *call) (reply, error)
}

var (
	read  = []string{http.MethodGet, http.MethodHead}
	write = []string{http.MethodPost}
)

var operations = map[string]operation{
	"cacerts":        {read, (*Handler).caCerts},
	"csrattrs":       {read, (*Handler).csrAttrs},
	"crls":           {read, (*Handler).revocationLists}, // RFC 8295 section 4
	"simpleenroll":   {write, (*Handler).simpleEnroll},
	"simplereenroll": {write, (*Handler).simpleReenroll},
	"fullcmc":        {write, nil},
	"serverkeygen":   {write, nil},
}

// route finds label and operation and checks the method. The error is a *problem.Problem.
func (h *Handler) route(c *call) (operation, error) {
	asked, name, ok := parsePath(c.http.URL.EscapedPath())
	if !ok {
		return operation{}, &problem.Problem{Status: http.StatusNotFound, Text: "There is nothing here. EST is at /.well-known/est/OPERATION and /.well-known/est/LABEL/OPERATION."}
	}
	if asked == "" {
		asked = h.defaultLabel
	}
	layout, ok := h.layouts[asked]
	if !ok {
		return operation{}, &problem.Problem{Status: http.StatusNotFound, Text: "This label is not served."}
	}
	c.label, c.layout = asked, layout
	do, ok := operations[name]
	if !ok {
		return operation{}, &problem.Problem{Status: http.StatusNotFound, Text: "There is no such EST operation."}
	}
	c.op = name
	switch {
	case name == "simplereenroll" && h.clientAuth == accept.ModeNone:
		return operation{}, &problem.Problem{Status: http.StatusNotImplemented, Text: "The EST operation simplereenroll is not implemented here: it needs a client certificate, and none is asked for in TLS."}
	case do.run == nil:
		return operation{}, &problem.Problem{Status: http.StatusNotImplemented, Text: "The EST operation " + name + " is not implemented."}
	case !slices.Contains(do.methods, c.http.Method):
		allow := strings.Join(do.methods, ", ")
		return operation{}, &problem.Problem{Status: http.StatusMethodNotAllowed, Allow: allow, Text: "The EST operation " + name + " takes " + allow + "."}
	}
	return do, nil
}

// parsePath splits the path of a URL, as it was sent, into the label asked for, empty when there is none,
// and operation. An octet that is sent percent-encoded is the octet itself (RFC 3986 section
// 6.2.2.2), unless it could not stand in a name, such as an encoded slash. There is no other
// magic: an empty segment, and thus a slash at the end, makes another resource.
func parsePath(escaped string) (asked, name string, ok bool) {
	parts := strings.Split(escaped, "/")
	for i, part := range parts {
		plainPart, err := url.PathUnescape(part)
		if err != nil || (i > 0 && !label.Plain(plainPart)) {
			return "", "", false
		}
		parts[i] = plainPart
	}
	if len(parts) < 4 || len(parts) > 5 || parts[0] != "" || parts[1] != ".well-known" || parts[2] != "est" {
		return "", "", false
	}
	if len(parts) == 4 {
		return "", parts[3], true
	}
	return parts[3], parts[4], true
}
