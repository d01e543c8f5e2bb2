package audittest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

const (
	// ahead puts the time of a record a year ahead, in the column or in the text.
	ahead     = `UPDATE audit_record SET at = at + 31536000000000 WHERE seq = `
	aheadText = `UPDATE audit_record SET at = at + 31536000000000, record = replace(record, '"2026-', '"2027-') WHERE seq = `
	bare      = `UPDATE audit_record SET mac = NULL`
)

// Whoever has the database without the key cannot make time stand still: the newest record
// is believed only when the service has written it.
func TestNewestTime(t *testing.T) {
	t.Parallel()
	unsigned := `DELETE FROM audit_checkpoint`
	young := []string{`DELETE FROM audit_record WHERE seq > 5`, `UPDATE audit_head SET seq = 5, hash = (SELECT hash FROM audit_record WHERE seq = 5)`}
	cases := map[string]struct {
		do   []string
		from int64
		// last is the newest record, and what is what is wrong with it, if anything.
		last int64
		what string
		// kept says that the process knows of a checkpoint.
		kept bool
	}{
		"whole":             {last: 30},
		"column":            {do: []string{ahead + "30"}, last: 30, what: "its time is not the one in its text"},
		"text":              {do: []string{aheadText + "30"}, last: 30, what: "its hash does not follow"},
		"text, recomputed":  {do: []string{aheadText + "30"}, from: 30, last: 30, what: "its MAC is not made with this service's key"},
		"text, bare":        {do: []string{aheadText + "30", bare + " WHERE seq = 30"}, from: 30, last: 30, what: "it has no MAC"},
		"text, all bare":    {do: []string{aheadText + "30", bare}, from: 30, last: 30, what: "it has no MAC"},
		"bare, no signed":   {do: []string{aheadText + "30", bare + " WHERE seq = 30", unsigned}, from: 30, last: 30, what: "it has no MAC"},
		"all bare, kept":    {do: []string{aheadText + "30", bare, unsigned}, from: 30, last: 30, what: "it has no MAC", kept: true},
		"added":             {do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 31, at, record, mac FROM audit_record WHERE seq = 30`, ahead + "31"}, from: 31, last: 31, what: "its time is not"},
		"added, with text":  {do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 31, at, record, mac FROM audit_record WHERE seq = 30`, aheadText + "31"}, from: 31, last: 31, what: "it has no MAC"},
		"far behind":        {do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 99, at, record, mac FROM audit_record WHERE seq = 30`, aheadText + "99"}, last: 99, what: "record"},
		"moved":             {do: []string{`UPDATE audit_record SET seq = 40 WHERE seq = 12`}, last: 40, what: "record"},
		"the one before":    {do: []string{`DELETE FROM audit_record WHERE seq = 29`}, last: 30, what: "record 29 is missing"},
		"before MACs":       {do: append([]string{unsigned}, young...), last: 5},
		"signed":            {do: append([]string{`DELETE FROM audit_checkpoint WHERE seq > 5`}, young...), last: 5},
		"signed, altered":   {do: append([]string{`DELETE FROM audit_checkpoint WHERE seq > 5`, aheadText + "5"}, young...), from: 5, last: 5, what: "it has no MAC"},
		"signed, forged":    {do: append([]string{`DELETE FROM audit_checkpoint WHERE seq > 5`, `UPDATE audit_checkpoint SET at = at + 1`}, young...), last: 5, what: "it has no MAC"},
		"before MACs, kept": {do: append([]string{unsigned}, young...), last: 5, what: "it has no MAC", kept: true},
		"signed behind":     {do: young, last: 5, what: "it has no MAC"},
		"nothing":           {do: []string{`DELETE FROM audit_record`}},
		"before the first":  {do: []string{`DELETE FROM audit_record WHERE seq <> 5`, `UPDATE audit_record SET seq = -5`}},
	}
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := history(t, opener())
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				undo := l.snapshot(t)
				defer undo()
				running := l.chain
				if !c.kept {
					l.restart(t)
				}
				defer func() { l.chain = running }()
				l.exec(t, c.do...)
				if c.from > 0 {
					l.recompute(t, c.from)
				}
				newest, err := l.chain.NewestTime(t.Context(), l.db)
				if c.what == "" {
					if err != nil || newest.IsZero() != (c.last == 0) || c.last > 5 && !newest.Equal(l.pass(0)) {
						t.Errorf("%v, %v", newest, err)
					}
					return
				}
				named := fmt.Sprintf("the newest record, %d, tells no time: ", c.last)
				if !errors.Is(err, audit.ErrTampered) || !newest.IsZero() || !strings.Contains(err.Error(), named) || !strings.Contains(err.Error(), c.what) || !strings.HasSuffix(err.Error(), wayOut) {
					t.Errorf("%v, %v, want %q", newest, err, c.what)
				}
			})
		}
	})
}
