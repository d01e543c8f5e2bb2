package auditcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/command"
	"github.com/estuary-pki/estuary/services/run"
)

// instead opens the place for writing, instead of the service, and returns the reason why.
func (c call) instead(ctx context.Context) (p Place, reason string, err error) {
	flags := command.Flags()
	flags.StringVar(&reason, "reason", "", "")
	if p, err = c.place(ctx, flags, true); err != nil {
		return Place{}, "", err
	}
	if reason == "" {
		return Place{}, "", errors.Join(run.Usagef("give a reason for the audit\nusage: %s", c.usage), p.Close())
	}
	return p, reason, nil
}

// accept has the service go on with a chain that it refuses. What is wrong is printed, the
// first record first. The audit says that it was accepted, and why.
func accept(ctx context.Context, in call) (err error) {
	p, reason, err := in.instead(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	done, err := audit.Accept(ctx, audit.AcceptConfig{DB: p.DB, Chain: p.Chain, File: p.File, Reason: reason})
	if err := errors.Join(name(in.out, done.Report), err); err != nil {
		return err
	}
	if done.Cause == nil {
		_, err := fmt.Fprintln(in.out, "the service goes on with this chain as it is: nothing to accept")
		return err
	}
	if errors.Is(done.Cause, audit.ErrRolledBack) {
		if _, err := fmt.Fprintln(in.out, "records are gone: credentials that were used since then could be used again"); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(in.out, "accepted: the chain ended at record %d and goes on with record %d; problems found: %d; start the service again\n",
		done.Ended, done.Seq, done.Report.Found)
	return err
}

// reset makes the machine's time the newest on record, when that one came from a clock that
// was wrong: time would stand still until then. The audit says who may have done it, and why.
func reset(ctx context.Context, in call) (err error) {
	p, reason, err := in.instead(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	before, err := p.Chain.NewestTime(ctx, p.DB)
	if err != nil {
		return err
	}
	now := time.Now()
	if !before.After(now) {
		_, err := fmt.Fprintf(in.out, "the newest record is of %s, which is not ahead of the clock: nothing to do\n", before.Format(time.RFC3339))
		return err
	}
	err = p.DB.Write(ctx, func(ctx context.Context, tx audit.Transaction) error {
		_, err := p.Chain.Append(ctx, tx, audit.Record{
			Time: now, Event: "clock.reset", Outcome: audit.Success, Actor: "operator", Reason: reason,
			Detail: map[string]string{"from": before.Format(time.RFC3339)},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("recording the reset: %w", err)
	}
	_, err = fmt.Fprintf(in.out, "time goes on from %s instead of %s; start the processes again, with clocks that are right\n",
		now.UTC().Format(time.RFC3339), before.Format(time.RFC3339))
	return err
}
