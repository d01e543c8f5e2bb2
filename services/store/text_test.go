package store_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/store"
)

func TestPlaceholders(t *testing.T) {
	for query, want := range map[string]string{
		"":                           "",
		"$1":                         "?1",
		"a = $12 AND b=$2":           "a = ?12 AND b=?2",
		"'$1' || $1 || '''$2'":       "'$1' || ?1 || '''$2'",
		`"$1" = $1`:                  `"$1" = ?1`,
		"-- $1\n$1 /* $2 */":         "-- $1\n?1 /* $2 */",
		"a$1 = $ OR $x = 5-$1":       "a$1 = $ OR $x = 5-?1",
		"'not closed $1":             "'not closed $1",
		"/* not closed $1":           "/* not closed $1",
		"-- not closed $1":           "-- not closed $1",
		"name = 'Zoë' AND id IN($3)": "name = 'Zoë' AND id IN(?3)",
	} {
		if got := store.Placeholders(query); got != want {
			t.Errorf("%q becomes %q, want %q", query, got, want)
		}
	}
}

func TestStatements(t *testing.T) {
	for file, want := range map[string][]string{
		"":                         nil,
		" -- nothing;\n/* ; */ ; ": nil,
		"A;":                       {"A"},
		"A;\n\nB\n":                {"A", "B"},
		"A ';' ;B \";\" ;;":        {"A ';'", "B \";\""},
		"-- about; A\nA; -- B;\nB": {"-- about; A\nA", "-- B;\nB"},
		"A 'it''s; ' X; B":         {"A 'it''s; ' X", "B"},
		"'only a string'":          {"'only a string'"},
	} {
		if diff := cmp.Diff(want, store.Statements(file)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", file, diff)
		}
	}
}

var placeholder = regexp.MustCompile(`\$[0-9]`)

func FuzzText(f *testing.F) {
	for _, seed := range []string{"SELECT $2, '$1;' -- $1;\n;$1", "\"a;\"\"b\";/*;*/$3", "'", "/*", "--", "a$1;;", "$$1$2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := store.Placeholders(text)
		if len(got) != len(text) || store.Placeholders(got) != got {
			t.Errorf("%q becomes %q", text, got)
		}
		if !strings.ContainsAny(text, "'\"-/") && strings.Count(got, "?")-strings.Count(text, "?") > len(placeholder.FindAllString(text, -1)) {
			t.Errorf("%q becomes %q", text, got)
		}
		var rest strings.Builder
		for _, s := range store.Statements(text) {
			if s == "" || !strings.Contains(text, s) {
				t.Errorf("%q has the statement %q", text, s)
			}
			rest.WriteString(s)
		}
		if rest.Len() > len(text) {
			t.Errorf("%q grows to %q", text, rest.String())
		}
	})
}
