// Package systest holds the tests of the whole: stories that run the real binaries, and
// what has to hold across modules.
package systest
