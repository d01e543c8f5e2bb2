//go:build failpoint

package failpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parse reads a list such as "signer.signed=kill@3,gateway.reply=sleep:2s". The empty list
// is one; a point that does not exist is an error, for nothing would ever pass it.
func parse(list string) ([]*rule, error) {
	if list == "" {
		return nil, nil
	}
	var rules []*rule
	for element := range strings.SplitSeq(list, ",") {
		r, err := parseRule(element)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", element, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// parseRule reads POINT=ACTION or POINT=ACTION@N.
func parseRule(element string) (*rule, error) {
	name, what, found := strings.Cut(element, "=")
	if !found {
		return nil, fmt.Errorf("not of the form POINT=ACTION or POINT=ACTION@N")
	}
	r := &rule{point: Point(name), at: 1}
	if !slices.Contains(Points(), r.point) {
		return nil, fmt.Errorf("there is no point %q", name)
	}
	what, pass, numbered := strings.Cut(what, "@")
	if numbered {
		n, err := strconv.ParseInt(pass, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not the number of a pass, from 1", pass)
		}
		r.at = n
	}
	var pause string
	r.action, pause, _ = strings.Cut(what, ":")
	switch {
	case what == "kill" || what == "stop":
		return r, nil
	case r.action == "sleep":
		d, err := time.ParseDuration(pause)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("%q is not a time to sleep", pause)
		}
		r.pause = d
		return r, nil
	}
	return nil, fmt.Errorf("%q is none of kill, stop and sleep:DURATION", what)
}
