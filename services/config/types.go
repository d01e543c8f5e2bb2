package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written as a string of whole numbers with units, from the
// largest down: "90d", "1h30m", "250ms". A day has 24 hours.
type Duration time.Duration

// durationUnits are the units of a Duration, the largest first.
var durationUnits = []struct {
	name string
	size time.Duration
}{
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
}

var errDuration = errors.New(`has to be whole numbers with units from d, h, m, s and ms, such as "90d" or "1h30m"`)

// UnmarshalText reads what String prints.
func (d *Duration) UnmarshalText(text []byte) error {
	rest, total, next := string(text), time.Duration(0), 0
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		letters := len(rest[digits:]) - len(strings.TrimLeft(rest[digits:], "dhms"))
		number, err := strconv.ParseInt(rest[:digits], 10, 64)
		unit := unitIndex(rest[digits:digits+letters], next)
		if err != nil || unit < 0 {
			return errDuration
		}
		size := durationUnits[unit].size
		if number > int64((math.MaxInt64-total)/size) {
			return errors.New("is longer than 292 years")
		}
		total += time.Duration(number) * size
		rest, next = rest[digits+letters:], unit+1
	}
	if next == 0 {
		return errDuration
	}
	*d = Duration(total)
	return nil
}

// unitIndex returns where name stands in durationUnits from index first on, or -1.
func unitIndex(name string, first int) int {
	for i := first; i < len(durationUnits); i++ {
		if durationUnits[i].name == name {
			return i
		}
	}
	return -1
}

// String returns the duration as it is written in a file; what is below a millisecond is
// left out.
func (d Duration) String() string {
	rest := time.Duration(d)
	if rest < 0 {
		return "-" + Duration(-rest).String()
	}
	var b strings.Builder
	for _, u := range durationUnits {
		if n := rest / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			rest -= n * u.size
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// Seconds is a length of time, written as a whole number of seconds. It is for the keys of
// an established vocabulary only; every other length of time is a Duration.
type Seconds int64

// Duration returns the length of time.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// maxSeconds is what fits into a time.Duration.
const maxSeconds = Seconds(math.MaxInt64 / int64(time.Second))

// Path is the name of a file or folder. A relative one is resolved by Load against the
// folder of the configuration file; an empty one stays empty.
type Path string

// Database is where a store lives: "sqlite:PATH", the path resolved like a Path, or
// "postgres://…".
type Database string

const sqlitePrefix = "sqlite:"

// UnmarshalText refuses every other scheme.
func (d *Database) UnmarshalText(text []byte) error {
	value := string(text)
	path, sqlite := strings.CutPrefix(value, sqlitePrefix)
	switch {
	case sqlite && path == "":
		return errors.New(`names no file behind "sqlite:"`)
	case !sqlite && !strings.HasPrefix(value, "postgres://") && !strings.HasPrefix(value, "postgresql://"):
		return errors.New(`has to begin with "sqlite:" or "postgres://"`)
	}
	*d = Database(value)
	return nil
}

// within returns the path resolved against folder.
func (p Path) within(folder string) Path {
	if p == "" || filepath.IsAbs(string(p)) {
		return p
	}
	return Path(filepath.Join(folder, string(p)))
}

// within returns the database with the path of its file resolved against folder.
func (d Database) within(folder string) Database {
	path, sqlite := strings.CutPrefix(string(d), sqlitePrefix)
	if !sqlite {
		return d
	}
	return sqlitePrefix + Database(Path(path).within(folder))
}
