package store

import (
	"strings"
	"sync"
)

// quoted returns the end of the string, quoted identifier or comment that begins at s[i],
// or i when none begins there. A doubled quote inside a string reads as two strings, which
// comes to the same.
func quoted(s string, i int) int {
	end := func(from int, closing string) int {
		if n := strings.Index(s[from:], closing); n >= 0 {
			return from + n + len(closing)
		}
		return len(s)
	}
	switch rest := s[i:]; {
	case rest[0] == '\'' || rest[0] == '"':
		return end(i+1, rest[:1])
	case strings.HasPrefix(rest, "--"):
		return end(i+2, "\n")
	case strings.HasPrefix(rest, "/*"):
		return end(i+2, "*/")
	}
	return i
}

// statements splits a migration file at the semicolons outside of strings and comments.
// What is only comment and white space is left out.
func statements(file string) []string {
	var all []string
	start, code := 0, false
	cut := func(end int) {
		if code {
			all = append(all, strings.Trim(file[start:end], " \t\r\n"))
		}
		start, code = end+1, false
	}
	for i := 0; i < len(file); i++ {
		if end := quoted(file, i); end > i {
			code = code || file[i] == '\'' || file[i] == '"'
			i = end - 1
			continue
		}
		switch file[i] {
		case ';':
			cut(i)
		case ' ', '\t', '\r', '\n':
		default:
			code = true
		}
	}
	cut(len(file))
	return all
}

// placeholders writes $n as ?n. SQLite takes $1 for a name and numbers names by their
// first appearance, so "$2 … $1" would swap the arguments.
func placeholders(query string) string {
	var b strings.Builder
	b.Grow(len(query))
	for i := 0; i < len(query); i++ {
		if end := quoted(query, i); end > i {
			b.WriteString(query[i:end])
			i = end - 1
			continue
		}
		c := query[i]
		if c == '$' && i+1 < len(query) && digit(query[i+1]) && (i == 0 || !word(query[i-1])) {
			c = '?'
		}
		b.WriteByte(c)
	}
	return b.String()
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func word(c byte) bool {
	return digit(c) || c == '_' || c == '$' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

// maxRewritten bounds the texts that are remembered: a program has some dozens, and one
// that builds its statements must not fill the memory.
const maxRewritten = 1024

// rewriter remembers the texts that placeholders has made.
type rewriter struct {
	mu   sync.RWMutex
	seen map[string]string // guarded by mu
}

func (r *rewriter) rewrite(query string) string {
	r.mu.RLock()
	text, ok := r.seen[query]
	r.mu.RUnlock()
	if ok {
		return text
	}
	text = placeholders(query)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = make(map[string]string)
	}
	if len(r.seen) < maxRewritten {
		r.seen[query] = text
	}
	return text
}
