package ipatest

import "bufio"

// HOTP is the computation of a code.
var HOTP = hotp

// NormalDN is the form in which DNs are compared.
func NormalDN(dn string) (string, error) {
	key, _, err := normalDN(dn)
	return key, err
}

// Parse reads one message and, when it is a search, all of it.
func Parse(r *bufio.Reader) error {
	data, err := readMessage(r)
	if err != nil {
		return err
	}
	m, err := parseMessage(data)
	if err != nil || m.op.Tag != opSearch {
		return err
	}
	q, err := parseQuery(m.op)
	if err != nil {
		return err
	}
	q.filter.matches(&entry{values: map[string][]string{"uid": {"alice"}}}, func(string) bool { return true })
	return nil
}
