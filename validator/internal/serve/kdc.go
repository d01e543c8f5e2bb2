package serve

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/otpd"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

// kdcActor is who asks on the socket, in the audit.
const kdcActor = "kdc"

// KDC returns what answers a KDC: whether the password is the account's, by the same
// decision, with the same limits and on the same record as for an EST client.
func KDC(l *login.Login, s *state.Store, log *slog.Logger, now func() time.Time) (func(context.Context, otpd.Request) bool, error) {
	if l == nil || s == nil || log == nil || now == nil {
		return nil, errors.New("answering a KDC needs login, state, log and clock")
	}
	return func(ctx context.Context, r otpd.Request) bool {
		id := mesh.NewRequestID()
		out, err := l.Check(ctx, login.Attempt{User: r.User, Password: r.Password, Binding: r.ID})
		if err != nil {
			log.LogAttrs(ctx, slog.LevelWarn, "a login for the KDC was not decided", slog.String("request_id", id), slog.Any("error", err))
			return false
		}
		record := audit.Record{
			Time: now(), Event: "login.accepted", Outcome: audit.Success, Actor: kdcActor, RequestID: id,
			Detail: map[string]string{},
		}
		if out.Account.Principal != "" {
			record.Identity = out.Account.Principal + "@" + out.Account.Realm
		}
		if out.Refused != "" {
			record.Event, record.Outcome, record.Reason = "login.refused", audit.Refused, out.Refused
		} else {
			record.Detail["backend"] = out.Proved.Backend
		}
		if out.Alarm != "" {
			record.Detail["alarm"] = out.Alarm
			log.LogAttrs(ctx, slog.LevelError, "a stored row was changed by somebody else",
				slog.String("reason", out.Alarm), slog.String("request_id", id))
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
		defer cancel()
		if err := s.Settle(ctx, out.Settlement, &record); err != nil {
			log.LogAttrs(ctx, slog.LevelError, "a login for the KDC could not be recorded", slog.String("request_id", id), slog.Any("error", err))
			return false
		}
		return out.Refused == ""
	}, nil
}
