package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// check calls Check on the struct v and on every struct within it.
func check(v reflect.Value, r *Report) {
	walk(v, r.prefix, func(v reflect.Value, key string) {
		if c, ok := v.Addr().Interface().(Checker); ok {
			c.Check(r.at(key))
		}
	})
}

// resolve makes every Path and Database within v absolute.
func resolve(v reflect.Value, folder string) {
	walk(v, "", func(v reflect.Value, _ string) {
		switch v.Type() {
		case pathType:
			v.SetString(string(Path(v.String()).within(folder)))
		case databaseType:
			v.SetString(string(Database(v.String()).within(folder)))
		}
	})
}

// walk calls visit on v and on everything within it that has a key, outer before inner.
func walk(v reflect.Value, key string, visit func(v reflect.Value, key string)) {
	t := v.Type()
	visit(v, key)
	switch {
	case isScalar(t):
	case t.Kind() == reflect.Struct:
		for _, f := range fieldsOf(t) {
			walk(v.FieldByIndex(f.index), join(key, f.name), visit)
		}
	case t.Kind() == reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), fmt.Sprintf("%s[%d]", key, i), visit)
		}
	case t.Kind() == reflect.Map:
		walkMap(v, key, visit)
	}
}

// walkMap visits copies of the entries in the order of their names, and puts them back.
func walkMap(v reflect.Value, key string, visit func(v reflect.Value, key string)) {
	names := v.MapKeys()
	slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range names {
		entry := reflect.New(v.Type().Elem()).Elem()
		entry.Set(v.MapIndex(name))
		walk(entry, join(key, quoteName(name.String())), visit)
		v.SetMapIndex(name, entry)
	}
}
