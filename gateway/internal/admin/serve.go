package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/mesh"
)

// refusedEvent is what a request is in the audit that never became an act.
const refusedEvent = "administration.refused"

// ServeHTTP answers a request: who is it, what is asked, may he, do it. It writes the log
// line and the audit records of every one.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin, id := s.now(), mesh.NewRequestID()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("X-Request-Id", id)
	ctx, cancel := context.WithTimeout(mesh.WithRequestID(r.Context(), id), requestTimeout)
	defer cancel()

	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	c := &call{http: r, about: map[string]string{}}
	status, body, err := s.answer(ctx, c, id)
	level, reason := slog.LevelInfo, ""
	if err != nil {
		p := problemOf(err)
		status, reason = p.status, p.Error()
		if status >= http.StatusInternalServerError {
			level = slog.LevelError
		}
		p.write(w, id)
	} else {
		writeJSON(w, status, "application/json", body)
	}
	s.metrics.GetOrCreateCounter(fmt.Sprintf(`estuary_admin_requests_total{status="%d"}`, status)).Inc()
	s.log.LogAttrs(ctx, level, "admin request",
		slog.String("request_id", id), slog.String("method", audit.Clean(r.Method)),
		slog.String("path", audit.Clean(r.URL.Path)), slog.Int("status", status),
		slog.String("actor", c.actor.name), slog.String("address", address(r)),
		slog.Duration("took", s.now().Sub(begin)), slog.String("reason", audit.Clean(reason)))
}

// answer runs the call between its audit records. A handler that panics is an internal
// error with a record, like any other.
func (s *Server) answer(ctx context.Context, c *call, id string) (status int, body any, err error) {
	do, err := s.permit(c)
	if err != nil {
		return 0, nil, s.refuse(ctx, c, id, err)
	}
	c.intend = func() error {
		record := s.record(c, id, do.event)
		record.Outcome = audit.Intent
		if err := s.audit.Tell(record); err != nil {
			return unaudited(err)
		}
		c.intended = true
		return nil
	}
	status, body, err = s.run(ctx, do, c)
	if do.event == "" && err == nil {
		return status, body, nil
	}
	record := s.record(c, id, do.event)
	record.Outcome = audit.Success
	if err != nil {
		record.Outcome, record.Reason = audit.Failed, problemOf(err).Error()
		if problemOf(err).status < http.StatusInternalServerError {
			record.Outcome = audit.Refused
		}
	}
	if told := s.audit.Tell(record); told != nil {
		if err == nil && !c.intended {
			return 0, nil, unaudited(told)
		}
		s.unrecorded(ctx, id, told) // it happened, and the intent is on record
	}
	return status, body, err
}

// permit returns what the call asks for when its sender may have it.
func (s *Server) permit(c *call) (action, error) {
	if s.guard.Check(c.http) != nil {
		return action{}, &problem{status: http.StatusForbidden, detail: "A request from another web site.", reason: "cross-origin request"}
	}
	who, refused := s.gate.admit(c.http)
	if refused != nil {
		return action{}, refused
	}
	c.actor = who
	do, id, missing := s.find(c.http)
	if missing != nil {
		return action{}, missing
	}
	c.id = id
	if do.scope != "" && !who.may(do.scope) {
		return action{}, &problem{status: http.StatusForbidden, detail: fmt.Sprintf("This needs the scope %s.", do.scope)}
	}
	if c.http.Method != http.MethodPost && c.http.ContentLength != 0 {
		return action{}, badRequest("This method takes no body.")
	}
	return do, nil
}

// run calls the handler.
func (s *Server) run(ctx context.Context, do action, c *call) (status int, body any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "admin handler panicked",
				slog.Any("cause", cause), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("handler panicked: %v", cause)
		}
	}()
	return do.run(ctx, c)
}

// refuse records that the call was turned away with err, and returns err.
func (s *Server) refuse(ctx context.Context, c *call, id string, err error) error {
	record := s.record(c, id, refusedEvent)
	record.Outcome, record.Reason = audit.Refused, problemOf(err).Error()
	if told := s.audit.Tell(record); told != nil {
		s.unrecorded(ctx, id, told)
	}
	return err
}

// record returns a record of the call as far as it is known.
func (s *Server) record(c *call, id, event string) audit.Record {
	if event == "" {
		event = refusedEvent
	}
	detail := map[string]string{"method": c.http.Method, "path": c.http.URL.Path}
	for key, value := range c.about {
		detail[key] = value
	}
	return audit.Record{
		Time:      s.now(),
		Event:     event,
		Actor:     c.actor.name,
		Address:   address(c.http),
		RequestID: id,
		Detail:    detail,
	}
}

// unrecorded tells the operator that an audit record was lost.
func (s *Server) unrecorded(ctx context.Context, id string, err error) {
	s.metrics.GetOrCreateCounter("estuary_admin_audit_lost_total").Inc()
	s.log.LogAttrs(ctx, slog.LevelError, "audit record lost", slog.String("request_id", id), slog.Any("error", err))
}

// unaudited is the answer where a record has to exist before the act.
func unaudited(err error) *problem {
	return &problem{
		status: http.StatusServiceUnavailable,
		detail: "The audit cannot be written.",
		reason: fmt.Sprintf("writing the audit: %v", err),
		header: http.Header{"Retry-After": {retryAfter(5 * time.Second)}},
	}
}

// address returns the client's address without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
