package ipatest

import (
	"errors"
	"slices"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// The kinds of filters, by their context tags (RFC 4511 section 4.5.1).
const (
	opAnd        ber.Tag = 0
	opOr         ber.Tag = 1
	opNot        ber.Tag = 2
	opEqual      ber.Tag = 3
	opSubstrings ber.Tag = 4
	opGreater    ber.Tag = 5
	opLess       ber.Tag = 6
	opPresent    ber.Tag = 7
	opApprox     ber.Tag = 8
	opExtensible ber.Tag = 9
)

// maxFilterDepth is how deep filters may be nested.
const maxFilterDepth = 50

// filter is a search filter.
type filter struct {
	op        ber.Tag
	attribute string // lower case
	value     string
	pieces    []piece
	kids      []*filter
}

// piece is a part of a substring filter: initial (0), any (1) or final (2).
type piece struct {
	tag   ber.Tag
	value string
}

var errFilter = errors.New("filter is malformed")

// parseFilter turns a filter as it comes into one that can be evaluated.
func parseFilter(p *ber.Packet, depth int) (*filter, error) {
	if p.ClassType != ber.ClassContext || depth > maxFilterDepth {
		return nil, errFilter
	}
	f := &filter{op: p.Tag}
	switch p.Tag {
	case opAnd, opOr, opNot:
		if p.Tag == opNot && len(p.Children) != 1 {
			return nil, errFilter
		}
		for _, child := range p.Children {
			kid, err := parseFilter(child, depth+1)
			if err != nil {
				return nil, err
			}
			f.kids = append(f.kids, kid)
		}
	case opEqual, opGreater, opLess, opApprox:
		if len(p.Children) != 2 {
			return nil, errFilter
		}
		f.attribute, f.value = strings.ToLower(text(p.Children[0])), text(p.Children[1])
		if p.Tag == opApprox {
			f.op = opEqual
		}
	case opSubstrings:
		return f, f.substrings(p)
	case opPresent:
		f.attribute = strings.ToLower(text(p))
	case opExtensible:
		// No rule is known: undefined.
	default:
		return nil, errFilter
	}
	return f, nil
}

func (f *filter) substrings(p *ber.Packet) error {
	if len(p.Children) != 2 || len(p.Children[1].Children) == 0 {
		return errFilter
	}
	f.attribute = strings.ToLower(text(p.Children[0]))
	last := len(p.Children[1].Children) - 1
	for i, child := range p.Children[1].Children {
		if child.Tag > 2 || child.Tag == 0 && i != 0 || child.Tag == 2 && i != last {
			return errFilter
		}
		f.pieces = append(f.pieces, piece{child.Tag, text(child)})
	}
	return nil
}

// truth is the outcome of a filter; ordered, so that and is the least and or the greatest.
type truth int

const (
	no truth = iota
	undefined
	yes
)

// matches evaluates a filter (RFC 4511 section 4.5.1.7). What may not be read is undefined.
func (f *filter) matches(e *entry, readable func(attribute string) bool) truth {
	switch f.op {
	case opAnd, opOr:
		all := make([]truth, 0, 4)
		for _, kid := range f.kids {
			all = append(all, kid.matches(e, readable))
		}
		if f.op == opAnd {
			return slices.Min(append(all, yes))
		}
		return slices.Max(append(all, no))
	case opNot:
		return yes - f.kids[0].matches(e, readable)
	case opExtensible:
		return undefined
	}
	if !readable(f.attribute) {
		return undefined
	}
	if slices.ContainsFunc(e.values[f.attribute], f.holds) {
		return yes
	}
	return no
}

// holds evaluates an item of a filter for one value.
func (f *filter) holds(value string) bool {
	switch f.op {
	case opPresent:
		return true
	case opGreater:
		return compare(f.attribute, value, f.value) >= 0
	case opLess:
		return compare(f.attribute, value, f.value) <= 0
	case opSubstrings:
		return f.contains(value)
	}
	return normal(f.attribute, value) == normal(f.attribute, f.value)
}

func (f *filter) contains(value string) bool {
	rest := normal(f.attribute, value)
	for _, p := range f.pieces {
		want := p.value
		if syntaxOf(f.attribute) != exactCase {
			want = strings.ToLower(want)
		}
		switch at := strings.Index(rest, want); {
		case p.tag == 0 && !strings.HasPrefix(rest, want), p.tag == 2 && !strings.HasSuffix(rest, want), at < 0:
			return false
		default:
			rest = rest[at+len(want):]
		}
	}
	return true
}
