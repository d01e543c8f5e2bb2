package est

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/estuary-pki/estuary/gateway/internal/problem"
)

// maxLabel is the longest label, in octets.
const maxLabel = 64

// reserved are the names that no label may have: operations of RFC 7030 section 3.2.2 and
// RFC 8295 section 2, with the segments of their longer paths, and the draft for renewal
// information.
var reserved = []string{
	"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs",
	"pal", "eecerts", "crls", "symmetrickeys", "firmware", "tamp", "return", "renewal-info",
}

// CheckLabel returns what is wrong with a label.
func CheckLabel(label string) error {
	switch {
	case label == "":
		return errors.New("is missing")
	case len(label) > maxLabel:
		return errors.New("is longer than 64 octets")
	case !plain(label):
		return errors.New("may hold letters, digits and - . _ ~ only")
	case strings.Trim(label, ".") == "":
		return errors.New("may not consist of dots")
	case slices.Contains(reserved, strings.ToLower(label)):
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
	"simpleenroll":   {write, (*Handler).simpleEnroll},
	"simplereenroll": {write, nil},
	"fullcmc":        {write, nil},
	"serverkeygen":   {write, nil},
}

// route finds label and operation and checks the method. The error is a *problem.Problem.
func (h *Handler) route(c *call) (operation, error) {
	label, name, ok := parsePath(c.http.URL.EscapedPath())
	if !ok {
		return operation{}, &problem.Problem{Status: http.StatusNotFound, Text: "There is nothing here. EST is at /.well-known/est/OPERATION and /.well-known/est/LABEL/OPERATION."}
	}
	if label == "" {
		label = h.defaultLabel
	}
	layout, ok := h.layouts[label]
	if !ok {
		return operation{}, &problem.Problem{Status: http.StatusNotFound, Text: "This label is not served."}
	}
	c.label, c.layout = label, layout
	do, ok := operations[name]
	if !ok {
		return operation{}, &problem.Problem{Status: http.StatusNotFound, Text: "There is no such EST operation."}
	}
	c.op = name
	switch {
	case do.run == nil:
		return operation{}, &problem.Problem{Status: http.StatusNotImplemented, Text: "The EST operation " + name + " is not implemented."}
	case !slices.Contains(do.methods, c.http.Method):
		allow := strings.Join(do.methods, ", ")
		return operation{}, &problem.Problem{Status: http.StatusMethodNotAllowed, Allow: allow, Text: "The EST operation " + name + " takes " + allow + "."}
	}
	return do, nil
}

// parsePath splits the path of a URL, as it was sent, into label, empty when there is none,
// and operation. An octet that is sent percent-encoded is the octet itself (RFC 3986 section
// 6.2.2.2), unless it could not stand in a name, such as an encoded slash. There is no other
// magic: an empty segment, and thus a slash at the end, makes another resource.
func parsePath(escaped string) (label, name string, ok bool) {
	parts := strings.Split(escaped, "/")
	for i, part := range parts {
		plainPart, err := url.PathUnescape(part)
		if err != nil || (i > 0 && !plain(plainPart)) {
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

// plain tells whether s consists of unreserved characters (RFC 3986 section 2.3), and of
// one at least.
func plain(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") == ""
}
