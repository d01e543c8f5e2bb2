package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/login"
)

const checkUsage = "usage: validator check --config FILE [--account NAME]"

// check holds the configuration against the live directory: what is missing there and how to
// mend it, and, for an account, how its password would be checked. It tries no password and
// runs beside the process.
func check(ctx context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	path := flags.String("config", "", "")
	account := flags.String("account", "", "")
	if err := flags.Parse(args); err != nil || *path == "" || flags.NArg() > 0 {
		return run.Usagef(checkUsage)
	}
	c := config.Default()
	if err := common.Load(*path, c); err != nil {
		return err
	}
	if !c.Directory.Used() {
		return errors.New("[directory] servers is empty: there is nothing to check")
	}
	dc, err := c.Directory.Open()
	if err != nil {
		return err
	}
	dc.Log, dc.Metrics, dc.Now = slog.New(slog.DiscardHandler), metrics.NewSet(), time.Now
	client, err := directory.New(dc)
	if err != nil {
		return err
	}
	if _, err := c.Proxies(); err != nil {
		return err
	}
	var text strings.Builder
	wrong := report(&text, client.Verify(ctx))
	if *account != "" {
		err = describe(ctx, &text, c, client, *account)
	}
	if _, failed := io.WriteString(out, text.String()); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	if wrong > 0 {
		return fmt.Errorf("%d of the above have to be mended", wrong)
	}
	return nil
}

// report writes a line for each finding, two where something is wrong, and counts those.
func report(out *strings.Builder, findings []directory.Finding) (wrong int) {
	for _, f := range findings {
		if f.OK {
			fmt.Fprintf(out, "ok       %s\n", f.Subject)
			continue
		}
		wrong++
		fmt.Fprintf(out, "WRONG    %s: %s\n         to mend it: %s\n", f.Subject, f.Problem, f.Fix)
	}
	return wrong
}

// describe writes what the validator sees of an account, and under which label it would
// check its password how.
func describe(ctx context.Context, out *strings.Builder, c *config.Config, client *directory.Client, name string) error {
	e, err := client.Find(ctx, name)
	if err != nil {
		return fmt.Errorf("looking for the account %.80q: %w", name, err)
	}
	global, err := client.GlobalTypes(ctx)
	if err != nil {
		return err
	}
	policy, err := client.Lockout(ctx, e)
	if err != nil {
		return err
	}
	types, linked := login.Effective(e.AuthTypes, global), e.RADIUSLink
	for _, r := range c.RADIUS {
		if linked != "" || r.Filter == "" {
			continue
		}
		matches, err := client.Matches(ctx, e, r.Filter)
		if err != nil {
			return err
		}
		if matches {
			types, linked = []string{"radius"}, "by [[radius]] filter "+r.Filter
		}
	}
	line := func(what, text string) {
		if text == "" {
			text = "none"
		}
		fmt.Fprintf(out, "%-16s %s\n", what, text)
	}
	line("account", e.Principal+"@"+e.Realm)
	line("entry", e.DN)
	line("groups", strings.Join(e.Groups, ", "))
	line("types", strings.Join(types, ", "))
	line("RADIUS", linked)
	line("locked", fmt.Sprint(e.Locked))
	line("directory locks", fmt.Sprintf("after %d failures less than %s apart", policy.MaxFailures, policy.Interval))
	for _, l := range c.Labels {
		if l.Negotiate {
			line("label "+l.Name, "a ticket")
		}
		if !l.Basic.Directory() {
			continue
		}
		way, reason := login.Decide(login.Facts{
			Types: types, Linked: linked != "", AcceptPassword: l.AcceptPassword,
			Control: c.Directory.OTPRequiredControl, Evidence: c.Directory.OTPEvidence != "",
		})
		line("label "+l.Name, strings.TrimSuffix(way.String()+": "+reason, ": "))
	}
	return nil
}
