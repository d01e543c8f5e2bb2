package mesh

import (
	"context"
	"crypto/rand"
	"net"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/estuary-pki/estuary/services/fault"
)

// Call is a call that the mesh refused before its handler saw it.
type Call struct {
	// Kind is Forbidden when the peer may not make this call, or there is no such call, and
	// Malformed when the message carries a field that this version does not know.
	Kind fault.Kind
	// Peer is the mesh name of the caller.
	Peer string
	// Address is where the connection comes from, without port.
	Address string
	// Method is the full method, "/package.Service/Method", as the peer wrote it.
	Method string
	// RequestID is the id under which every process logs this request.
	RequestID string
	// Reason says what was wrong, for the audit; the peer is not told.
	Reason string
}

// requestIDKey is where contexts carry the request id.
type requestIDKey struct{}

// requestIDHeader is how it travels.
const requestIDHeader = "estuary-request-id"

// maxRequestID is its greatest length, in octets.
const maxRequestID = 64

// NewRequestID returns an id for a request that has none: at least 128 random bits in base32.
func NewRequestID() string { return rand.Text() }

// WithRequestID returns a context under which calls to other services carry id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// PeerName returns the mesh name of the peer whose call ctx belongs to, or "" outside a call.
func PeerName(ctx context.Context) string {
	if l := linkOf(ctx); l != nil {
		return l.name
	}
	return ""
}

// linkOf returns the connection of the call that ctx belongs to, or nil.
func linkOf(ctx context.Context) *link {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	l, _ := p.AuthInfo.(*link)
	return l
}

// addressOf returns where the call comes from, without port.
func addressOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}

// incomingRequestID returns the id that the peer sent, or a new one when it sent none or one
// that could forge log lines.
func incomingRequestID(ctx context.Context) string {
	if ids := metadata.ValueFromIncomingContext(ctx, requestIDHeader); len(ids) == 1 && validRequestID(ids[0]) {
		return ids[0]
	}
	return NewRequestID()
}

func validRequestID(id string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	return id != "" && len(id) <= maxRequestID && strings.Trim(id, allowed) == ""
}

// outgoing returns a context whose calls carry the request id of ctx, or a new one.
func outgoing(ctx context.Context) context.Context {
	id := RequestID(ctx)
	if !validRequestID(id) {
		id = NewRequestID()
	}
	return metadata.AppendToOutgoingContext(ctx, requestIDHeader, id)
}
