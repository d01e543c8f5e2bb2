// Package config turns a TOML file into a checked configuration struct.
//
// The commands of every service call Load once, before anything else is opened. It is
// strict: every unknown, misspelt or repeated key, every value of a wrong type and every
// broken rule is reported in one go, each with file, line and key. The structs themselves
// belong to the services; Describe turns them into the reference in docs/config.md.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"unicode/utf8"
)

// MaxFile is the largest configuration file that is read, in octets.
const MaxFile = 256 << 10

// Checker is implemented by a configuration struct with rules of its own. Load calls Check
// on dst and on every struct within it, elements of lists included, once all values are set;
// the keys given to Report.Add are relative to the struct. The Check of an embedded struct
// has to be called by the one around it if that has a Check too.
type Checker interface {
	Check(r *Report)
}

// Defaulter is implemented by a pointer to the element type of a list of tables whose keys
// have defaults. Load calls SetDefaults on each new element before it sets what the file says.
type Defaulter interface {
	SetDefaults()
}

// Load reads the TOML file at path into dst, a pointer to a struct that holds the defaults.
// A list or a map in the file replaces the default as a whole. Relative values of type Path
// and Database, defaults included, are resolved against the folder of the file.
//
// The error is a *Report when the file was read and is wrong, and names the file when it
// could not be read. dst is then partly set and must not be used.
func Load(path string, dst any) error {
	data, err := readFile(path)
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	return parse(path, folder, data, dst)
}

// parse is Load behind the file system: file is what problems are reported under.
func parse(file, folder string, data []byte, dst any) error {
	target := reflect.ValueOf(dst)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("loading %s: a configuration is a pointer to a struct, not %T", file, dst)
	}
	r := newReport(file)
	if !utf8.Valid(data) {
		r.problem(invalidLine(data), "", "the file is not UTF-8")
		return r
	}
	root := buildTree(data, r)
	if root == nil {
		return r
	}
	b := binder{report: r, known: keyNames(target.Type().Elem())}
	b.table(target.Elem(), root, "")
	resolve(target.Elem(), folder)
	check(target.Elem(), r)
	if len(r.state.problems) > 0 {
		return r
	}
	return nil
}

// readFile returns the content of the regular file at path.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such file", path)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s: larger than %d octets", path, MaxFile)
	}
	return data, nil
}

// invalidLine returns the line of the first octet that is not UTF-8.
func invalidLine(data []byte) int {
	line := 1
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		if c == utf8.RuneError && size == 1 {
			break
		}
		if c == '\n' {
			line++
		}
		data = data[size:]
	}
	return line
}
