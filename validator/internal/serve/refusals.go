package serve

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// Refusals returns what records the calls that the mesh refuses: administration.refused for
// those to TokenAdmin, call.refused for the others.
func Refusals(s *state.Store, log *slog.Logger, now func() time.Time) (func(context.Context, mesh.Call), error) {
	if s == nil || log == nil || now == nil {
		return nil, errors.New("recording refused calls needs state, log and clock")
	}
	administration := "/" + validatorv1.TokenAdmin_ServiceDesc.ServiceName + "/"
	return func(ctx context.Context, c mesh.Call) {
		r := audit.Record{
			Time: now(), Event: "call.refused", Outcome: audit.Refused,
			Actor: c.Peer, Address: c.Address, RequestID: c.RequestID, Reason: c.Reason,
			Detail: map[string]string{"method": c.Method},
		}
		if strings.HasPrefix(c.Method, administration) {
			r.Event = "administration.refused"
		}
		if err := s.Record(ctx, r); err != nil {
			log.LogAttrs(ctx, slog.LevelError, "a refused call could not be recorded", slog.String("method", c.Method),
				slog.String("peer", c.Peer), slog.Any("error", err))
		}
	}, nil
}
