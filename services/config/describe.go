package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

const stringKind = unstable.String

// KeyDoc is one row of the reference of a configuration file.
type KeyDoc struct {
	// Key with its tables, such as tls.listen; profile[].label in an element of a list and
	// mesh.allow.* in a table with free names.
	Key string
	// Type in words.
	Type string
	// Default as it would be written in the file; empty for tables, for lists of tables and
	// for strings and times without a default.
	Default string
	// Doc is the doc tag.
	Doc string
}

// Describe returns a row for every key of dst, a struct or pointer to one that holds the
// defaults, in the order of the fields.
func Describe(dst any) []KeyDoc {
	v := reflect.Indirect(reflect.ValueOf(dst))
	var rows []KeyDoc
	describe(v, "", &rows)
	return rows
}

func describe(v reflect.Value, prefix string, rows *[]KeyDoc) {
	for _, f := range fieldsOf(v.Type()) {
		key, value := join(prefix, f.name), v.FieldByIndex(f.index)
		*rows = append(*rows, KeyDoc{key, typeName(f.typ), literal(value), f.doc})
		inner, innerKey, ok := tableWithin(f.typ, key)
		switch {
		case !ok:
		case inner == f.typ:
			describe(value, innerKey, rows)
		default:
			element := reflect.New(inner)
			if d, ok := element.Interface().(Defaulter); ok {
				d.SetDefaults()
			}
			describe(element.Elem(), innerKey, rows)
		}
	}
}

// literal returns v as it would be written in a file.
func literal(v reflect.Value) string {
	t := v.Type()
	switch {
	case t == timeType:
		if v.IsZero() {
			return ""
		}
		return v.Interface().(time.Time).Format(time.RFC3339)
	case isScalar(t) && accepts(t, stringKind):
		if text := fmt.Sprint(v.Interface()); text != "" {
			return strconv.Quote(text)
		}
		return ""
	case isScalar(t):
		return fmt.Sprint(v.Interface())
	case t.Kind() == reflect.Slice && isScalar(t.Elem()):
		items := make([]string, v.Len())
		for i := range items {
			items[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	default:
		return ""
	}
}

// Lint returns what is wrong with the struct of dst as a configuration: exported fields
// without a toml or doc tag, names that are not lower case with underscores, names that
// stand twice, and types that Load cannot set. Every module tests its structs with it.
func Lint(dst any) []string {
	var wrong []string
	lint(reflect.Indirect(reflect.ValueOf(dst)).Type(), "", &wrong)
	return wrong
}

func lint(t reflect.Type, prefix string, wrong *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		embedded := f.Anonymous && f.Type.Kind() == reflect.Struct
		if f.IsExported() && !embedded && f.Tag.Get("toml") == "" {
			*wrong = append(*wrong, join(prefix, f.Name)+": no toml tag")
		}
	}
	seen := map[string]bool{}
	for _, f := range fieldsOf(t) {
		key := join(prefix, f.name)
		if seen[f.name] {
			*wrong = append(*wrong, key+": stands twice")
		}
		seen[f.name] = true
		if strings.Trim(f.name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			*wrong = append(*wrong, key+": not lower case with underscores")
		}
		if f.doc == "" {
			*wrong = append(*wrong, key+": no doc tag")
		}
		if !settable(f.typ) {
			*wrong = append(*wrong, fmt.Sprintf("%s: %s cannot be read from a file", key, f.typ))
		}
		if inner, innerKey, ok := tableWithin(f.typ, key); ok {
			lint(inner, innerKey, wrong)
		}
	}
}

// settable tells that Load can set a field of type t; a bare time.Duration would take a
// number of nanoseconds.
func settable(t reflect.Type) bool {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return false
	case isScalar(t), isTable(t):
		return true
	case t.Kind() == reflect.Slice:
		return settable(t.Elem())
	case t.Kind() == reflect.Map:
		return t.Key().Kind() == reflect.String && settable(t.Elem())
	default:
		return false
	}
}
