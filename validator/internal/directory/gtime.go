package directory

import (
	"errors"
	"time"
)

var errTime = errors.New("not a generalized time after 1970")

// parseTime reads a GeneralizedTime (RFC 4517 section 3.3.13): year, month, day and hour, then
// as far as given minutes, seconds and a fraction, then "Z" or the distance from it. Times
// before 1970 are refused: none is meant in earnest, and the zero time means "never" here.
func parseTime(text string) (time.Time, error) {
	s := scanner{rest: text}
	year, month, day, hour := s.number(4), s.number(2), s.number(2), s.number(2)
	unit, minute, second := time.Hour, 0, 0
	if s.digit() {
		unit, minute = time.Minute, s.number(2)
		if s.digit() {
			unit, second = time.Second, s.number(2)
		}
	}
	part := s.fraction(unit)
	offset := s.zone()
	if s.bad || s.rest != "" || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, errTime
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if day < 1 || t.Day() != day {
		return time.Time{}, errTime // 30 February
	}
	t = t.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + part - offset)
	if t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, errTime
	}
	return t, nil
}

// scanner reads a text from its front. Once bad, it stays so.
type scanner struct {
	rest string
	bad  bool
}

func (s *scanner) digit() bool {
	return s.rest != "" && s.rest[0] >= '0' && s.rest[0] <= '9'
}

// number reads n digits.
func (s *scanner) number(n int) (value int) {
	for range n {
		if !s.digit() {
			s.bad = true
			return 0
		}
		value = 10*value + int(s.rest[0]-'0')
		s.rest = s.rest[1:]
	}
	return value
}

// fraction reads what may stand behind a dot or comma, in parts of unit.
func (s *scanner) fraction(unit time.Duration) (part time.Duration) {
	if s.rest == "" || s.rest[0] != '.' && s.rest[0] != ',' {
		return 0
	}
	s.rest = s.rest[1:]
	s.bad = s.bad || !s.digit()
	for s.digit() {
		unit /= 10
		part += time.Duration(s.number(1)) * unit
	}
	return part
}

// zone reads "Z", "+hh", "+hhmm" or the same with "-".
func (s *scanner) zone() time.Duration {
	if s.rest == "" {
		s.bad = true
		return 0
	}
	sign := time.Duration(1)
	first := s.rest[0]
	s.rest = s.rest[1:]
	switch first {
	case 'Z':
		return 0
	case '-':
		sign = -1
	case '+':
	default:
		s.bad = true
		return 0
	}
	hours, minutes := s.number(2), 0
	if s.digit() {
		minutes = s.number(2)
	}
	s.bad = s.bad || hours > 23 || minutes > 59
	return sign * (time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute)
}
