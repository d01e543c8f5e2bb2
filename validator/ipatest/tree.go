package ipatest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// entry is one entry of the tree. The tree's lock guards it.
type entry struct {
	dn, key, parent string
	names           []string            // of the attributes, as they were written first
	values          map[string][]string // by name in lower case
}

// get returns the values of an attribute.
func (e *entry) get(attribute string) []string { return e.values[strings.ToLower(attribute)] }

// first returns the first value of an attribute, or nothing.
func (e *entry) first(attribute string) string {
	if v := e.get(attribute); len(v) != 0 {
		return v[0]
	}
	return ""
}

// is tells whether the entry has an object class.
func (e *entry) is(class string) bool {
	return slices.ContainsFunc(e.get("objectClass"), func(c string) bool { return strings.EqualFold(c, class) })
}

// below tells whether the entry is the one with that key, or under it.
func (e *entry) below(key string) bool {
	return e.key == key || strings.HasSuffix(e.key, ","+key)
}

// attribute is a name and its values.
type attribute struct {
	name   string
	values []string
}

// tree holds entries. Whoever calls a method of it holds its lock.
type tree struct {
	mu      sync.RWMutex
	entries map[string]*entry              // by key
	order   []*entry                       // in the order in which they were added
	index   map[string]map[string][]*entry // by attribute and normal value
}

func newTree() *tree {
	t := &tree{entries: map[string]*entry{}, index: map[string]map[string][]*entry{}}
	for _, a := range []string{"krbprincipalname", "uid", "fqdn", "ipatokenowner"} {
		t.index[a] = map[string][]*entry{}
	}
	return t
}

// put adds an entry, or replaces the attributes of the one that is there.
func (t *tree) put(dn string, attributes []attribute) (*entry, error) {
	key, parent, err := normalDN(dn)
	if err != nil {
		return nil, err
	}
	e := t.entries[key]
	if e == nil {
		e = &entry{key: key, parent: parent, values: map[string][]string{}}
		t.entries[key] = e
		t.order = append(t.order, e)
	}
	e.dn = dn
	for _, name := range slices.Clone(e.names) {
		t.set(e, name)
	}
	for _, a := range attributes {
		t.set(e, a.name, a.values...)
	}
	return e, nil
}

// find returns the entry with a DN.
func (t *tree) find(dn string) (*entry, error) {
	key, _, err := normalDN(dn)
	if err != nil {
		return nil, err
	}
	e := t.entries[key]
	if e == nil {
		return nil, fmt.Errorf("no entry %.200q", dn)
	}
	return e, nil
}

// remove takes an entry out.
func (t *tree) remove(e *entry) {
	for _, name := range slices.Clone(e.names) {
		t.set(e, name)
	}
	delete(t.entries, e.key)
	t.order = slices.DeleteFunc(t.order, func(o *entry) bool { return o == e })
}

// set replaces the values of an attribute. Empty values are left out; none at all removes it.
func (t *tree) set(e *entry, name string, values ...string) {
	a := strings.ToLower(name)
	values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
	t.unindex(e, a)
	if len(values) == 0 {
		delete(e.values, a)
		e.names = slices.DeleteFunc(e.names, func(n string) bool { return strings.EqualFold(n, name) })
		return
	}
	if _, known := e.values[a]; !known {
		e.names = append(e.names, name)
	}
	e.values[a] = values
	if byValue, indexed := t.index[a]; indexed {
		for _, v := range values {
			n := normal(a, v)
			byValue[n] = append(byValue[n], e)
		}
	}
}

// add appends a value to an attribute, unless it is there.
func (t *tree) add(e *entry, name, value string) {
	a := strings.ToLower(name)
	n := normal(a, value)
	if slices.ContainsFunc(e.values[a], func(v string) bool { return normal(a, v) == n }) {
		return
	}
	t.set(e, name, append(slices.Clone(e.values[a]), value)...)
}

func (t *tree) unindex(e *entry, a string) {
	byValue, indexed := t.index[a]
	if !indexed {
		return
	}
	for _, v := range e.values[a] {
		n := normal(a, v)
		byValue[n] = slices.DeleteFunc(byValue[n], func(o *entry) bool { return o == e })
		if len(byValue[n]) == 0 {
			delete(byValue, n)
		}
	}
}

// candidates returns the entries that a filter can match at all.
func (t *tree) candidates(f *filter) []*entry {
	if f.op == opEqual {
		if byValue, indexed := t.index[f.attribute]; indexed {
			return byValue[normal(f.attribute, f.value)]
		}
	}
	if f.op == opAnd {
		for _, kid := range f.kids {
			if kid.op == opEqual && t.index[kid.attribute] != nil {
				return t.candidates(kid)
			}
		}
	}
	return t.order
}
