package config

import (
	"bytes"
	"errors"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a node of the tree holds.
type kind uint8

const (
	kindScalar kind = iota
	kindTable
	kindArray
)

// node is a value of the file with its place. The decoder of the library keeps no places,
// takes keys in any case and ends at the first wrong type; so its parser is used directly.
type node struct {
	kind   kind
	scalar unstable.Kind // of a scalar
	text   string        // of a scalar, strings decoded, everything else as written
	line   int
	names  []string // of a table, in the order of the file
	table  map[string]*node
	items  []*node // of an array
	// header is set on what a [table] or [[table]] header made; extended by dotted keys or
	// inline, a table is closed for headers.
	header bool
}

func newTable(line int) *node {
	return &node{kind: kindTable, line: line, table: map[string]*node{}}
}

func (n *node) set(name string, child *node) {
	n.names = append(n.names, name)
	n.table[name] = child
}

// builder makes a tree of the expressions of a file.
type builder struct {
	parser   unstable.Parser
	report   *Report
	newlines []int // offsets
	root     *node
	current  *node    // table of the last header; nil when that header was refused
	path     []string // of current
}

// buildTree returns the tables of data, or nil when it is not TOML. Keys that stand twice
// are reported, and the first one is kept.
func buildTree(data []byte, r *Report) *node {
	b := &builder{report: r, root: newTable(1)}
	for i, c := range data {
		if c == '\n' {
			b.newlines = append(b.newlines, i)
		}
	}
	b.current = b.root
	b.parser.Reset(data)
	for b.parser.NextExpression() {
		b.expression(b.parser.Expression())
	}
	if b.parser.Error() == nil && len(r.state.problems) > 0 {
		return b.root
	}
	// The decoder knows the rules of TOML that the parser leaves to it.
	var discard map[string]any
	err := toml.NewDecoder(bytes.NewReader(data)).Decode(&discard)
	if err == nil {
		return b.root
	}
	line, message := 1, err.Error()
	if at := (*toml.DecodeError)(nil); errors.As(err, &at) {
		line, _ = at.Position()
	}
	r.problem(line, "", "this is not TOML: %s", strings.TrimPrefix(message, "toml: "))
	return nil
}

func (b *builder) expression(e *unstable.Node) {
	switch e.Kind {
	case unstable.Table, unstable.ArrayTable:
		b.header(e)
	case unstable.KeyValue:
		if b.current != nil {
			b.keyValue(b.current, b.path, e)
		}
	}
}

// header opens the table of a [table] or [[table]] line.
func (b *builder) header(e *unstable.Node) {
	names, line := b.keys(e)
	b.current, b.path = nil, names
	parent := b.root
	for i, name := range names[:len(names)-1] {
		child := parent.table[name]
		if child == nil {
			child = newTable(line)
			parent.set(name, child)
		}
		if child.kind == kindArray && child.header {
			child = child.items[len(child.items)-1]
		}
		if child.kind != kindTable {
			b.report.problem(line, quoted(names), "%s is a value already, on line %d", quoted(names[:i+1]), child.line)
			return
		}
		parent = child
	}
	last := names[len(names)-1]
	found := parent.table[last]
	if e.Kind == unstable.ArrayTable {
		b.current = b.element(parent, last, found, line)
	} else {
		b.current = b.open(parent, last, found, line)
	}
	if b.current == nil {
		b.report.problem(line, quoted(names), "stands twice: the first is on line %d", found.line)
	}
}

// open returns the table of a [table] header, nil when it exists already.
func (b *builder) open(parent *node, name string, found *node, line int) *node {
	switch {
	case found == nil:
		found = newTable(line)
		parent.set(name, found)
	case found.kind != kindTable || found.header:
		return nil
	}
	found.header, found.line = true, line
	return found
}

// element returns the new table of a [[table]] header, nil when the name is something else.
func (b *builder) element(parent *node, name string, found *node, line int) *node {
	switch {
	case found == nil:
		found = &node{kind: kindArray, line: line, header: true}
		parent.set(name, found)
	case found.kind != kindArray || !found.header:
		return nil
	}
	item := newTable(line)
	item.header = true
	found.items = append(found.items, item)
	return item
}

// keyValue adds a key with its value to table, whose path is given for reports.
func (b *builder) keyValue(table *node, path []string, e *unstable.Node) {
	names, line := b.keys(e)
	for i, name := range names {
		found := table.table[name]
		last := i == len(names)-1
		switch {
		case last && found == nil:
			table.set(name, b.value(e.Value(), line))
			return
		case last || found != nil && found.kind != kindTable:
			if !b.report.full() {
				b.report.problem(line, quoted(append(path[:len(path):len(path)], names[:i+1]...)),
					"stands twice: the first is on line %d", found.line)
			}
			return
		case found == nil:
			found = newTable(line)
			table.set(name, found)
		}
		table = found
	}
}

// value returns the node of a value that stands on or behind line.
func (b *builder) value(v *unstable.Node, line int) *node {
	if v.Raw.Length > 0 {
		line = b.line(v.Raw)
	}
	switch v.Kind {
	case unstable.Array:
		list := &node{kind: kindArray, line: line}
		for it := v.Children(); it.Next(); {
			list.items = append(list.items, b.value(it.Node(), line))
		}
		return list
	case unstable.InlineTable:
		table := newTable(line)
		for it := v.Children(); it.Next(); {
			b.keyValue(table, nil, it.Node())
		}
		table.header = true
		return table
	default:
		return &node{kind: kindScalar, scalar: v.Kind, text: string(v.Data), line: line}
	}
}

// keys returns the parts of an expression's key and its line.
func (b *builder) keys(e *unstable.Node) ([]string, int) {
	var names []string
	line := 0
	for it := e.Key(); it.Next(); {
		if line == 0 {
			line = b.line(it.Node().Raw)
		}
		names = append(names, string(it.Node().Data))
	}
	return names, line
}

func (b *builder) line(r unstable.Range) int {
	return 1 + sort.SearchInts(b.newlines, int(r.Offset))
}

// quoted returns names as a dotted key.
func quoted(names []string) string {
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = quoteName(name)
	}
	return strings.Join(parts, ".")
}

// quoteName returns a part of a key as TOML writes it.
func quoteName(name string) string {
	bare := func(c rune) bool {
		return c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	if name != "" && strings.TrimFunc(name, bare) == "" {
		return name
	}
	return strconv.Quote(name)
}
