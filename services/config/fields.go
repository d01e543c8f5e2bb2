package config

import (
	"fmt"
	"reflect"
	"strings"
)

// field is a key that a struct knows.
type field struct {
	name  string
	doc   string
	index []int
	typ   reflect.Type
}

// fieldsOf returns the keys of the struct type t in the order of its fields. The keys of an
// embedded struct without a tag belong to t itself; a field tagged "-" is none.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				fields = append(fields, inner)
			}
		case f.IsExported() && name != "" && name != "-":
			fields = append(fields, field{name, f.Tag.Get("doc"), []int{i}, f.Type})
		}
	}
	return fields
}

func find(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// isTable tells that t is a struct whose fields are keys.
func isTable(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isScalar(t) }

// keyNames returns every key of t and of the tables within it, with its tables; those of an
// element of a list carry "[]".
func keyNames(t reflect.Type) []string {
	var names []string
	var add func(t reflect.Type, prefix string)
	add = func(t reflect.Type, prefix string) {
		for _, f := range fieldsOf(t) {
			key := join(prefix, f.name)
			names = append(names, key)
			if inner, innerKey, ok := tableWithin(f.typ, key); ok {
				add(inner, innerKey)
			}
		}
	}
	add(t, "")
	return names
}

// tableWithin returns the struct that a field of type t at key leads to: its own, or that
// of the elements of a list or map, and the key of it.
func tableWithin(t reflect.Type, key string) (reflect.Type, string, bool) {
	for {
		switch {
		case isScalar(t):
			return nil, "", false
		case isTable(t):
			return t, key, true
		case t.Kind() == reflect.Slice:
			key += "[]"
		case t.Kind() == reflect.Map:
			key += ".*"
		default:
			return nil, "", false
		}
		t = t.Elem()
	}
}

// typeName returns what a value of t is called in reports and documentation.
func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return `a string with a unit, such as "90s"`
	case t == secondsType:
		return "a whole number of seconds"
	case t == pathType:
		return "a string naming a file or folder"
	case t == timeType:
		return "a time such as 2030-01-31T00:00:00Z, without quotation marks"
	case isScalar(t) && accepts(t, stringKind):
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case isScalar(t):
		return "a whole number"
	case t.Kind() == reflect.Slice && isTable(t.Elem()):
		return "a list of tables"
	case t.Kind() == reflect.Slice:
		return "a list, each " + typeName(t.Elem())
	default:
		return "a table"
	}
}

// unknown returns the message about a name that the table at key does not know.
func unknown(name, key string, fields []field, known []string) string {
	best, distance := "", 1+max(1, len(name)/3)
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			return fmt.Sprintf("keys are in lower case: write %q", f.name)
		}
		if d := editDistance(name, f.name); d < distance {
			best, distance = f.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("there is no such key; did you mean %q?", join(key, best))
	}
	for _, other := range known {
		if strings.HasSuffix(other, "."+name) {
			return fmt.Sprintf("there is no such key here; did you mean %q?", other)
		}
	}
	return "there is no such key"
}

// maxNearest is the longest name, in octets, for which a suggestion is looked for.
const maxNearest = 64

// editDistance returns how many insertions, deletions, replacements and swaps of
// neighbouring octets lie between a and b.
func editDistance(a, b string) int {
	if len(a) > maxNearest || len(b) > maxNearest {
		return maxNearest
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
