package config

import (
	"fmt"
	"slices"
	"strings"
)

// maxProblems is how many problems a report keeps.
const maxProblems = 100

// Problem is one thing that is wrong with a file.
type Problem struct {
	// File as it was given to Load.
	File string
	// Line in it, from 1: that of the key, or of the nearest table around a missing one.
	Line int
	// Key with its tables, such as profile[0].label; empty for a problem of the whole file.
	Key string
	// Message is a sentence about the key.
	Message string
}

// String returns "FILE:LINE: key: message".
func (p Problem) String() string {
	if p.Key == "" {
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Key, p.Message)
}

// Report holds every problem of one file. It is the error of Load, and what a Checker adds
// to. It is used by one goroutine.
type Report struct {
	state  *state
	prefix string
}

// state is what the reports of one file share, whatever their prefix.
type state struct {
	file     string
	problems []Problem
	lines    map[string]int  // of every key in the file that the struct knows
	broken   map[string]bool // keys with a problem
}

func newReport(file string) *Report {
	return &Report{state: &state{file: file, lines: map[string]int{}, broken: map[string]bool{}}}
}

// Add records that the value of key breaks a rule. The key is relative to the struct whose
// Check was called; an empty key means that struct as a whole. The message is a sentence
// without the key, such as "has to be between 16 and 64". What is said of a key whose value,
// or whose table, could not be read is dropped: the first cause is reported already.
func (r *Report) Add(key, format string, args ...any) {
	full := join(r.prefix, key)
	if key == "" {
		full = r.prefix
	}
	for k := full; k != ""; k = parent(k) {
		if r.state.broken[k] {
			return
		}
	}
	r.keep(r.lineOf(full), full, fmt.Sprintf(format, args...))
}

// Problems returns what was found, in the order of the lines.
func (r *Report) Problems() []Problem {
	found := slices.Clone(r.state.problems)
	slices.SortStableFunc(found, func(a, b Problem) int { return a.Line - b.Line })
	return found
}

// Error returns every problem on a line of its own.
func (r *Report) Error() string {
	var b strings.Builder
	for i, p := range r.Problems() {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	if len(r.state.problems) == maxProblems {
		b.WriteString("\nthere may be more: the rest is not shown")
	}
	return b.String()
}

// problem records what is wrong with the text of the file; key is complete.
func (r *Report) problem(line int, key, format string, args ...any) {
	r.keep(line, key, fmt.Sprintf(format, args...))
	r.state.broken[key] = true
}

func (r *Report) keep(line int, key, message string) {
	if !r.full() {
		r.state.problems = append(r.state.problems, Problem{r.state.file, line, key, message})
	}
}

// full tells that more problems would not be kept.
func (r *Report) full() bool { return len(r.state.problems) >= maxProblems }

// at returns a view of r for the struct at key.
func (r *Report) at(key string) *Report { return &Report{state: r.state, prefix: key} }

// lineOf returns the line of key, or of the nearest table around it that is in the file.
func (r *Report) lineOf(key string) int {
	for ; key != ""; key = parent(key) {
		if line, ok := r.state.lines[key]; ok {
			return line
		}
	}
	return 1
}

// parent returns the key of what is around key. A quoted part with dots in it takes several
// steps, through keys that do not exist.
func parent(key string) string { return key[:max(strings.LastIndexAny(key, ".["), 0)] }

// join returns the key of name within the table at prefix.
func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}
