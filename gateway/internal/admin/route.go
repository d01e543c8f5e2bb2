package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/estuary-pki/estuary/gateway/internal/config"
)

// call is one request of a known administrator.
type call struct {
	http  *http.Request
	actor actor
	// id is the last part of the path, for routes that take one.
	id string
	// about is what the audit shall say of the act beside who and when; handlers add to it.
	about map[string]string
	// intend records that the act is about to happen. A handler that changes something calls
	// it once the request is found to be good, and does nothing when it fails.
	intend   func() error
	intended bool
}

// handler answers a call. Its error is a *problem or comes from a client of the mesh.
type handler func(ctx context.Context, c *call) (status int, body any, err error)

// action is what a method does at a path.
type action struct {
	// event names it in the audit; empty for what only a refusal makes worth a record.
	event string
	// scope is what the actor needs; empty where any valid credential will do.
	scope config.Scope
	run   handler
}

// route is a path with its methods. The star in a path stands for an id.
type route struct {
	path    string
	methods map[string]action
}

// table is every route of the API.
func (s *Server) table() []route {
	return []route{
		{"/admin/health", map[string]action{
			http.MethodGet: {run: s.getHealth},
		}},
		{"/admin/openapi.json", map[string]action{
			http.MethodGet: {run: s.getDescription},
		}},
		{"/admin/otp", map[string]action{
			http.MethodGet:  {event: "token.listed", scope: config.ScopeOTPRead, run: s.listTokens},
			http.MethodPost: {event: "token.created", scope: config.ScopeOTPWrite, run: s.createToken},
		}},
		{"/admin/otp/*", map[string]action{
			http.MethodDelete: {event: "token.revoked", scope: config.ScopeOTPWrite, run: s.revokeToken},
		}},
		{"/admin/certs", map[string]action{
			http.MethodGet: {event: "certificate.listed", scope: config.ScopeCertsRead, run: s.listCertificates},
		}},
		{"/admin/certs/*", map[string]action{
			http.MethodGet: {event: "certificate.read", scope: config.ScopeCertsRead, run: s.getCertificate},
		}},
		{"/admin/certs/*/revoke", map[string]action{
			http.MethodPost: {event: "certificate.revoked", scope: config.ScopeCertsWrite, run: s.revokeCertificate},
		}},
	}
}

// find returns what r asks for, and the id in its path.
func (s *Server) find(r *http.Request) (action, string, *problem) {
	for _, route := range s.routes {
		id, ok := match(route.path, r.URL.EscapedPath())
		if !ok {
			continue
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if found, ok := route.methods[method]; ok {
			return found, id, nil
		}
		return action{}, "", &problem{
			status: http.StatusMethodNotAllowed,
			detail: "This path does not have the method.",
			header: http.Header{"Allow": {route.allow()}},
		}
	}
	return action{}, "", &problem{status: http.StatusNotFound, detail: "There is nothing at this path."}
}

// match tells whether path is that of a route, and returns the id in it. No path of this API
// needs percent-encoding, so an encoded one is another path.
func match(pattern, path string) (id string, ok bool) {
	before, after, has := strings.Cut(pattern, "*")
	if !has {
		return "", path == pattern
	}
	id, begins := strings.CutPrefix(path, before)
	id, ends := strings.CutSuffix(id, after)
	return id, begins && ends && id != "" && !strings.ContainsAny(id, "/%")
}

// allow returns the methods of the route for an Allow header (RFC 9110 section 10.2.1).
func (r route) allow() string {
	var names []string
	for name := range r.methods {
		names = append(names, name)
		if name == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
