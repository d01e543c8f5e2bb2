package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/estuary-pki/estuary/services/command"
	common "github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/validator/internal/config"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
	"github.com/estuary-pki/estuary/validator/internal/keytab"
)

const keytabUsage = "usage: validator keytab list (--config FILE | KEYTAB)"

// tickets is what accepts Kerberos tickets.
type tickets struct {
	keytab   *keytab.Keytab
	acceptor *kerberos.Acceptor
}

// openTickets reads the keytab and makes what accepts tickets under its keys.
func (p *parts) openTickets(c config.GSSAPI) (t *tickets, err error) {
	t = new(tickets)
	t.keytab, err = keytab.Open(keytab.Config{
		Path: string(c.Keytab), Principals: c.Principals(), KeepRemoved: time.Duration(c.KeepRemovedKeys),
		Log: p.log, Metrics: p.set, Now: p.clock.Now,
	})
	if err != nil {
		return nil, err
	}
	t.acceptor, err = kerberos.New(kerberos.Config{
		Keys: t.keytab.Keys, Principals: c.Principals(), Realms: c.ClientRealms(),
		Skew: time.Duration(c.ClockSkew), Bindings: c.ChannelBindings, Log: p.log,
	})
	return t, err
}

// keytabList shows what a keytab holds, never a key. With --config it is the one that the
// configuration names, and principals without a key in it are an error.
func keytabList(_ context.Context, args []string, out io.Writer) error {
	flags := command.Flags()
	path := flags.String("config", "", "")
	if err := flags.Parse(args); err != nil || (*path == "") == (flags.NArg() != 1) || *path != "" && flags.NArg() > 0 {
		return run.Usagef(keytabUsage)
	}
	file, wanted := flags.Arg(0), []string(nil)
	if *path != "" {
		c := config.Default()
		if err := common.Load(*path, c); err != nil {
			return err
		}
		if !c.GSSAPI.Enabled {
			return errors.New("[gssapi] enabled is false: there is no keytab")
		}
		file, wanted = string(c.GSSAPI.Keytab), c.GSSAPI.Principals()
	}
	entries, err := keytab.Load(file)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, table(entries)); err != nil {
		return err
	}
	if missing := keytab.Missing(entries, wanted); len(missing) > 0 {
		return fmt.Errorf("the keytab has no AES key of %s, for which the configuration wants tickets", strings.Join(missing, ", "))
	}
	return nil
}

// table writes a line for each key.
func table(entries []keytab.Entry) string {
	rows := []string{"PRINCIPAL\tVERSION\tENCRYPTION TYPE\tMADE\tUSED"}
	for _, e := range entries {
		used := "yes"
		if !e.Usable() {
			used = "no: not AES"
		}
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t%s\t%s", printable(e.Principal), e.KVNO, keytab.Name(e.EType), e.Made.Format(time.RFC3339), used))
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = io.WriteString(w, strings.Join(rows, "\n")+"\n") // to memory
	_ = w.Flush()
	return text.String()
}

// printable quotes what would do something to a terminal.
func printable(s string) string {
	if quoted := fmt.Sprintf("%+q", s); quoted[1:len(quoted)-1] != s {
		return quoted
	}
	return s
}
