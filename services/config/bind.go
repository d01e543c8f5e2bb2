package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

var (
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[Duration]()
	secondsType  = reflect.TypeFor[Seconds]()
	pathType     = reflect.TypeFor[Path]()
	databaseType = reflect.TypeFor[Database]()
)

// binder moves the values of a tree into a struct.
type binder struct {
	report *Report
	known  []string // every key of the whole struct, for suggestions
}

// table sets the fields of the struct v from n, which stands at key.
func (b *binder) table(v reflect.Value, n *node, key string) {
	fields := fieldsOf(v.Type())
	for _, name := range n.names {
		child := n.table[name]
		full := join(key, quoteName(name))
		field, ok := find(fields, name)
		if !ok {
			b.report.problem(child.line, full, "%s", unknown(name, key, fields, b.known))
			continue
		}
		b.value(v.FieldByIndex(field.index), child, full)
	}
}

// value sets v from n, which stands at key.
func (b *binder) value(v reflect.Value, n *node, key string) {
	b.report.state.lines[key] = n.line
	t := v.Type()
	switch {
	case isScalar(t):
		b.scalar(v, n, key)
	case t.Kind() == reflect.Struct:
		if b.want(n, kindTable, t, key) {
			b.table(v, n, key)
		}
	case t.Kind() == reflect.Slice:
		if b.want(n, kindArray, t, key) {
			b.list(v, n, key)
		}
	case t.Kind() == reflect.Map:
		if b.want(n, kindTable, t, key) {
			b.keyed(v, n, key)
		}
	}
}

// want reports a node that is not of the kind that t needs.
func (b *binder) want(n *node, k kind, t reflect.Type, key string) bool {
	if n.kind != k {
		b.report.problem(n.line, key, "has to be %s, not %s", typeName(t), n.describe())
	}
	return n.kind == k
}

func (b *binder) list(v reflect.Value, n *node, key string) {
	list := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		element := list.Index(i)
		if d, ok := element.Addr().Interface().(Defaulter); ok {
			d.SetDefaults()
		}
		b.value(element, item, fmt.Sprintf("%s[%d]", key, i))
	}
	v.Set(list)
}

func (b *binder) keyed(v reflect.Value, n *node, key string) {
	entries := reflect.MakeMapWithSize(v.Type(), len(n.names))
	for _, name := range n.names {
		element := reflect.New(v.Type().Elem()).Elem()
		b.value(element, n.table[name], join(key, quoteName(name)))
		entries.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), element)
	}
	v.Set(entries)
}

// scalar sets v, whose type isScalar, from n.
func (b *binder) scalar(v reflect.Value, n *node, key string) {
	if n.kind != kindScalar || !accepts(v.Type(), n.scalar) {
		b.report.problem(n.line, key, "has to be %s, not %s", typeName(v.Type()), n.describe())
		return
	}
	if err := setScalar(v, n); err != nil {
		b.report.problem(n.line, key, "%s", err)
	}
}

// isScalar tells that values of t are written as one TOML value without parts.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64,
		reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return t == timeType || reflect.PointerTo(t).Implements(textType)
}

// accepts tells whether a TOML value of kind k can become a t.
func accepts(t reflect.Type, k unstable.Kind) bool {
	switch {
	case t == timeType:
		return k == unstable.DateTime
	case reflect.PointerTo(t).Implements(textType), t.Kind() == reflect.String:
		return k == unstable.String
	case t.Kind() == reflect.Bool:
		return k == unstable.Bool
	default:
		return k == unstable.Integer
	}
}

func setScalar(v reflect.Value, n *node) error {
	if v.Type() == timeType {
		at, err := time.Parse(time.RFC3339Nano, strings.ToUpper(strings.Replace(n.text, " ", "T", 1)))
		if err != nil {
			return fmt.Errorf("is not a time of RFC 3339")
		}
		v.Set(reflect.ValueOf(at))
		return nil
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return text.UnmarshalText([]byte(n.text))
	}
	switch v.Kind() {
	case reflect.String:
		if v.Type() == pathType && strings.ContainsRune(n.text, 0) {
			return fmt.Errorf("is not a path: it contains a NUL")
		}
		v.SetString(n.text)
	case reflect.Bool:
		v.SetBool(n.text == "true")
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		number, err := strconv.ParseUint(strings.TrimPrefix(n.text, "+"), 0, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("has to be between 0 and %d", ^uint64(0)>>(64-v.Type().Bits()))
		}
		v.SetUint(number)
	default:
		number, err := strconv.ParseInt(n.text, 0, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("is too large a number")
		}
		if v.Type() == secondsType && (number < 0 || Seconds(number) > maxSeconds) {
			return fmt.Errorf("has to be between 0 and %d", maxSeconds)
		}
		v.SetInt(number)
	}
	return nil
}

// describe says what a node is, for a report about its type.
func (n *node) describe() string {
	switch {
	case n.kind == kindTable:
		return "a table"
	case n.kind == kindArray:
		return "a list"
	case n.scalar == unstable.String:
		return "a string"
	case n.scalar == unstable.Bool:
		return n.text
	case n.scalar == unstable.Integer:
		return "the bare number " + n.text
	case n.scalar == unstable.Float:
		return "the fraction " + n.text
	default:
		return "a date or time"
	}
}
