package otpd_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// query is a request by hand, as krb5's libkrad makes it.
type query struct {
	code, id byte
	auth     [16]byte
	user     string
	password string
	signed   bool
	extra    []byte
}

func ask(id byte, user, password string) query {
	q := query{code: 1, id: id, user: user, password: password}
	_, _ = rand.Read(q.auth[:])
	return q
}

func attribute(kind byte, value []byte) []byte {
	return append([]byte{kind, byte(2 + len(value))}, value...)
}

func (q query) octets() []byte {
	b := append([]byte{q.code, q.id, 0, 0}, q.auth[:]...)
	if q.signed {
		b = append(b, attribute(80, make([]byte, 16))...)
	}
	if q.user != "" {
		b = append(b, attribute(1, []byte(q.user))...)
	}
	if q.password != "" {
		hidden := make([]byte, (len(q.password)+15)/16*16)
		copy(hidden, q.password)
		previous := q.auth[:]
		for at := 0; at < len(hidden); at += 16 {
			mask := md5.Sum(previous)
			for i := range mask {
				hidden[at+i] ^= mask[i]
			}
			previous = hidden[at : at+16]
		}
		b = append(b, attribute(2, hidden)...)
	}
	b = append(b, q.extra...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if q.signed {
		m := hmac.New(md5.New, nil)
		m.Write(b)
		copy(b[22:], m.Sum(nil))
	}
	return b
}

// receive reads one answer and checks it as a KDC does.
func receive(t *testing.T, conn net.Conn, all map[byte]query) (id, code byte) {
	t.Helper()
	b := make([]byte, 4096)
	if _, err := io.ReadFull(conn, b[:20]); err != nil {
		t.Fatal(err)
	}
	b = b[:binary.BigEndian.Uint16(b[2:])]
	if _, err := io.ReadFull(conn, b[20:]); err != nil {
		t.Fatal(err)
	}
	q, ok := all[b[1]]
	if !ok {
		t.Fatalf("an answer to %d, which was not asked", b[1])
	}
	said := bytes.Clone(b[4:20])
	copy(b[4:], q.auth[:])
	if sum := md5.Sum(b); !bytes.Equal(sum[:], said) {
		t.Errorf("answer %d: not authentic", b[1])
	}
	if q.signed != (len(b) == 38 && b[20] == 80) {
		t.Errorf("answer %d: %d octets", b[1], len(b))
	} else if q.signed {
		mac := bytes.Clone(b[22:38])
		clear(b[22:38])
		m := hmac.New(md5.New, nil)
		m.Write(b)
		if !hmac.Equal(mac, m.Sum(nil)) {
			t.Errorf("answer %d: bad Message-Authenticator", b[1])
		}
	}
	return b[1], b[0]
}

func exchange(t *testing.T, conn net.Conn, q query) byte {
	t.Helper()
	if _, err := conn.Write(q.octets()); err != nil {
		t.Fatal(err)
	}
	_, code := receive(t, conn, map[byte]query{q.id: q})
	return code
}

const (
	accepted = 2
	rejected = 3
)
